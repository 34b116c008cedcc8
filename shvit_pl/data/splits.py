"""Which rows train, validate and are tested; their columns, and the classes that they share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, IterableDatasetDict, Value
from numpy.typing import NDArray

from shvit_pl.compat import stratified_indices
from shvit_pl.data import folds, tables
from shvit_pl.data.config import DataConfig, SplitConfig
from shvit_pl.data.folders import SPLITS
from shvit_pl.data.opening import Opened, open_source
from shvit_pl.errors import UserError, collected, did_you_mean, first_names, refuse

_BOXES = {"objects", "bbox", "boxes"}  # columns of datasets for detection
_VALIDATION_NAMES = [name for name, split in SPLITS.items() if split == "validation"]
_IMAGE_TYPES = ("binary", "large_binary", "string")
_INTEGERS = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
_LABEL_TYPES = ("string", "large_string", "string_view", "bool", *_INTEGERS)


@dataclass(frozen=True)
class ChosenRows:
    """Rows, columns and classes of a stage."""

    by_stage: dict[str, Any]
    """Rows of `train`, `validate`, `test`, `predict`, as far as the stage needs them."""
    image_column: str
    """The column of encoded images."""
    label_column: str | None = None
    """The column of class indices; None for prediction."""
    class_names: list[str] | None = None
    """Class names, index by index; None for prediction."""
    note: str = ""
    """A sentence about where the evaluated rows come from."""
    commit: str | None = None
    """The version of a dataset of the Hub."""
    files: str = ""
    """What became of the files of a folder, in a line."""
    divided: bool = False
    """True if the validation rows are a part of the training split."""
    test_split: str = "test"
    """The split of the rows of `test`."""
    sources: tuple[dict[str, Any], ...] = ()
    """What is known of each of several datasets."""


# ---- stored rows


def choose_rows(config: DataConfig, stage: str, held_out: bool, known: Sequence[str] = ()) -> ChosenRows:
    """Open the dataset and choose columns and rows for a stage: fit, validate, test or predict.

    With `held_out`, the data is what the model trained on, of which a part may be held out; otherwise all rows of the
    evaluated split count, and their classes are found by name among `known` ones. Raises `UserError` for what is not
    there, or ambiguous.
    """
    opened = open_source(config, sort=stage != "predict" or config.validation_split is not None)
    has_training = config.train_split in opened.splits or config.train_split != "train"  # a wrong name is refused
    is_trained_on = stage == "fit" or (stage != "predict" and held_out and has_training)
    return choose_opened(opened, config, stage, is_trained_on, known)


def choose_opened(
    opened: Opened, config: DataConfig, stage: str, is_trained_on: bool, known: Sequence[str] = ()
) -> ChosenRows:
    """Choose columns and rows of an open dataset, as `choose_rows` does."""
    splits, path = DatasetDict(opened.splits), str(config.path)
    origin: dict[str, Any] = {"commit": opened.commit, "files": opened.files}
    _check_names(splits, config, is_trained_on)
    image = image_column(next(iter(splits.values())).features, config.image_column)
    splits = splits.cast_column(image, Image(decode=False))
    if not opened.found and (stage != "predict" or config.validation_split is not None):
        tables.check_files(path, splits, image)
    if is_trained_on:
        return replace(_trained_on(splits, image, config), **origin)
    split = evaluated_split(splits, config, stage)
    check_split(splits, "data.validation_split", split)
    rows = splits[split]
    chosen = ChosenRows({stage: rows}, image, note=all_of(rows, split), **origin)
    if stage == "predict":  # where nothing is a split, none is named
        return chosen if len(splits) > 1 or config.validation_split else replace(chosen, note=_images(len(rows)))
    label = label_column(rows.features, image, config.label_column)
    encoded, classes = encode_labels(DatasetDict({stage: rows}), label)
    chosen = replace(chosen, by_stage=dict(encoded), label_column=label, class_names=classes)
    if classes == list(known) or not set(classes) <= set(known):
        return chosen
    absent = [name for name in known if name not in classes]
    note = f"; no image of {first_names(absent)}" if absent else ""
    by_stage = {stage: numbered(rows, label, known)}
    return replace(chosen, by_stage=by_stage, class_names=list(known), note=f"{chosen.note}{note}")


def evaluated_split(splits: Mapping[str, Any], config: SplitConfig, stage: str) -> str:
    """Return the split to evaluate of data that was not trained on; raises `UserError` where `test` has none.

    It is the one that is named, else the one of the stage's name, else another one for evaluation, else the only one;
    validation images are none for `test`.
    """
    names = (*_VALIDATION_NAMES, "test") if stage == "validate" else ("test", *_VALIDATION_NAMES)
    split = config.validation_split or next((name for name in names if name in splits), None) or next(iter(splits))
    is_chosen = config.validation_split is not None or split == "test"
    if stage == "test" and not is_chosen and (len(splits) > 1 or split in _VALIDATION_NAMES):
        raise _no_test_split(str(config.path), f"the splits are {', '.join(splits)}")
    return split


def _no_test_split(path: str, reason: str, which: str = "") -> UserError:
    return UserError(
        f"data.path {path!r}: there is no test split{which}, and {reason}. Measure the validation images by shvit-pl "
        "validate, or give other images by --data.path, or a split by --data.validation_split."
    )


def tested(chosen: Any, config: SplitConfig, named: bool) -> Any:
    """Add the rows of `test` to those of a training: the split `test`, or with `named` that of `validation_split`.

    Raises `UserError` where there is none.
    """
    split, stage = (str(config.validation_split), "validate") if named else (chosen.test_split, "test")
    if stage not in chosen.by_stage:
        which = " with labels" if _left_out("test") in chosen.note else ""
        raise _no_test_split(str(config.path), "the validation images have chosen the checkpoint", which)
    rows = chosen.by_stage[stage]
    return replace(chosen, by_stage={**chosen.by_stage, "test": rows}, note=all_of(rows, split))


def all_of(rows: Any, split: str) -> str:
    """Say that all rows of a split are evaluated."""
    if not isinstance(rows, Dataset | list):  # scenes are listed
        return f"the split '{split}', streamed"
    return f"{'all ' * (len(rows) > 1)}{_images(len(rows))} of the split '{split}'"


def _images(count: int) -> str:
    return f"{count} image{'s' * (count != 1)}"


def _left_out(split: str) -> str:
    return f"; the split '{split}' has no labels and is left out"


def _check_names(splits: DatasetDict, config: DataConfig, is_trained_on: bool) -> None:
    """Raise `UserError` for all columns and splits that are named and not there."""
    features, mistakes = next(iter(splits.values())).features, list[str]()
    with collected(mistakes):
        image_column(features, config.image_column)
    if config.label_column is not None:
        with collected(mistakes):
            label_column(features, config.image_column or "", config.label_column)
    train = config.train_split if is_trained_on else ""
    for flag, name in (("data.train_split", train), ("data.validation_split", config.validation_split)):
        with collected(mistakes):
            if name:
                check_split(splits, flag, name, train if flag == "data.validation_split" else "")
    refuse(dict.fromkeys(mistakes))


def _trained_on(splits: DatasetDict, image: str, config: DataConfig) -> ChosenRows:
    """Choose the rows of a training, and those that are held out from it."""
    train, wanted = config.train_split, config.validation_split
    fraction, seed = config.train_fraction, config.split_seed
    used = (train, wanted or validation_name(splits, train), "test")
    splits = DatasetDict({name: splits[name] for name in used if name in splits and len(splits[name])})
    label = label_column(splits[train].features, image, config.label_column)
    labeled, classes = encode_labels(splits, label)
    for flag, name in (("data.train_split", train), ("data.validation_split", wanted)):
        if name is not None and name not in labeled:
            raise UserError(f"{flag} {name!r}: this split has no labels; those with labels are {', '.join(labeled)}.")
    validation = None if config.fold is not None else wanted or validation_name(labeled, train)
    test = "test" if config.fold is None or "test" in labeled else validation_name(labeled, train) or "test"
    if validation is not None:
        rows, held_out, note = labeled[train], labeled[validation], f"validation on the split '{validation}'"
        if unknown := _untrained(rows, held_out, label, classes):  # the splits may have different class folders
            raise UserError(
                f"data.path: the validation images have {len(unknown)} classes of which there is no training image "
                f"({', '.join(unknown[:5])}). Give both splits the same classes."
            )
        note += folds.check_groups(labeled, train, validation, config, (image, label))
    elif config.fold is None and config.split_by is None:
        share = config.validation_fraction
        rows, held_out = divide(labeled[train], share, label, seed)
        note = f"no validation split: {share:.0%} of '{train}' held out (seed {seed})"
    else:
        rows, held_out, note = folds.divided(
            labeled[train], train, class_indices(labeled[train], label), config, (image, label)
        )
        if unknown := _untrained(rows, held_out, label, classes):
            note += f"; no image of {first_names(unknown)} is trained on"
        note += f"; the split '{test}' is left for shvit-pl test" if test not in ("test", train) else ""
        note += folds.shared_with_test(labeled, train, config, (image, label))
    if fraction < 1:
        _, rows = divide(rows, fraction, label, seed, flag="data.train_fraction", trained=1)
    note += "".join(_left_out(name) for name in splits if name not in labeled)
    by_stage = {"train": rows, "validate": held_out}
    if test in labeled:
        by_stage["test"] = labeled[test]
    return ChosenRows(by_stage, image, label, classes, note, divided=validation is None, test_split=test)


def _untrained(trained: Dataset, validated: Dataset, label: str, classes: Sequence[str]) -> list[str]:
    """Return the classes that only the validation has."""
    counts = (class_counts(part, label, len(classes)) for part in (trained, validated))
    return [name for name, some, count in zip(classes, *counts, strict=True) if count and not some]


def divide(
    rows: Dataset, fraction: float, label: str, seed: int, flag: str = "data.validation_fraction", trained: int = 0
) -> tuple[Dataset, Dataset]:
    """Divide rows at random, the second part being `fraction` of them, with each class's share kept where possible.

    `trained` is the part to train on, 0 or 1, to which classes of a single image go.
    """
    held_out = ceil(fraction * len(rows))
    if round(fraction * len(rows)) < 1 or held_out == len(rows):
        raise UserError(f"{flag} {fraction}: of {len(rows)} images, one part would be empty; give another.")
    labels = class_indices(rows, label)
    is_single = np.bincount(labels)[labels] == 1
    sizes = [len(rows) - held_out, held_out]
    sizes[trained] -= int(is_single.sum())
    if sizes[trained] < 1:  # nearly all classes have a single image
        is_single, sizes = np.zeros_like(is_single), [len(rows) - held_out, held_out]
    others, generator = np.flatnonzero(~is_single), np.random.default_rng(seed)
    if len(np.unique(labels[others])) <= min(sizes):
        parts = [others[part] for part in stratified_indices(labels[others], (sizes[0], sizes[1]), generator)]
    else:
        drawn = others[generator.permutation(len(others))]
        parts = [drawn[sizes[1] :], drawn[: sizes[1]]]
    parts[trained] = np.concatenate([parts[trained], np.flatnonzero(is_single)])
    return rows.select(parts[0]), rows.select(parts[1])


def class_counts(rows: Dataset, label: str, classes: int) -> list[int]:
    """Return the number of rows of each class."""
    return np.bincount(class_indices(rows, label), minlength=classes).tolist()


def class_indices(rows: Dataset, label: str) -> NDArray[np.int64]:
    """Return the class indices `(N,)`, without touching the images."""
    return np.asarray(rows.select_columns(label).with_format("numpy")[:][label], dtype=np.int64)


# ---- streams


def stream_rows(config: DataConfig, stage: str) -> ChosenRows:
    """Open the dataset as a stream; raises `UserError` where it doesn't name its classes or has no validation split."""
    opened = open_source(config, streaming=True)
    splits, train = IterableDatasetDict(opened.splits), config.train_split
    check_split(splits, "data.train_split", train)
    features = splits[train].features
    if features is None:
        raise UserError(f"data.streaming: the columns of {config.path!r} are unknown before reading; set it to false.")
    image = image_column(features, config.image_column)
    label = label_column(features, image, config.label_column)
    if not isinstance(features[label], ClassLabel):
        raise UserError(
            f"data.label_column {label!r}: a stream must name its classes (ClassLabel), and this column holds "
            f"{features[label].dtype}. Choose another with --data.label_column, or set --data.streaming false "
            "without data.steps_per_epoch."
        )
    validation = config.validation_split or validation_name(splits, train)
    if validation is None:
        raise UserError(
            f"data.streaming: {config.path!r} has no validation split (splits: {', '.join(splits)}), and a stream "
            "can't be divided. Name one with --data.validation_split, or set --data.streaming false without "
            "data.steps_per_epoch."
        )
    check_split(splits, "data.validation_split", validation, train)
    if (splits[validation].features or {}).get(label) != features[label]:
        raise UserError(f"data.label_column {label!r}: splits {train!r} and {validation!r} must have the same classes.")
    by_split = {name: rows.cast_column(image, Image(decode=False)) for name, rows in splits.items()}
    rows = {"train": by_split[train], "validate": by_split[validation]}
    note = f"validation on the split '{validation}', streamed"
    if stage == "test" and "test" in splits:
        first = next(iter(by_split["test"].select_columns(label)), {label: None})
        if first[label] in (None, -1):  # as ImageNet's
            note += _left_out("test")
        else:
            rows["test"] = by_split["test"]
    return ChosenRows(rows, image, label, list(features[label].names), note, opened.commit, opened.files)


