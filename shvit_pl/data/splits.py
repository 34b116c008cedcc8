"""Which rows train and which validate."""

from __future__ import annotations

from datasets import ClassLabel, Dataset, DatasetDict

from shvit_pl.errors import UserError, did_you_mean

VALIDATION_NAMES = ("validation", "valid", "val", "dev")


def train_and_validation(
    splits: DatasetDict, train: str, validation: str | None, fraction: float, label: str, seed: int
) -> tuple[Dataset, Dataset, str]:
    """Choose both splits, and say how.

    Args:
        splits: All splits of the dataset.
        train: Name of the training split.
        validation: Name of the validation split; by default the first of validation, valid, val and dev.
        fraction: Share of the training split that validates where there is no such split.
        label: Label column, to keep the classes' shares.
        seed: Seed of that division.

    Returns:
        Training rows, validation rows, and a sentence about where the latter come from.
    """
    check_split(splits, "data.train_split", train)
    if validation is not None:
        check_split(splits, "data.validation_split", validation)
    else:
        validation = next((name for name in VALIDATION_NAMES if name in splits and name != train), None)
    if validation is not None:
        return splits[train], splits[validation], f"validation on the split '{validation}'"
    rows, held_out = divide(splits[train], fraction, label, seed)
    return rows, held_out, f"no validation split: {fraction:.0%} of '{train}' held out (seed {seed})"


def divide(rows: Dataset, fraction: float, label: str, seed: int) -> tuple[Dataset, Dataset]:
    """Divide rows at random, the second part being `fraction` of them, with each class's share kept where possible."""
    if not 0 < fraction < 1:
        raise UserError(f"data.validation_fraction {fraction}: allowed is above 0 and below 1.")
    classes = rows.features[label].num_classes if isinstance(rows.features[label], ClassLabel) else 0
    smallest = min(fraction, 1 - fraction) * len(rows)
    stratify = label if 0 < classes <= smallest and _all_classes_twice(rows, label) else None
    if not 1 <= round(fraction * len(rows)) < len(rows):
        raise UserError(f"a share of {fraction} of {len(rows)} images leaves one side without any; give another share.")
    parts = rows.train_test_split(test_size=fraction, seed=seed, stratify_by_column=stratify)
    return parts["train"], parts["test"]


def check_split(splits: DatasetDict, flag: str, name: str) -> None:
    """Raise `UserError` when there is no split of this name."""
    if name not in splits:
        hint = did_you_mean(name, splits)
        raise UserError(f"{flag} {name!r}: no such split{hint}; the splits are {', '.join(splits)}.")


def _all_classes_twice(rows: Dataset, label: str) -> bool:
    counts: dict[int, int] = {}
    for value in rows[label][:]:
        counts[value] = counts.get(value, 0) + 1
    return min(counts.values()) >= 2
