"""Which rows train, validate and are tested, and the classes that they share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil
from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset, DatasetDict, Image, IterableDataset, IterableDatasetDict
from numpy.typing import NDArray

from shvit_pl.compat import stratified_indices
from shvit_pl.data.columns import encode_labels, image_column, label_column
from shvit_pl.data.config import DataConfig
from shvit_pl.data.opening import open_source
from shvit_pl.errors import UserError, did_you_mean

_VALIDATION_NAMES = ("validation", "valid", "val", "dev")


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


def choose_rows(config: DataConfig, stage: str, held_out: bool) -> ChosenRows:
    """Open the dataset and choose columns and rows.

    Args:
        config: The data module's settings.
        stage: fit, validate, test or predict.
        held_out: Whether the data is what the model trained on, of which a part may be held out; if not, all rows of
            the evaluated split count.

    Raises:
        UserError: for what is not there, or ambiguous.
    """
    opened = open_source(config.path, config.name, config.revision)
    return replace(_chosen(DatasetDict(opened.splits), config, stage, held_out), commit=opened.commit)


def _chosen(splits: DatasetDict, config: DataConfig, stage: str, held_out: bool) -> ChosenRows:
    image = image_column(next(iter(splits.values())).features, config.image_column)
    splits = splits.cast_column(image, Image(decode=False))
    if stage == "predict":
        rows, note = _evaluated(splits, "predict", config.validation_split)
        return ChosenRows({"predict": rows}, image, note=note)
    if stage == "fit" or held_out:
        return _trained_on(splits, image, config)
    rows, note = _evaluated(splits, stage, config.validation_split)
    label = label_column(rows.features, config.label_column)
    encoded, names = encode_labels(DatasetDict({stage: rows}), label)
    return ChosenRows({stage: encoded[stage]}, image, label, names, note)


def _evaluated(splits: DatasetDict, stage: str, wanted: str | None) -> tuple[Dataset, str]:
    """Return the split to evaluate: of the stage's name, else another one for evaluation, else the only one."""
    names = (*_VALIDATION_NAMES, "test") if stage == "validate" else ("test", *_VALIDATION_NAMES)
    split = wanted or next((name for name in names if name in splits), None) or next(iter(splits))
    _check_split(splits, "data.validation_split", split)
    return splits[split], f"all {len(splits[split])} images of the split '{split}'"


def _trained_on(splits: DatasetDict, image: str, config: DataConfig) -> ChosenRows:
    used = _used_splits(splits, config)
    label = label_column(used[config.train_split].features, config.label_column)
    labelled, names = encode_labels(used, label)
    train, validation, note = _train_and_validation(labelled, label, config)
    if config.train_fraction < 1:
        _, train = divide(train, config.train_fraction, label, config.split_seed, flag="data.train_fraction")
    note += "".join(f"; the split '{name}' has no labels and is left out" for name in used if name not in labelled)
    rows = {"train": train, "validate": validation, "test": labelled.get("test", validation)}
    return ChosenRows(rows, image, label, names, note)


def _used_splits(splits: DatasetDict, config: DataConfig) -> DatasetDict:
    """Return the splits that a training uses, in this order: training, validation and `test`, where they are there."""
    train, validation = config.train_split, config.validation_split
    _check_split(splits, "data.train_split", train)
    if validation is not None:
        _check_split(splits, "data.validation_split", validation)
    if validation == train:
        raise UserError(f"data.validation_split {validation!r}: this is the training split; give another, or none.")
    names = (train, validation or _validation_name(splits, train), "test")
    return DatasetDict({name: splits[name] for name in names if name in splits and len(splits[name])})


def _train_and_validation(splits: DatasetDict, label: str, config: DataConfig) -> tuple[Dataset, Dataset, str]:
    """Return training rows, validation rows, and a sentence about where the latter come from."""
    train, validation = config.train_split, config.validation_split
    for flag, name in (("data.train_split", train), ("data.validation_split", validation)):
        if name is not None and name not in splits:
            raise UserError(
                f"{flag} {name!r}: no row of it has a label; the splits with labels are {', '.join(splits)}."
            )
    validation = validation or _validation_name(splits, train)
    if validation is not None:
        _check_trained(splits[train], splits[validation], label)
        return splits[train], splits[validation], f"validation on the split '{validation}'"
    fraction, seed = config.validation_fraction, config.split_seed
    rows, held_out = divide(splits[train], fraction, label, seed)
    return rows, held_out, f"no validation split: {fraction:.0%} of '{train}' held out (seed {seed})"


def _check_trained(train: Dataset, validation: Dataset, label: str) -> None:
    """Raise `UserError` for classes that are validated and never trained, as of other class folders in each split."""
    names = train.features[label].names
    trained, validated = (class_counts(rows, label, len(names)) for rows in (train, validation))
    unknown = [name for name, some, count in zip(names, trained, validated, strict=True) if count and not some]
    if unknown:
        raise UserError(
            f"data.path: the validation images have {len(unknown)} classes of which there is no training image "
            f"({', '.join(unknown[:5])}). Give both splits the same classes."
        )