def check_split(splits: Mapping[str, Any], flag: str, name: str, train: str = "") -> None:
    """Raise `UserError` when there is no split of this name, or nothing in it, or it is the training split."""
    if name not in splits:
        hint = did_you_mean(name, splits)
        raise UserError(f"{flag} {name!r}: no such split{hint}; the splits are {', '.join(splits)}.")
    if isinstance(splits[name], Dataset) and not len(splits[name]):
        raise UserError(f"{flag} {name!r}: this split has no rows.")
    if name == train:
        raise UserError(f"{flag} {name!r}: this is the training split; give another, or none.")


def validation_name(splits: Mapping[str, Any], train: str) -> str | None:
    """Return the first of validation, valid, val and dev other than the training split."""
    return next((name for name in _VALIDATION_NAMES if name in splits and name != train), None)


# ---- columns


def image_column(features: Features, wanted: str | None = None) -> str:
    """Return the column of images: `wanted`, or the only one of type `Image`; raises `UserError` otherwise."""
    candidates = [column for column, feature in features.items() if isinstance(feature, Image)]
    column = _choose("data.image_column", "images", features, candidates, wanted)
    feature = features[column]
    if not isinstance(feature, Image | dict) and getattr(feature, "dtype", "") not in _IMAGE_TYPES:
        raise UserError(f"data.image_column {column!r}: contains {feature}, where images or their bytes are needed.")
    return column


