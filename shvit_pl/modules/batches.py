"""Data that isn't our data module's: batches in any of the usual forms, and the classes that a data module names."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, Subset

from shvit_pl.data import transforms
from shvit_pl.data.decoding import IGNORED
from shvit_pl.errors import UserError

_IMAGES = ("image", "images", "pixel_values", "img", "x")
_LABELS = ("label", "labels", "target", "y")
_ACCEPTED = (
    f"Accepted are (images, labels), and a dict with images under {', '.join(_IMAGES)} and labels under "
    f"{', '.join(_LABELS)}."
)


def named_batch(batch: Any, channels: int | None = None) -> transforms.Batch:
    """Return a batch with `image` and, where it has labels, `label`; raises `UserError` for one without images."""
    if not isinstance(batch, Mapping):
        parts = batch if isinstance(batch, list | tuple) else [batch]
        named = dict(zip(("image", "label"), parts, strict=False))
    elif "image" in batch and "label" in batch:  # our data module's, whose `target` goes with them
        named = dict(batch)
    else:
        named = dict(batch)
        for name, keys in (("image", _IMAGES), ("label", _LABELS)):
            key = next((key for key in keys if key in named), None)
            if key is not None:
                named[name] = named.pop(key)
    images = named.get("image")
    if (
        not isinstance(images, Tensor)
        or images.ndim != 4
        or images.shape[1] != (channels or images.shape[1])
        or not images.is_floating_point()
    ):
        has = f"the keys {', '.join(map(str, batch))}" if isinstance(batch, Mapping) else f"a {type(batch).__name__}"
        found = f"{images.dtype} of shape {list(images.shape)}" if isinstance(images, Tensor) else f"none in {has}"
        raise UserError(
            f"batch: images are a tensor of floats (B, {channels or 3}, S, S), normalized; found {found}. {_ACCEPTED}"
        )
    return named


def labeled_batch(batch: Any, classes: int, soft: bool = False, channels: int | None = None) -> transforms.Batch:
    """Return a named batch whose labels are int64 `(B,)`; `soft`: or floats `(B, classes)`.

    Raises `UserError` for a batch without labels, and for those of other classes where they are on the CPU.
    """
    named = named_batch(batch, channels)
    labels, images = named.get("label"), named["image"]
    if labels is None:
        raise UserError(f"batch: it has no labels, which training and evaluation need. {_ACCEPTED}")
    if isinstance(labels, Tensor) and labels.shape == (len(images), 1) and not labels.is_floating_point():
        labels = labels[:, 0]
    is_soft = isinstance(labels, Tensor) and labels.is_floating_point() and labels.shape == (len(images), classes)
    if is_soft and soft:
        return {**named, "label": labels}
    if not isinstance(labels, Tensor) or labels.shape != (len(images),) or labels.is_floating_point():
        shown = f"{labels.dtype} of shape {list(labels.shape)}" if isinstance(labels, Tensor) else type(labels).__name__
        mixed = f"; in training also floats (B, {classes})" if soft or is_soft else ""
        raise UserError(f"batch: labels are whole numbers (B,), the indices of classes{mixed}; found {shown}.")
    if labels.device.type == "cpu":  # reading them from another device would wait for it
        check_labels(labels, classes)
    return {**named, "label": labels.long()}


def check_labels(labels: Tensor, classes: int) -> None:
    """Raise `UserError` for a label that is no class, nor -1 for an image that doesn't count."""
    wrong = labels[(labels < IGNORED) | (labels >= classes)]
    if len(wrong):
        raise UserError(
            f"batch: there is the label {int(wrong[0])}, and the model has {classes} classes, 0 to {classes - 1}. Give "
            "it the class_names of all classes, or number the labels from 0."
        )


def classes_of(data: Any) -> list[str] | int | None:
    """Return the class names that a data module has as `class_names` or `classes`, or their number."""
    for name in ("class_names", "classes", "num_classes"):
        value = getattr(data, name, None)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        if isinstance(value, Sequence) and not isinstance(value, str) and len(value):
            return [str(each) for each in value]
    return None


def images_of_batch(loader: Any) -> int:
    """Return the images of a loader's batch: what it says, or what its first batch has."""
    size = getattr(loader, "batch_size", None) or getattr(getattr(loader, "batch_sampler", None), "batch_size", None)
    return int(size) if size else len(named_batch(next(iter(loader)))["image"])


def sample_of(loader: Any, prepare: Callable[[Any], Any], classes: int, most: int = 256) -> Iterator[transforms.Batch]:
    """Yield labeled batches of about so many images, evenly spaced where the loader's dataset has an index."""
    if isinstance(loader, DataLoader) and not isinstance(loader.dataset, IterableDataset):
        indices = list(loader.sampler)
        spaced = torch.linspace(0, len(indices) - 1, min(most, len(indices))).long().tolist()
        chosen: Any = Subset(loader.dataset, [indices[place] for place in spaced])
        loader = DataLoader(chosen, batch_size=64, collate_fn=loader.collate_fn)
    seen = 0
    for batch in islice(loader, most):
        yield (labeled := labeled_batch(prepare(batch), classes))
        seen += len(labeled["image"])
        if seen >= most:
            return
