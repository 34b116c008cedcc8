"""The rows that each stage of a run uses, and the classes that they share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from datasets import ClassLabel, Dataset, DatasetDict, Image, IterableDataset, IterableDatasetDict

from shvit_pl.data.columns import encode_labels, image_column, label_column
from shvit_pl.data.sources import open_source
from shvit_pl.data.splits import (
    VALIDATION_NAMES,
    check_split,
    divide,
    train_and_validation,
    unlabelled_note,
    used_splits,
    validation_name,
)
from shvit_pl.errors import UserError


@dataclass(frozen=True)
class ChosenRows:
    """What a stage works on.

    Attributes:
        by_stage: Rows of `train`, `validate`, `test`, `predict`, as far as the stage needs them.
        image_column: The column of encoded images.
        label_column: The column of class indices; None for prediction.
        class_names: Class names, index by index; None for prediction.
        note: A sentence about where the evaluated rows come from.
        commit: The version of a dataset of the Hub.
    """

    by_stage: dict[str, Any]
    image_column: str
    label_column: str | None = None
    class_names: list[str] | None = None
    note: str = ""
    commit: str | None = None


def choose_rows(hp: Any, stage: str, held_out: bool) -> ChosenRows:
    """Open the dataset and choose columns and rows.

    Args:
        hp: The data module's settings.
        stage: fit, validate, test or predict.
        held_out: Whether the data is what the model trained on, of which a part may be held out; if not, all rows of
            the evaluated split count.

    Raises:
        UserError: for what is not there, or ambiguous.
    """
    opened = open_source(hp.path, hp.name, hp.revision)
    return replace(_chosen(DatasetDict(opened.splits), hp, stage, held_out), commit=opened.commit)


def _chosen(splits: DatasetDict, hp: Any, stage: str, held_out: bool) -> ChosenRows:
    image = image_column(next(iter(splits.values())).features, hp.image_column)
    splits = splits.cast_column(image, Image(decode=False))
    if stage == "predict":
        rows, note = _evaluated(splits, "predict", hp.validation_split)
        return ChosenRows({"predict": rows}, image, note=note)
    if stage == "fit" or held_out:
        return _trained_on(splits, image, hp)
    rows, note = _evaluated(splits, stage, hp.validation_split)
    label = label_column(rows.features, hp.label_column)
    encoded, names = encode_labels(DatasetDict({stage: rows}), label)
    return ChosenRows({stage: encoded[stage]}, image, label, names, note)


def _trained_on(splits: DatasetDict, image: str, hp: Any) -> ChosenRows:
    used = used_splits(splits, hp.train_split, hp.validation_split)
    label = label_column(used[hp.train_split].features, hp.label_column)
    labelled, names = encode_labels(used, label)
    train, validation, note = train_and_validation(
        labelled, hp.train_split, hp.validation_split, hp.validation_fraction, label, hp.split_seed
    )
    if hp.train_fraction < 1:
        _, train = divide(train, hp.train_fraction, label, hp.split_seed, flag="data.train_fraction")
    rows = {"train": train, "validate": validation, "test": labelled.get("test", validation)}
    return ChosenRows(rows, image, label, names, note + unlabelled_note(used, labelled))


def _evaluated(splits: DatasetDict, stage: str, wanted: str | None) -> tuple[Dataset, str]:
    """The split to evaluate on: of the stage's name, else another one for evaluation, else the only one."""
    names = (*VALIDATION_NAMES, "test") if stage == "validate" else ("test", *VALIDATION_NAMES)
    split = wanted or next((name for name in names if name in splits), None) or next(iter(splits))
    check_split(splits, "data.validation_split", split)
    return splits[split], f"all {len(splits[split])} images of the split '{split}'"


def stream_rows(hp: Any, stage: str) -> ChosenRows:
    """Open the dataset as a stream; it has to say its classes, and to have a validation split.

    Args:
        hp: The data module's settings.
        stage: fit, validate, test or predict.

    Raises:
        UserError: for what is not there, or ambiguous, or can't be done with a stream.
    """
    opened = open_source(hp.path, hp.name, hp.revision, streaming=True)
    return replace(_streamed(IterableDatasetDict(opened.splits), hp, stage), commit=opened.commit)


def _streamed(splits: IterableDatasetDict, hp: Any, stage: str) -> ChosenRows:
    check_split(splits, "data.train_split", hp.train_split)
    features = splits[hp.train_split].features
    if features is None:
        raise UserError(f"data.streaming: {hp.path!r} does not say its columns before it is read; set streaming false.")
    image, label = image_column(features, hp.image_column), label_column(features, hp.label_column)
    if not isinstance(features[label], ClassLabel):
        raise UserError(
            f"data.label_column {label!r}: a stream must name its classes (ClassLabel), and this column holds "
            f"{features[label].dtype}. Choose another with --data.label_column, or set --data.streaming false."
        )
    validation = hp.validation_split or validation_name(splits, hp.train_split)
    if validation is None:
        raise UserError(
            f"data.streaming: {hp.path!r} has no validation split (splits: {', '.join(splits)}), and of a stream none "
            "can be held out. Name one with --data.validation_split, or set --data.streaming false."
        )
    if validation == hp.train_split:
        raise UserError(f"data.validation_split {validation!r}: this is the training split; give another.")
    _check_same_classes(splits, hp.train_split, validation, label)
    encoded = {name: rows.cast_column(image, Image(decode=False)) for name, rows in splits.items()}
    tested = "test" if stage == "test" and "test" in encoded and _labelled(encoded["test"], label) else validation
    rows = {"train": encoded[hp.train_split], "validate": encoded[validation], "test": encoded[tested]}
    note = f"{'test' if stage == 'test' else 'validation'} on the split '{tested}', streamed"
    return ChosenRows(rows, image, label, list(features[label].names), note)


def _labelled(rows: IterableDataset, label: str) -> bool:
    """Whether the first row has a label: ImageNet's test images have none."""
    return next(iter(rows.select_columns(label)), {label: None})[label] not in (None, -1)


def _check_same_classes(splits: IterableDatasetDict, train: str, validation: str, label: str) -> None:
    names = {split: (splits[split].features or {}).get(label) for split in (train, validation)}
    if names[train] != names[validation]:
        raise UserError(
            f"data.label_column {label!r}: splits {train!r} and {validation!r} have different classes. "
            "Give splits with the same classes."
        )
