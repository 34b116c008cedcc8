"""Which rows train and which validate."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import Any

import numpy as np
from datasets import Dataset, DatasetDict
from datasets.utils.stratify import stratified_shuffle_split_generate_indices

from shvit_pl.errors import UserError, did_you_mean

VALIDATION_NAMES = ("validation", "valid", "val", "dev")


def used_splits(splits: DatasetDict, train: str, validation: str | None) -> DatasetDict:
    """The splits that a training uses, in this order: training, validation if there is one, and `test` if there is one.

    Args:
        splits: All splits of the dataset.
        train: Name of the training split.
        validation: Name of the validation split; by default the first of validation, valid, val and dev.

    Raises:
        UserError: when a named split is not there, empty, or named twice.
    """
    check_split(splits, "data.train_split", train)
    if validation is not None:
        check_split(splits, "data.validation_split", validation)
    if validation == train:
        raise UserError(f"data.validation_split {validation!r}: this is the training split; give another, or none.")
    names = (train, validation or validation_name(splits, train), "test")
    return DatasetDict({name: splits[name] for name in names if name in splits and len(splits[name])})


def train_and_validation(
    splits: DatasetDict, train: str, validation: str | None, fraction: float, label: str, seed: int
) -> tuple[Dataset, Dataset, str]:
    """Choose both splits, and say how.

    Args:
        splits: The splits that have labels.
        train: Name of the training split.
        validation: Name of the validation split; by default the first of validation, valid, val and dev.
        fraction: Share of the training split that validates where there is no such split.
        label: Label column of class indices, to keep the classes' shares.
        seed: Seed of that division.

    Returns:
        Training rows, validation rows, and a sentence about where the latter come from.
    """
    for flag, name in (("data.train_split", train), ("data.validation_split", validation)):
        if name is not None and name not in splits:
            raise UserError(
                f"{flag} {name!r}: no row of it has a label; the splits with labels are {', '.join(splits)}."
            )
    validation = validation or validation_name(splits, train)
    if validation is not None:
        _check_same_classes(splits[train], splits[validation], label)
        return splits[train], splits[validation], f"validation on the split '{validation}'"
    rows, held_out = divide(splits[train], fraction, label, seed)
    return rows, held_out, f"no validation split: {fraction:.0%} of '{train}' held out (seed {seed})"


def divide(
    rows: Dataset, fraction: float, label: str, seed: int, flag: str = "data.validation_fraction"
) -> tuple[Dataset, Dataset]:
    """Divide rows at random, the second part being `fraction` of them, with each class's share kept where possible."""
    if not 0 < fraction < 1:
        raise UserError(f"{flag} {fraction}: allowed is above 0 and below 1.")
    held_out = ceil(fraction * len(rows))
    if round(fraction * len(rows)) < 1 or held_out == len(rows):
        raise UserError(f"{flag} {fraction}: of {len(rows)} images this leaves one side without any; give another.")
    labels = class_indices(rows, label)
    counts = np.unique(labels, return_counts=True)[1]
    if counts.min() < 2 or len(counts) > min(held_out, len(rows) - held_out):
        parts = rows.train_test_split(test_size=fraction, seed=seed)
        return parts["train"], parts["test"]
    # as train_test_split(stratify_by_column=label), which takes a minute for the labels of a million rows
    generator = np.random.default_rng(seed)
    sizes = len(rows) - held_out, held_out
    kept, left = next(stratified_shuffle_split_generate_indices(labels, *sizes, rng=generator))
    return rows.select(kept), rows.select(left)


def unlabelled_note(used: DatasetDict, labelled: DatasetDict) -> str:
    """What to add about splits that are there but have no labels, so that nothing can be measured on them."""
    return "".join(f"; the split '{name}' has no labels and is left out" for name in used if name not in labelled)


def check_split(splits: Mapping[str, Any], flag: str, name: str) -> None:
    """Raise `UserError` when there is no split of this name, or nothing in it."""
    if name not in splits:
        hint = did_you_mean(name, splits)
        raise UserError(f"{flag} {name!r}: no such split{hint}; the splits are {', '.join(splits)}.")
    if isinstance(splits[name], Dataset) and not len(splits[name]):
        raise UserError(f"{flag} {name!r}: this split has no rows.")


def validation_name(splits: Mapping[str, Any], train: str) -> str | None:
    """The first of validation, valid, val and dev that there is beside the training split."""
    return next((name for name in VALIDATION_NAMES if name in splits and name != train), None)


def _check_same_classes(train: Dataset, validation: Dataset, label: str) -> None:
    """Raise `UserError` for classes that are validated and never trained, as of other class folders in each split."""
    names = train.features[label].names
    seen, asked = (class_counts(rows, label, len(names)) for rows in (train, validation))
    unknown = [name for name, trained, count in zip(names, seen, asked, strict=True) if count and not trained]
    if unknown:
        raise UserError(
            f"data.path: the validation images have {len(unknown)} classes of which there is no training image "
            f"({', '.join(unknown[:5])}). Give both splits the same classes."
        )


def class_counts(rows: Dataset, label: str, classes: int) -> list[int]:
    """Number of rows of each class."""
    return np.bincount(class_indices(rows, label), minlength=classes).tolist()


def class_indices(rows: Dataset, label: str) -> Any:
    """Class indices as a NumPy array, without touching the images."""
    return np.asarray(rows.select_columns(label).with_format("numpy")[:][label], dtype=np.int64)
