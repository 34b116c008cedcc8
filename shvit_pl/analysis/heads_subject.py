"""The subject of a study: a network, its attention layers, its images, and the targets of its predictions."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from shvit_pl.analysis import command, study
from shvit_pl.analysis.attention_layers import AttentionLayer, attention_layers
from shvit_pl.data import decoding, loaders
from shvit_pl.deploy import measuring, passes
from shvit_pl.deploy.images import RealImages
from shvit_pl.errors import UserError
from shvit_pl.models.open_network import OpenedNetwork
from shvit_pl.randomness import seeded
from shvit_pl.teachers.classes import same_classes


@dataclass(frozen=True)
class Reference:
    """The targets that a network's predictions are compared with."""

    labels: command.Labels
    """The dataset's labels, or the intact network's predictions."""
    why: str = ""
    """Reason for taking the intact network's."""

    @property
    def score(self) -> str:
        """Name of the share of matching predictions."""
        return "top-1" if self.labels == "dataset" else "agreement with the intact network"

    @property
    def short_score(self) -> str:
        """Name of the score in a word."""
        return self.score.partition(" with")[0]

    @property
    def sentence(self) -> str:
        """The score in a sentence, with the reason."""
        if self.labels == "dataset":
            return "top-1 against the dataset's labels"
        return f"agreement with the intact network instead of top-1, as {self.why}"


@dataclass(frozen=True)
class Subject:
    """A network on a device, with its images and the options of its study."""

    options: command.HeadsOptions
    opened: OpenedNetwork
    """The network; its model is on `device`."""
    layers: list[AttentionLayer]
    images: RealImages
    """Images as the network takes them."""
    image_size: int
    reference: Reference
    compared_rows: list[int]
    """Numbers of the validation images for similarity and maps, evenly spaced."""
    scored_rows: list[int]
    """Numbers of the validation images for top-1, evenly spaced."""
    device: torch.device

    @property
    def name(self) -> str:
        """Short name of the network."""
        return _short_name(self.opened.name)

    @property
    def data(self) -> str:
        """Short name of the dataset."""
        return _short_name(self.images.path)

    @property
    def prefix_tokens(self) -> int:
        """Number of tokens before those of the image, such as the class token."""
        return int(getattr(self.opened.model, "num_prefix_tokens", 0))

    def batches(self, rows: list[int]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield images `(B, 3, S, S)` on the device and labels `(B,)`, without broken images."""
        workers = loaders.workers_for(None, self.device.type)
        for images, labels in self.images.batches(rows, self.options.batch_size, workers):
            whole = labels != decoding.IGNORED
            if whole.any():
                yield images[whole].to(self.device), labels[whole].to(self.device)

    def number_of_batches(self, rows: list[int]) -> int:
        """Return the number of batches that these images make."""
        return -(-len(rows) // self.options.batch_size)


def _short_name(name: str) -> str:
    """Return a folder's last two names, and anything else as it is."""
    path = Path(name)
    return "/".join(path.parts[-2:]) if path.exists() else name


def open_subject(options: command.HeadsOptions) -> Subject:
    """Open network and data; fresh weights are drawn by seed 0, to be the same every time.

    Raises `UserError` for what is not there, or does not fit together.
    """
    settings = {
        "pretrained": options.pretrained,
        "image_size": options.image_size,
        "weights": options.checkpoint,
        "model_kwargs": options.model_kwargs,
    }
    device = measuring.chosen_device(options.device)
    with seeded(0):
        opened = measuring.open_weights(options.network, options.weights, **settings)
    if not opened.model.num_classes:
        raise UserError(
            f"{opened.name!r}: not a classifier (it has no classes, only features). Give a network that was trained "
            "to classify, or one with a classifier by --model_kwargs '{num_classes: 1000}'."
        )
    size = options.image_size or opened.image_size
    passes.check_size(opened, size)
    with study.device_errors(f"{opened.name!r}, an image of {size} pixels", "--image_size or --device"):
        opened.model.to(device)
        layers = attention_layers(opened.model, torch.zeros(1, opened.in_chans, size, size, device=device))
    try:  # no run of ours trained a model of timm, so all images of the split count
        held_out, labeled = opened.origin != "timm", options.labels == "dataset"
        images = RealImages(opened, size, options.data, True, held_out, labeled)
    except UserError as error:
        raise UserError(str(error).replace("data.path", "--data")) from error
    compared_rows = _evenly_spaced(images.rows, options.images)
    if options.image is not None and options.image >= len(compared_rows):
        raise UserError(f"--image {options.image}: allowed are 0 to {len(compared_rows) - 1}, the images that exist.")
    reference = choose_reference(opened, images, options.labels)
    scored_rows = _evenly_spaced(images.rows, options.ablation_images or images.rows)
    return Subject(options, opened, layers, images, size, reference, compared_rows, scored_rows, device)


def _evenly_spaced(rows: int, most: int) -> list[int]:
    """Return up to `most` of the rows, evenly spaced, as data may be sorted by class."""
    count = min(most, rows)
    return [number * rows // count for number in range(count)]


def choose_reference(opened: OpenedNetwork, images: RealImages, labels: command.Labels | None) -> Reference:
    """Choose what top-1 is measured against, by default the dataset's labels where its classes are the network's.

    Raises `UserError` where labels were asked for that the network can't predict.
    """
    classes, data_classes = int(opened.model.num_classes), len(images.class_names)  # type: ignore[arg-type]
    if labels == "network":
        return Reference("network", "--labels network is given")
    if labels == "dataset":
        if classes != data_classes:
            raise UserError(
                f"--labels dataset: the network has {classes} classes and {images.path!r} has {data_classes}. Give "
                "--data with its classes, or leave --labels out."
            )
        return Reference("dataset")
    if not images.class_names:
        return Reference("network", f"{images.path} has no labels")
    if opened.fresh:
        return Reference("network", "the weights are fresh")
    if classes != data_classes:
        return Reference("network", f"the network has {classes} classes, and {images.path} has {data_classes}")
    if opened.class_names is None:
        return Reference("network", "the names of the network's classes are not known")
    if not same_classes(opened.class_names, images.class_names):
        return Reference("network", f"the network's classes are not those of {images.path}")
    return Reference("dataset")
