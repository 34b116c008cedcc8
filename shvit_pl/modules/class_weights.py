"""Weights of the classes in the loss, where some have many more images than others."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from shvit_pl.errors import UserError, did_you_mean, first_few
from shvit_pl.modules.config import ClassWeights

BETA = 0.9999  # of the effective number, as Cui et al. 2019 chose for large datasets
FLAG = "model.class_weights"
_ADVISED = 10.0  # images of the largest class for one of the smallest, above which something is advised


def class_weights(asked: ClassWeights, names: Sequence[str], counts: Sequence[int] | None) -> Tensor:
    """Return the weights `(classes,)` that are asked for, of mean 1 over the training images.

    With n images, K classes and n_k images of class k, `balanced` is n / (K n_k) (King & Zeng 2001, scikit-learn), and
    `effective` is proportional to (1 - beta) / (1 - beta^n_k) (Cui et al. 2019). Where `counts` are not known, the mean
    is over the classes.

    Raises:
        UserError: for weights of other classes, `balanced` or `effective` without counts, and a class without images,
            whose weight would be infinite.
    """
    if isinstance(asked, str):
        weights = _of_counts(asked, names, counts)
    else:
        weights = torch.tensor(_given(asked, names), dtype=torch.float64)
    images = torch.tensor(counts or [1] * len(names), dtype=torch.float64)
    mean = (weights * images).sum() / images.sum()
    if mean == 0:
        raise UserError(
            f"{FLAG}: all classes with training images have the weight 0; give one of them a weight above 0."
        )
    return (weights / mean).float()


def _of_counts(asked: str, names: Sequence[str], counts: Sequence[int] | None) -> Tensor:
    if counts is None:
        raise UserError(
            f"{FLAG} {asked}: the images of each class can't be counted in this data. Give numbers, one for each of "
            f"the {len(names)} classes."
        )
    if none := [name for name, count in zip(names, counts, strict=True) if count == 0]:
        raise UserError(
            f"{FLAG} {asked}: {len(none)} of {len(names)} classes have no training image ({first_few(none)}), so their "
            "weights would be infinite. Give numbers, or data of all classes."
        )
    images = torch.tensor(counts, dtype=torch.float64)
    return 1 / images if asked == "balanced" else (1 - BETA) / (1 - BETA**images)


def _given(asked: Any, names: Sequence[str]) -> list[float]:
    if not isinstance(asked, Mapping):
        if len(asked) != len(names):
            raise UserError(
                f"{FLAG}: it has {len(asked)} numbers, and there are {len(names)} classes ({first_few(names)}). Give "
                "one for each, in this order."
            )
        return list(asked)
    by_name = {str(name): value for name, value in asked.items()}
    if unknown := [name for name in by_name if name not in names]:
        raise UserError(
            f"{FLAG}: no class {first_few(unknown)}{did_you_mean(unknown[0], names)}; the {len(names)} classes are "
            f"{first_few(names)}. Give weights for these."
        )
    return [by_name.get(name, 1.0) for name in names]


def balance(counts: Sequence[int] | None, asked: ClassWeights | None, sampler: str) -> dict[str, str]:
    """Return the row of a run's table on the ratio of largest to smallest class, and what is done about it."""
    present = [count for count in counts or () if count]
    if not present:
        return {}
    ratio = max(present) / min(present)
    weighed = asked if isinstance(asked, str) else "as given"
    notes = [
        f"largest to smallest {ratio:.3g} : 1",
        f"weighed in the loss ({FLAG} {weighed})" if asked is not None else "",
        f"drawn equally often (data.sampler {sampler})" if sampler != "random" else "",
    ]
    if ratio > _ADVISED and asked is None and sampler == "random":
        notes.append(f"the small ones may be neglected: try --{FLAG} balanced, or --data.sampler balanced")
    return {"balance": "; ".join(filter(None, notes))}
