"""Which columns hold the images and the labels: inferred from the features, never guessed when ambiguous."""

from __future__ import annotations

from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, Value

from shvit_pl.errors import UserError, did_you_mean


def image_column(features: Features, wanted: str | None = None) -> str:
    """The column of images: `wanted`, or the only one of type `Image`; raises `UserError` otherwise."""
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
    """The column of labels: `wanted`, or the only `ClassLabel`, or `label`; raises `UserError` otherwise."""
    candidates = [column for column, feature in features.items() if isinstance(feature, ClassLabel)]
    if not candidates and isinstance(features.get("label"), Value):
        candidates = ["label"]
    if wanted is None and list(features) == [image_column(features)]:
        raise UserError(
            "data.path: the images have no labels. Sort them into one folder per class, two classes or more."
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

    Raises:
        UserError: when the splits have different classes.
    """
    for name, split in splits.items():
        _check_all_labelled(name, split, column)
    encoded = DatasetDict({name: _encode(split, column) for name, split in splits.items()})
    names = {name: split.features[column].names for name, split in encoded.items()}
    first, *others = names
    for other in others:
        if names[other] != names[first]:
            different = sorted(set(names[first]) ^ set(names[other]))
            raise UserError(
                f"data.label_column {column!r}: splits {first!r} and {other!r} have different classes "
                f"({len(names[first])} and {len(names[other])}; not shared: "
                f"{', '.join(different[:5]) or 'their order'}). Give splits with the same classes."
            )
    return encoded, list(names[first])


def _check_all_labelled(name: str, split: Dataset, column: str) -> None:
    values = split.unique(column)
    if None in values or (isinstance(split.features[column], ClassLabel) and min(values, default=0) < 0):
        raise UserError(f"data.label_column {column!r}: split {name!r} has rows without a label. Remove or label them.")


def _encode(split: Dataset, column: str) -> Dataset:
    feature = split.features[column]
    if isinstance(feature, ClassLabel):
        return split
    if not isinstance(feature, Value):
        raise UserError(f"data.label_column {column!r}: it holds {feature}, where one class per image is needed.")
    values = sorted(split.unique(column))
    if values == list(range(len(values))):  # indices already: encoding would sort them as text
        return split.cast_column(column, ClassLabel(names=[str(value) for value in values]))
    return split.class_encode_column(column)