def label_column(features: Features, image: str, wanted: str | None = None) -> str:
    """Return the column of labels: `wanted`, the only `ClassLabel`, or `label`; raises `UserError` otherwise.

    Where no `ClassLabel` calls itself a label, as `coarse_label` does, `label` and all that do are meant as well.
    """
    candidates = [column for column, feature in features.items() if isinstance(feature, ClassLabel)]
    called = [column for column in features if "label" in column.lower()]
    if isinstance(features.get("label"), Value) and set(called).isdisjoint(candidates):
        candidates += called
    if wanted is None and list(features) == [image]:
        raise UserError(
            "data.path: no labels. Sort the images into one folder per class, two classes or more, in every split, or "
            "give a table of paths and labels (CSV). To learn boxes (COCO, YOLO), give --task detection."
        )
    return _choose("data.label_column", "class labels", features, candidates, wanted)


def _choose(flag: str, what: str, features: Features, candidates: list[str], wanted: str | None) -> str:
    if wanted is not None:
        if wanted not in features:
            hint = did_you_mean(wanted, features)
            raise UserError(f"{flag} {wanted!r}: no such column{hint}; the columns are {', '.join(features)}.")
        return wanted
    if len(candidates) == 1:
        return candidates[0]
    if not candidates:
        boxes = " To learn boxes, give --task detection." if _BOXES.intersection(features) else ""
        listed = ", ".join(features)
        raise UserError(f"{flag}: no column has {what}; the columns are {listed}. Name it with --{flag}.{boxes}")
    raise UserError(f"{flag}: several columns hold {what} ({', '.join(candidates)}). Choose one with --{flag}.")