def divide(
    rows: Dataset, fraction: float, label: str, seed: int, flag: str = "data.validation_fraction"
) -> tuple[Dataset, Dataset]:
    """Divide rows at random, the second part being `fraction` of them, with each class's share kept where possible."""
    held_out = ceil(fraction * len(rows))
    if round(fraction * len(rows)) < 1 or held_out == len(rows):
        raise UserError(f"{flag} {fraction}: of {len(rows)} images this leaves one side without any; give another.")
    labels = class_indices(rows, label)
    counts = np.unique(labels, return_counts=True)[1]
    if counts.min() < 2 or len(counts) > min(held_out, len(rows) - held_out):
        parts = rows.train_test_split(test_size=fraction, seed=seed)
        return parts["train"], parts["test"]
    sizes = len(rows) - held_out, held_out
    first, second = stratified_indices(labels, sizes, np.random.default_rng(seed))
    return rows.select(first), rows.select(second)


def class_counts(rows: Dataset, label: str, classes: int) -> list[int]:
    """Return the number of rows of each class."""
    return np.bincount(class_indices(rows, label), minlength=classes).tolist()


def class_indices(rows: Dataset, label: str) -> NDArray[np.int64]:
    """Return the class indices `(N,)`, without touching the images."""
    return np.asarray(rows.select_columns(label).with_format("numpy")[:][label], dtype=np.int64)


def stream_rows(config: DataConfig, stage: str) -> ChosenRows:
    """Open the dataset as a stream; it has to name its classes, and to have a validation split.

    Args:
        config: The data module's settings.
        stage: fit, validate, test or predict.

    Raises:
        UserError: for what is not there, or ambiguous, or can't be done with a stream.
    """
    opened = open_source(config.path, config.name, config.revision, streaming=True)
    return replace(_streamed(IterableDatasetDict(opened.splits), config, stage), commit=opened.commit)


def _streamed(splits: IterableDatasetDict, config: DataConfig, stage: str) -> ChosenRows:
    train = config.train_split
    _check_split(splits, "data.train_split", train)
    image, label = _stream_columns(splits[train], config)
    validation = _stream_validation(splits, label, config)
    encoded = {name: rows.cast_column(image, Image(decode=False)) for name, rows in splits.items()}
    tested = "test" if stage == "test" and "test" in encoded and _labelled(encoded["test"], label) else validation
    rows = {"train": encoded[train], "validate": encoded[validation], "test": encoded[tested]}
    note = f"{'test' if stage == 'test' else 'validation'} on the split '{tested}', streamed"
    return ChosenRows(rows, image, label, list(splits[train].features[label].names), note)


def _stream_columns(rows: IterableDataset, config: DataConfig) -> tuple[str, str]:
    features = rows.features
    if features is None:
        raise UserError(
            f"data.streaming: the columns of {config.path!r} are not known before it is read; set streaming false."
        )
    image, label = image_column(features, config.image_column), label_column(features, config.label_column)
    if not isinstance(features[label], ClassLabel):
        raise UserError(
            f"data.label_column {label!r}: a stream must name its classes (ClassLabel), and this column holds "
            f"{features[label].dtype}. Choose another with --data.label_column, or set --data.streaming false."
        )
    return image, label


def _stream_validation(splits: IterableDatasetDict, label: str, config: DataConfig) -> str:
    train, validation = config.train_split, config.validation_split or _validation_name(splits, config.train_split)
    if validation is None:
        raise UserError(
            f"data.streaming: {config.path!r} has no validation split (splits: {', '.join(splits)}), and a stream "
            "can't be divided. Name one with --data.validation_split, or set --data.streaming false."
        )
    if validation == train:
        raise UserError(f"data.validation_split {validation!r}: this is the training split; give another.")
    names = {split: (splits[split].features or {}).get(label) for split in (train, validation)}
    if names[train] != names[validation]:
        raise UserError(
            f"data.label_column {label!r}: splits {train!r} and {validation!r} have different classes. "
            "Give splits with the same classes."
        )
    return validation


def _labelled(rows: IterableDataset, label: str) -> bool:
    """Return whether the first row has a label: ImageNet's test images have none."""
    return next(iter(rows.select_columns(label)), {label: None})[label] not in (None, -1)


def _check_split(splits: Mapping[str, Any], flag: str, name: str) -> None:
    """Raise `UserError` when there is no split of this name, or nothing in it."""
    if name not in splits:
        hint = did_you_mean(name, splits)
        raise UserError(f"{flag} {name!r}: no such split{hint}; the splits are {', '.join(splits)}.")
    if isinstance(splits[name], Dataset) and not len(splits[name]):
        raise UserError(f"{flag} {name!r}: this split has no rows.")


def _validation_name(splits: Mapping[str, Any], train: str) -> str | None:
    """Return the first of validation, valid, val and dev other than the training split."""
    return next((name for name in _VALIDATION_NAMES if name in splits and name != train), None)
