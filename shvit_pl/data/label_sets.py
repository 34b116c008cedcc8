"""Images with any number of labels: columns of lists, one column per class, and texts with separators.

All become one column of lists of class indices, `List(ClassLabel)`.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value
from numpy.typing import NDArray

from shvit_pl.data.config import DataConfig
from shvit_pl.errors import UserError, did_you_mean, first_names

Matrix = NDArray[np.bool_]
"""Labels of rows by class, `(rows, classes)`."""
_FLAG = "data.label_column"
_LEAST = 2  # columns
_YES_NO = {0: False, 1: True, "true": True, "false": False}
_NAMES = ("string", "large_string", "string_view")
SEPARATORS = ("|", ";", ",")


def is_list(feature: Any) -> bool:
    """Return whether a column holds lists of labels."""
    return isinstance(feature, List) and isinstance(feature.feature, ClassLabel | Value)


# ---- other forms become lists


def as_lists(splits: DatasetDict, image: str, config: DataConfig) -> tuple[DatasetDict, DataConfig]:
    """Make one column of lists of columns of classes, or of texts with separators; all else stays as it is.

    Returns the splits, and the settings with the name of that column. Raises `UserError` for columns that aren't there,
    and values that aren't yes or no.
    """
    features = next(iter(splits.values())).features
    columns = columns_of_classes(features, image, config.label_column)
    if columns:
        joined = {name: _joined(name, rows, columns) for name, rows in splits.items()}
        return DatasetDict(joined), replace(config, label_column=columns[0])
    if config.label_separator is None:
        return splits, config
    column = config.label_column or _only_text(features, image)
    parted = {name: _parted(rows, str(column), config.label_separator) for name, rows in splits.items()}
    return DatasetDict(parted), replace(config, label_column=column)


def columns_of_classes(features: Features, image: str, wanted: str | list[str] | None) -> list[str]:
    """Return the columns that a list or a pattern names; none for the name of one column.

    Raises `UserError` for columns that aren't there, fewer than two, and one that is named twice.
    """
    if wanted is None or (isinstance(wanted, str) and (wanted in features or not set(wanted) & set("*?["))):
        return []
    if isinstance(wanted, str):
        found = [name for name in features if name != image and fnmatchcase(name, wanted)]
    else:
        found = wanted
        for name in found:
            if name not in features:
                hint = did_you_mean(name, features)
                raise UserError(
                    f"{_FLAG} {name!r}: no such column{hint}; the columns are {first_names(list(features), 12)}."
                )
    if len(found) < _LEAST:
        raise UserError(
            f"{_FLAG} {wanted!r}: one column per class takes {_LEAST} columns or more, and it names "
            f"{first_names(found) or 'none'}; the columns are {first_names(list(features), 12)}. Name one column of "
            "labels without brackets."
        )
    if repeated := [name for name, count in Counter(found).items() if count > 1]:
        raise UserError(f"{_FLAG}: it names {repeated[0]!r} twice; name each column once.")
    return found


def _joined(split: str, rows: Dataset, columns: Sequence[str]) -> Dataset:
    """Put the columns of classes of a split together; without any of them, it has no labels."""
    present = [name for name in columns if name in rows.features]
    if not present:
        return rows
    if missing := [name for name in columns if name not in present]:
        raise UserError(
            f"{_FLAG} {missing[0]!r}: the split {split!r} has no such column. Give splits with the same classes."
        )
    matrix = np.stack([_yes_or_no(split, rows, name) for name in columns], axis=1)
    kind = List(ClassLabel(names=list(columns)))
    return rows.remove_columns(list(columns)).add_column(columns[0], _indices(matrix), feature=kind)


def _yes_or_no(split: str, rows: Dataset, column: str) -> Matrix:
    values = rows[column][:]
    keys = [value.strip().lower() if isinstance(value, str) else value for value in values]
    for number, key in enumerate(keys):
        if key not in _YES_NO:
            raise UserError(
                f"{_FLAG} {column!r}: row {number} of the split {split!r} holds {values[number]!r}; a column of a "
                "class holds 0 or 1 (or true, false) in every row. Mend it, or leave it out of data.label_column."
            )
    return np.array([_YES_NO[key] for key in keys], dtype=bool)


def _only_text(features: Features, image: str) -> str:
    texts = [name for name, kind in features.items() if name != image and getattr(kind, "dtype", "") in _NAMES]
    called = [name for name in texts if "label" in name.lower()] or texts
    if len(called) == 1:
        return called[0]
    found = f"several ({first_names(called, 5)})" if called else "none"
    raise UserError(
        f"data.label_separator: it parts a column of text, and there are {found}; the columns are "
        f"{first_names(list(features), 12)}. Name it with --data.label_column."
    )


def _parted(rows: Dataset, column: str, separator: str) -> Dataset:
    """Part a column of text into lists; an empty text has no labels."""
    kind = rows.features.get(column)
    if kind is None:
        return rows
    if getattr(kind, "dtype", "") not in _NAMES:
        held = "lists already" if is_list(kind) else type(kind).__name__ if not isinstance(kind, Value) else kind.dtype
        raise UserError(
            f"data.label_separator {separator!r}: the column {column!r} holds {held}, and only a column of text is "
            "parted. Leave it out, or name another column with --data.label_column."
        )
    lists = [[part.strip() for part in (text or "").split(separator) if part.strip()] for text in rows[column][:]]
    return rows.remove_columns(column).add_column(column, lists, feature=List(Value("string")))


def separator_in(labels: Sequence[str]) -> str:
    """Return a sentence on labels which look like several in one text, parted by the same sign; empty where none do.

    They look so where a part is a label of its own, or in another such text.
    """
    for separator in SEPARATORS:
        several = [label for label in labels if separator in label]
        parts = Counter(part.strip() for label in labels for part in set(label.split(separator)))
        if several and any(parts[part.strip()] > 1 for label in several for part in label.split(separator)):
            return (
                f"{len(several)} of {len(labels)} classes hold {separator!r}, such as {several[0]!r}; if these are "
                f"several labels of an image, give --data.label_separator {separator!r}"
            )
    return ""


# ---- lists become class indices


def encode_sets(splits: Mapping[str, Dataset], column: str) -> tuple[DatasetDict, list[str]]:
    """Make lists of labels lists of class indices in every split, with one list of class names for all.

    Classes are those that a `ClassLabel` declares, else all labels of the first split in order, of which others may
    have fewer. A split without a single label is left out. Raises `UserError` for a list that is missing or names a
    label twice, and for splits with other classes or single labels.
    """
    single = [name for name, split in splits.items() if not is_list(split.features.get(column, List(Value("string"))))]
    if single:
        others = [name for name in splits if name not in single]
        raise UserError(
            f"{_FLAG} {column!r}: the split {single[0]!r} holds single labels, and {others[0]!r} holds lists of them. "
            "Give all splits the same kind, a list for each image."
        )
    values = {name: _checked(name, split, column) for name, split in splits.items() if column in split.features}
    values = {name: lists for name, lists in values.items() if any(lists)}
    if not values:
        raise UserError(f"{_FLAG} {column!r}: no row of the split {next(iter(splits))!r} has a label.")
    first, *others = values
    names = {name: _names(splits[name].features[column].feature, lists) for name, lists in values.items()}
    classes = names[first]
    for other in others:
        declared = isinstance(splits[other].features[column].feature, ClassLabel)
        if names[other] != classes and (declared or not set(names[other]) < set(classes)):
            different = [name for name in (*classes, *names[other]) if (name in classes) != (name in names[other])]
            raise UserError(
                f"{_FLAG} {column!r}: splits {first!r} and {other!r} have different classes ({len(classes)} and "
                f"{len(names[other])}; not shared: {', '.join(different[:5]) or 'their order'}). Give splits with the "
                "same classes."
            )
    return DatasetDict({name: numbered_sets(splits[name], column, classes) for name in values}), classes


def numbered_sets(rows: Dataset, column: str, classes: Sequence[str]) -> Dataset:
    """Number the labels of lists by their places in `classes`, rising."""
    kind = rows.features[column].feature
    if isinstance(kind, ClassLabel) and list(kind.names) == list(classes):
        return rows
    index = {name: place for place, name in enumerate(classes)}
    lists = [sorted(index[name] for name in _texts(kind, labels)) for labels in rows[column][:]]
    feature = List(ClassLabel(names=list(classes)))
    numbered = rows.remove_columns(column).add_column(column, lists, feature=feature)
    return numbered.select_columns(rows.column_names)


def _texts(kind: Any, labels: Sequence[Any]) -> Iterator[str]:
    for label in labels or ():
        yield kind.names[label] if isinstance(kind, ClassLabel) else str(label)


def _names(kind: Any, lists: Sequence[Sequence[Any]]) -> list[str]:
    if isinstance(kind, ClassLabel):
        return list(kind.names)
    return [str(label) for label in sorted({label for labels in lists for label in labels})]


def _checked(split: str, rows: Dataset, column: str) -> list[list[Any]]:
    """Return the lists of a split, empty throughout where all are missing."""
    kind, lists = rows.features[column].feature, rows[column][:]
    if not isinstance(kind, ClassLabel) and not (kind.dtype in _NAMES or kind.dtype.startswith(("int", "uint"))):
        raise UserError(f"{_FLAG} {column!r}: contains lists of {kind.dtype}, where texts or whole numbers are needed.")
    if all(labels is None for labels in lists):
        return [[] for _ in lists]
    for number, labels in enumerate(lists):
        where = f"{_FLAG} {column!r}: row {number} of the split {split!r}"
        if labels is None or None in labels:
            raise UserError(
                f"{where} has {'no list' if labels is None else 'a label that is missing'}. An image that shows none "
                "of the classes has an empty list; remove rows that nobody has labeled."
            )
        if len(set(labels)) < len(labels):
            twice = next(label for label, count in Counter(labels).items() if count > 1)
            hint = ""
            if set(labels) <= {0, 1}:
                hint = " Zeros and ones by class are read from one column per class, --data.label_column [a, b, ...]."
            raise UserError(f"{where} names {next(_texts(kind, [twice]))!r} twice. Name each label once.{hint}")
        if isinstance(kind, ClassLabel) and any(not 0 <= label < kind.num_classes for label in labels):
            wrong = next(label for label in labels if not 0 <= label < kind.num_classes)
            raise UserError(
                f"{where} has the label {wrong}, and the {kind.num_classes} classes are numbered from 0. Mend it, or "
                "name all classes."
            )
    return list(lists)


# ---- as numbers


def label_matrix(rows: Dataset, column: str, classes: int) -> Matrix:
    """Return the labels of all rows by class, without touching the images."""
    lists = rows.select_columns(column)[:][column]
    matrix = np.zeros((len(lists), classes), dtype=bool)
    places = np.repeat(np.arange(len(lists)), [len(labels) for labels in lists])
    matrix[places, np.array([label for labels in lists for label in labels], dtype=np.int64)] = True
    return matrix


def _indices(matrix: Matrix) -> list[list[int]]:
    return [np.flatnonzero(row).tolist() for row in matrix]


def rarest(matrix: Matrix) -> NDArray[np.int64]:
    """Return the rarest class of each row of `(N, classes)`; one number more for a row without any."""
    counts = np.append(matrix.sum(0), len(matrix) + 1)  # none is rarer than no class
    none = np.ones((len(matrix), 1), dtype=bool)
    return np.where(np.hstack([matrix, none]), counts, len(matrix) + 2).argmin(1)


def drawn_share(matrix: Matrix, fraction: float, generator: np.random.Generator) -> NDArray[np.int64]:
    """Draw about `fraction` of rows `(N, classes)` such that each class's share of images is kept where possible.

    Classes are served one after the other, the rarest first, each from the images that no earlier one has decided on
    (after K. Sechidis et al., On the Stratification of Multi-Label Data, 2011); images without a label come last. Of a
    class, one image at least is not drawn.
    """
    drawn, open_rows = np.zeros(len(matrix), dtype=bool), np.ones(len(matrix), dtype=bool)
    counts = matrix.sum(0)
    for label in np.argsort(counts, kind="stable"):
        has = matrix[:, label]
        _draw(drawn, open_rows, has, min(round(fraction * counts[label]), counts[label] - 1), generator)
    _draw(drawn, open_rows, np.ones(len(matrix), dtype=bool), round(fraction * len(matrix)), generator)
    return np.flatnonzero(drawn)


def _draw(drawn: Matrix, open_rows: Matrix, has: Matrix, wanted: int, generator: np.random.Generator) -> None:
    """Draw among the open rows that have something until as many are drawn as wanted, and close them."""
    candidates = np.flatnonzero(has & open_rows)
    number = max(0, min(wanted - int(drawn[has].sum()), len(candidates)))
    drawn[generator.permutation(candidates)[:number]] = True
    open_rows[candidates] = False
