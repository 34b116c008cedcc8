"""The network that is studied, its layers, its images, and what its answers are compared with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from shvit_pl.analysis.heads.attention.layers import AttentionLayer, attention_layers
from shvit_pl.analysis.heads.reference import Reference, reference
from shvit_pl.analysis.heads.request import Request
from shvit_pl.data.batch_transform import denormalize
from shvit_pl.data.dataset import IGNORED
from shvit_pl.data.loaders import workers_for
from shvit_pl.deploy.fusing import check_size
from shvit_pl.deploy.images import RealImages
from shvit_pl.deploy.measuring import chosen_device
from shvit_pl.errors import UserError, one_line
from shvit_pl.models.open_network import OpenedNetwork, open_network
from shvit_pl.randomness import seeded


@dataclass(frozen=True)
class Subject:
    """What is studied, and on what.

    Attributes:
        opened: The network; its model is on `device`.
        layers: Of attention, in the order of execution.
        images: As the network takes them.
        image_size: Their side in pixels.
        reference: What top-1 is measured against.
        looked_at: Numbers of the validation images for similarity and maps, evenly spaced.
        scored: Likewise, for top-1.
        batch_size: Images at once.
        device: What computes.
    """

    opened: OpenedNetwork
    layers: list[AttentionLayer]
    images: RealImages
    image_size: int
    reference: Reference
    looked_at: list[int]
    scored: list[int]
    batch_size: int
    device: torch.device

    @property
    def name(self) -> str:
        """The network's, short."""
        return _short(self.opened.name)

    @property
    def data(self) -> str:
        """The dataset's name, short."""
        return _short(self.images.path)

    def batches(self, rows: list[int], done: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Images `(B, 3, S, S)` on the device and labels `(B,)`, from batch `done` on; broken images are left out."""
        left = rows[done * self.batch_size :]
        for images, labels in self.images.batches(left, self.batch_size, workers_for(None, self.device.type)):
            whole = labels != IGNORED
            yield images[whole].to(self.device), labels[whole].to(self.device)

    def pixels(self, images: Tensor) -> Tensor:
        """Images as they were before the normalisation: from 0 to 1."""
        return denormalize(images, tuple(self.opened.mean), tuple(self.opened.std))

    def number_of_batches(self, rows: list[int]) -> int:
        """Batches that these images make."""
        return -(-len(rows) // self.batch_size)


def open_subject(request: Request, opened: OpenedNetwork | None = None) -> Subject:
    """Open network and data.

    Args:
        request: What was asked for.
        opened: The network, where it is open already (default: `request.network`; fresh weights are drawn by seed 0,
            so that the same command studies the same network).

    Raises:
        UserError: for what is not there, or does not fit together.
    """
    device = chosen_device(request.device)
    if opened is None:
        with seeded(0):
            opened = open_network(
                request.network,
                request.averaged,
                request.pretrained,
                request.image_size,
                request.checkpoint,
                request.model_kwargs,
            )
    size = request.image_size or opened.image_size
    _check(opened, size)
    opened.model.to(device)
    layers = _layers(opened, size, device)
    images = _open_images(opened, size, request.data)
    looked_at = _spaced(images.rows, request.images)
    if request.image is not None and request.image >= len(looked_at):
        raise UserError(f"--image {request.image}: allowed are 0 to {len(looked_at) - 1}, the images that there are.")
    against = reference(opened, images, request.labels)
    scored = _spaced(images.rows, request.ablation_images or images.rows)
    return Subject(opened, layers, images, size, against, looked_at, scored, request.batch_size, device)


def _check(opened: OpenedNetwork, size: int) -> None:
    if not opened.model.num_classes:
        raise UserError(
            f"{opened.name!r}: not a classifier (it has no classes, only features). Give a network that was trained "
            "to classify, or one with a classifier by --model_kwargs '{num_classes: 1000}'."
        )
    check_size(opened, size)


def _layers(opened: OpenedNetwork, size: int, device: torch.device) -> list[AttentionLayer]:
    try:
        return attention_layers(opened.model, torch.zeros(1, 3, size, size, device=device))
    except (AssertionError, RuntimeError) as error:
        raise UserError(
            f"{opened.name!r}: it can't be run on an image of {size} pixels ({one_line(error)[:200]}). Give another "
            "--image_size or --device, or leave them out."
        ) from error


def _open_images(opened: OpenedNetwork, size: int, path: str | None) -> RealImages:
    """Of a model of timm, which no run of ours has trained, the images are all that there are to evaluate."""
    try:
        return RealImages(opened, size, path, normalised=True, held_out=opened.origin != "timm")
    except UserError as error:
        raise UserError(str(error).replace("data.path", "--data")) from error


def _spaced(rows: int, most: int) -> list[int]:
    """Evenly, as data may be sorted by class."""
    chosen = min(most, rows)
    return [number * rows // chosen for number in range(chosen)]


def _short(name: str) -> str:
    """A folder by its last names, anything else as it was given."""
    path = Path(name)
    return "/".join(path.parts[-2:]) if path.exists() else name
