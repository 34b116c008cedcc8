"""Divisions of the training rows that keep groups whole: folds of a cross-validation, and a part that is held out."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from datasets import ClassLabel, Dataset, Value
from numpy.typing import NDArray

from shvit_pl.data.config import DataConfig
from shvit_pl.errors import UserError, did_you_mean, first_names

_GROUP_TYPES = ("string", "large_string", "string_view", "bool")
_ORDERS = 10  # of the groups, among whose equally large parts the one with the classes' shares is taken
Indices = NDArray[np.int64]


def fold_of_rows(labels: Indices, folds: int, seed: int, groups: Indices | None = None) -> Indices:
    """Return the fold of each row, counted from 0 `(N,)`, with each class's share kept as far as groups allow.

    Without groups, the rows of each class are shuffled and dealt to the folds in turn, class after class, so that sizes
    differ by one at most, as do a class's numbers. With groups, the rule is scikit-learn's of `StratifiedGroupKFold`:
    the groups in which classes differ most come first (shuffled where equal), and each goes to the fold where the
    classes' shares then vary least between folds, to the smaller one of equals.

    Args:
        labels: Class indices `(N,)`.
        folds: Number of folds, at most that of rows or groups.
        seed: Seed of the shuffling.
        groups: Group indices `(N,)`.
    """
    generator = np.random.default_rng(seed)
    if groups is None:
        shuffled = generator.permutation(len(labels))
        dealt = np.empty(len(labels), dtype=np.int64)
        dealt[shuffled[np.argsort(labels[shuffled], kind="stable")]] = np.arange(len(labels)) % folds
        return dealt
    counts = _class_counts(groups, labels)
    order = generator.permutation(len(counts))
    order = order[np.argsort(-counts[order].std(axis=1), kind="stable")]
    shares, sizes = counts / counts.sum(axis=0), counts.sum(axis=1)  # (groups, classes), (groups,)
    held, images = np.zeros((folds, shares.shape[1])), np.zeros(folds)
    fold_of_group = np.empty(len(counts), dtype=np.int64)
    for group in order:
        grown = held + shares[group]  # (folds, classes), as if each fold had it
        squares = (held**2).sum(axis=0) - held**2 + grown**2
        mean = (held.sum(axis=0) + shares[group]) / folds
        spread = np.sqrt(np.maximum(squares / folds - mean**2, 0)).mean(axis=1)  # (folds,)
        fold = np.where(np.isclose(spread, spread.min()), images, np.inf).argmin()
        held[fold], images[fold], fold_of_group[group] = grown[fold], images[fold] + sizes[group], fold
    return fold_of_group[groups]


def held_out_rows(labels: Indices, groups: Indices, fraction: float, seed: int) -> NDArray[np.bool_]:
    """Return which rows `(N,)` are held out: whole groups, with as near to `fraction` of the rows as any have.

    Of several such parts, one that leaves rows of every class to train on comes first, then the one whose classes'
    shares are nearest to the fraction.
    """
    counts = _class_counts(groups, labels)
    sizes, totals = counts.sum(axis=1).astype(np.int64), counts.sum(axis=0)
    found = list[tuple[tuple[float, ...], NDArray[np.bool_]]]()
    for number in range(_ORDERS):
        order = np.random.default_rng((seed, number)).permutation(len(sizes))
        chosen = _nearest_sum(sizes, order, fraction * len(labels))
        shares = counts[chosen].sum(axis=0) / totals
        found.append(((float((shares == 1).sum()), float(np.abs(shares - fraction).sum())), chosen))
    return min(found, key=lambda pair: pair[0])[1][groups]


def _nearest_sum(sizes: Indices, order: Indices, target: float) -> NDArray[np.bool_]:
    """Return some of the sizes `(groups,)`, not all, whose sum is as near to the target as possible, by their order."""
    most = int(sizes.sum()) - 1
    reached, last = np.zeros(most + 1, dtype=bool), np.zeros(most + 1, dtype=np.int64)  # the size that completed a sum
    reached[0] = True
    for group in order:
        size = sizes[group]
        new = np.flatnonzero(reached[: max(0, most + 1 - size)] & ~reached[size:]) + size
        reached[new], last[new] = True, group
        if reached[min(most, max(1, round(target)))]:
            break
    sums = np.flatnonzero(reached)[1:]
    left, chosen = int(sums[np.abs(sums - target).argmin()]), np.zeros(len(sizes), dtype=bool)
    while left:
        chosen[last[left]] = True
        left -= int(sizes[last[left]])
    return chosen


def _class_counts(groups: Indices, labels: Indices) -> NDArray[np.float64]:
    """Return the rows of each group and class that there is `(groups, classes)`."""
    counts = np.zeros((groups.max() + 1, labels.max() + 1))
    np.add.at(counts, (groups, labels), 1)
    return counts[:, counts.any(axis=0)]


# ---- the rows of a dataset


def divided(
    rows: Dataset, name: str, labels: Indices, config: DataConfig, others: Sequence[str]
) -> tuple[Dataset, Dataset, str]:
    """Divide the rows of a split into whole groups, or folds: those to train on and to validate, and where from.

    `others` are the columns of images and labels. Raises `UserError` for fewer groups or images than folds.
    """
    groups, most, what = None, len(rows), "images"
    if config.split_by is not None:
        groups, most = _numbered(group_names(rows, config.split_by, others))
        what = f"groups by {config.split_by}"
    if most < 2:
        raise UserError(
            f"data.split_by {config.split_by!r}: all images of '{name}' are of one group, so none can be held out. "
            "Give a column with two or more."
        )
    if config.part is None:
        assert groups is not None
        chosen = held_out_rows(labels, groups, config.validation_fraction, config.split_seed)
        held = len(np.unique(groups[chosen]))
        note = f"no validation split: {held} of {most} {what} held out, {chosen.mean():.0%} of '{name}'"
    else:
        number, count = config.part
        if count > most:
            raise UserError(
                f"data.fold {config.fold!r}: '{name}' has only {most} {what}; allowed are up to {most} folds, such as "
                f"1/{most}."
            )
        chosen = fold_of_rows(labels, count, config.split_seed, groups) == number - 1
        note = f"validation on fold {config.fold} of '{name}'" + (f", {most} {what} kept whole" * (groups is not None))
    parts = rows.select(np.flatnonzero(~chosen)), rows.select(np.flatnonzero(chosen))
    return *parts, f"{note} (seed {config.split_seed})"


def check_groups(
    splits: Mapping[str, Dataset], train: str, validation: str, config: DataConfig, others: Sequence[str]
) -> str:
    """Return a note on the groups of both splits; raises `UserError` for those that are in both."""
    if config.split_by is None:
        return ""
    if shared := _shared(splits, train, validation, config.split_by, others):
        raise UserError(
            f"data.split_by {config.split_by!r}: {len(shared)} groups are in both '{train}' and '{validation}' "
            f"({first_names(shared)}). Divide the splits by groups, or validate on a part of '{train}' by "
            "--data.fold 1/5."
        )
    note = f", which shares no {config.split_by} with '{train}'"
    return note + shared_with_test(splits, train, config, others)


def shared_with_test(splits: Mapping[str, Dataset], train: str, config: DataConfig, others: Sequence[str]) -> str:
    """Say how many groups of the test split are trained on; empty for none."""
    if config.split_by is None or "test" not in splits or config.split_by not in splits["test"].features:
        return ""
    shared = _shared(splits, train, "test", config.split_by, others)
    return f"; {len(shared)} groups of 'test' are also in '{train}' ({first_names(shared)})" if shared else ""


def _shared(splits: Mapping[str, Dataset], one: str, other: str, column: str, others: Sequence[str]) -> list[str]:
    names = [set(group_names(splits[name], column, others)) for name in (one, other)]
    return sorted(names[0] & names[1])


def group_names(rows: Dataset, column: str, others: Sequence[str]) -> list[str]:
    """Return the group of each row of a split, as text; raises `UserError` for a column that can't be one of groups.

    `others` are the columns of images and labels.
    """
    features, flag = rows.features, f"data.split_by {column!r}"
    if column not in features or column in others:
        reason = f"no such column{did_you_mean(column, features)}" if column not in features else "it holds no groups"
        rest = [name for name in features if name not in others]
        known = f"give one of {first_names(rest, 8)}" if rest else "give a table with one (CSV), or leave it out"
        raise UserError(f"{flag}: {reason}; besides images and labels there are {len(rest)} columns, {known}.")
    feature = features[column]
    kind = getattr(feature, "dtype", "")
    if not isinstance(feature, ClassLabel | Value) or not (kind in _GROUP_TYPES or "int" in kind):
        held = kind if isinstance(feature, Value) else type(feature).__name__
        raise UserError(f"{flag}: contains {held}, where a text or whole number is needed.")
    values = rows.select_columns(column)[:][column]
    none = (None, -1) if isinstance(feature, ClassLabel) else (None,)
    missing = [number for number, value in enumerate(values) if value in none]
    if missing:
        raise UserError(
            f"{flag}: {len(missing)} of {len(values)} rows have no group, the first of them is row {missing[0] + 1}. "
            "Give each one, its own if it belongs to no other."
        )
    return [feature.names[value] if isinstance(feature, ClassLabel) else str(value) for value in values]


def _numbered(names: Sequence[str]) -> tuple[Indices, int]:
    """Return the index of each row's group `(N,)`, and the number of groups."""
    indices, different = pd.factorize(np.asarray(names, dtype=object), sort=True)
    return indices.astype(np.int64), len(different)