def encode_labels(splits: DatasetDict, column: str) -> tuple[DatasetDict, list[str]]:
    """Make `column` class indices in every split, with one list of class names for all.

    The classes are those of the first split; labels that are no `ClassLabel` may be fewer in the others. A split wholly
    without labels (none, or -1 throughout), as the test split of ImageNet, is left out.

    Raises `UserError` when a split has labels for some rows only, or other classes than the first, or none has labels.
    """
    names = {name: own for name, split in splits.items() if (own := _class_names(name, split, column))}
    if not names:
        raise UserError(f"data.label_column {column!r}: no row of the split {next(iter(splits))!r} has a label.")
    first, *others = names
    classes = names[first]
    for other in others:
        theirs = names[other]
        missing_is_fine = not isinstance(splits[other].features[column], ClassLabel)  # it declares no classes
        if theirs != classes and not (missing_is_fine and set(theirs) < set(classes)):
            different = [name for name in (*classes, *theirs) if (name in classes) != (name in theirs)]
            raise UserError(
                f"data.label_column {column!r}: splits {first!r} and {other!r} have different classes ({len(classes)} "
                f"and {len(theirs)}; not shared: {', '.join(different[:5]) or 'their order'}). Give splits with the "
                "same classes."
            )
    encoded = DatasetDict({name: splits[name] for name in names})
    for name, split in encoded.items():
        if not isinstance(split.features[column], ClassLabel):
            encoded[name] = numbered(split, column, classes)
    return encoded, classes


