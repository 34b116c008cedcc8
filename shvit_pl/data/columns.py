"""Columns of images and labels: inferred from the features, never guessed when ambiguous."""

from __future__ import annotations

from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, Value

from shvit_pl.errors import UserError, did_you_mean

_LABEL_KINDS = (
    "string",
    "large_string",
    "bool",
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
)


def image_column(features: Features, wanted: str | None = None) -> str:
    """Return the column of images: `wanted`, or the only one of type `Image`; raises `UserError` otherwise."""
    candidates = [column for column, feature in features.items() if isinstance(feature, Image)]
    column = _choose("data.image_column", "images", features, candidates, wanted)
    feature = features[column]
    if not isinstance(feature, Image | dict) and getattr(feature, "dtype", "") not in (
        "binary",
        "large_binary",
        "string",
    ):
        raise UserError(f"data.image_column {column!r}: it holds {feature}, where images or their bytes are needed.")
    return column


def label_column(features: Features, wanted: str | None = None) -> str:
    """Return the column of labels: `wanted`, the only `ClassLabel`, or `label`; raises `UserError` otherwise.

    Without any `ClassLabel`, `label` is meant as long as no other column calls itself one, as `coarse_label` does.
    """
    candidates = [column for column, feature in features.items() if isinstance(feature, ClassLabel)]
    if not candidates and isinstance(features.get("label"), Value):
        candidates = [column for column in features if "label" in column.lower()]
    if wanted is None and list(features) == [image_column(features)]:
        raise UserError(
            "data.path: the images have no labels. Sort them into one folder per class, two classes or more, in every "
            "split."
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
        raise UserError(
            f"{flag}: no column holds {what}; the columns are {', '.join(features)}. Name one with --{flag}."
        )
    raise UserError(f"{flag}: several columns hold {what} ({', '.join(candidates)}). Choose one with --{flag}.")


def encode_labels(splits: DatasetDict, column: str) -> tuple[DatasetDict, list[str]]:
    """Make `column` class indices in every split, with one list of class names for all.

    The classes are those of the first split; labels that are no `ClassLabel` may be fewer in the others. A split wholly
    without labels (none, or -1 throughout), as the test split of ImageNet, is left out.

    Raises:
        UserError: when a split has labels for some rows only, or other classes than the first, or none has labels.
    """
    names = {name: found for name, split in splits.items() if (found := _class_names(name, split, column))}
    if not names:
        raise UserError(f"data.label_column {column!r}: no row of the split {next(iter(splits))!r} has a label.")
    first, *others = names
    for other in others:
        missing_is_fine = not isinstance(splits[other].features[column], ClassLabel)  # it declares no classes
        if names[other] != names[first] and not (missing_is_fine and set(names[other]) < set(names[first])):
            raise UserError(_disagreement(column, first, names[first], other, names[other]))
    return DatasetDict({name: _encode(splits[name], column, names[first]) for name in names}), names[first]


def _class_names(name: str, split: Dataset, column: str) -> list[str]:
    """Return the classes that a split declares or, as text and in order, its labels; none where it has none."""
    if column not in split.features:
        return []
    feature = split.features[column]
    if not isinstance(feature, ClassLabel | Value) or feature.dtype not in _LABEL_KINDS:
        held = feature.dtype if isinstance(feature, Value) else type(feature).__name__
        raise UserError(f"data.label_column {column!r}: it holds {held}, where a text or whole number is needed.")
    labels = split.unique(column)
    if set(labels) <= {None, -1}:
        return []
    if None in labels or (isinstance(feature, ClassLabel) and -1 in labels):
        raise UserError(f"data.label_column {column!r}: split {name!r} has rows without a label. Remove or label them.")
    if isinstance(feature, ClassLabel) and max(labels) >= feature.num_classes:
        raise UserError(
            f"data.label_column {column!r}: split {name!r} has the label {max(labels)}, but only {feature.num_classes} "
            "classes have names. Name them all, or fix the labels."
        )
    return list(feature.names) if isinstance(feature, ClassLabel) else [str(label) for label in sorted(labels)]


def _encode(split: Dataset, column: str, names: list[str]) -> Dataset:
    """Replace labels by their indices, in memory: `class_encode_column` would write all images anew."""
    if isinstance(split.features[column], ClassLabel):
        return split
    index = {name: position for position, name in enumerate(names)}
    indices = [index[str(label)] for label in split[column][:]]
    encoded = split.remove_columns(column).add_column(column, indices, feature=ClassLabel(names=names))
    return encoded.select_columns(split.column_names)


def _disagreement(column: str, first: str, names: list[str], other: str, theirs: list[str]) -> str:
    different = [name for name in (*names, *theirs) if (name in names) != (name in theirs)]
    return (
        f"data.label_column {column!r}: splits {first!r} and {other!r} have different classes ({len(names)} and "
        f"{len(theirs)}; not shared: {', '.join(different[:5]) or 'their order'}). Give splits with the same classes."
    )