def numbered(rows: Dataset, column: str, classes: Sequence[str]) -> Dataset:
    """Number labels by their place in `classes`; in memory, as `class_encode_column` would write all images anew."""
    index = {label: position for position, label in enumerate(classes)}
    names = rows.features[column].names if isinstance(rows.features[column], ClassLabel) else None
    indices = [index[names[label] if names else str(label)] for label in rows[column][:]]
    labeled = rows.remove_columns(column).add_column(column, indices, feature=ClassLabel(names=list(classes)))
    return labeled.select_columns(rows.column_names)


def _class_names(name: str, split: Dataset, column: str) -> list[str]:
    """Return the classes that a split declares or, as text and in order, its labels; none where it has none."""
    if column not in split.features:
        return []
    feature = split.features[column]
    if not isinstance(feature, ClassLabel | Value) or feature.dtype not in _LABEL_TYPES:
        held = feature.dtype if isinstance(feature, Value) else type(feature).__name__
        raise UserError(f"data.label_column {column!r}: contains {held}, where a text or whole number is needed.")
    labels = split.unique(column)
    if set(labels) <= {None, -1}:
        return []
    if None in labels or (isinstance(feature, ClassLabel) and -1 in labels):
        none = [row for row, label in enumerate(split[column][:]) if label is None or label == -1]
        raise UserError(
            f"data.label_column {column!r}: split {name!r} has rows without a label, {len(none)} of {len(split)}; the "
            f"first is row {none[0] + 1}. Remove or label them."
        )
    if isinstance(feature, ClassLabel) and max(labels) >= feature.num_classes:
        raise UserError(
            f"data.label_column {column!r}: split {name!r} has the label {max(labels)}, but only {feature.num_classes} "
            "classes have names. Name them all, or fix the labels."
        )
    return list(feature.names) if isinstance(feature, ClassLabel) else [str(label) for label in sorted(labels)]
