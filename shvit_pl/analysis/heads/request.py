"""What was asked of `shvit-pl analyze heads`: checked before anything slow, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from shvit_pl.deploy.flags import AVERAGED, at_least, check_of_timm
from shvit_pl.errors import UserError

Labels = Literal["dataset", "network"]


@dataclass(frozen=True)
class Request:
    """A study that is possible, as far as can be told without the network.

    Attributes:
        network: As it was given.
        pretrained: Take timm's weights.
        checkpoint: File of the weights of a model of timm.
        model_kwargs: What to change in a model of timm.
        averaged: Take a run's averaged weights; None: those that it watched.
        image_size: Side in pixels; None: the network's own.
        data: The dataset; None: the run's own, else the digits.
        images: How many are looked at for similarity and maps.
        ablation_images: How many top-1 is measured on; None: all.
        vectorise: What of two maps is compared.
        class_token: Whether maps keep the class token.
        labels: What top-1 is measured against; None: what fits.
        query: Row and column of the query whose maps are drawn; None: the central one.
        image: The one that they are drawn of; None: the mean of all.
        batch_size: Images at once.
        device: auto, cpu, cuda, cuda:1 or mps.
        output: Folder of the results.
        overwrite: Replace other results there.
    """

    network: str
    pretrained: bool = False
    checkpoint: str | None = None
    model_kwargs: Mapping[str, Any] = field(default_factory=dict)
    averaged: bool | None = None
    image_size: int | None = None
    data: str | None = None
    images: int = 128
    ablation_images: int | None = None
    vectorise: Literal["map", "query"] = "map"
    class_token: Literal["keep", "drop"] = "keep"
    labels: Labels | None = None
    query: tuple[int, int] | None = None
    image: int | None = None
    batch_size: int = 32
    device: str = "auto"
    output: Path = Path("heads")
    overwrite: bool = False


def read_request(options: Any) -> Request:
    """Check the flags.

    Raises:
        UserError: for what is impossible, or contradicts itself.
    """
    _check_timm(options)
    for flag, least in (("image_size", 1), ("images", 1), ("ablation_images", 1), ("batch_size", 1), ("image", 0)):
        at_least(f"--{flag}", getattr(options, flag), least)
    if options.image is not None and options.image >= options.images:
        raise UserError(f"--image {options.image}: allowed are 0 to {options.images - 1}, those of --images.")
    for flag, example in (("output", "a folder, such as heads"), ("data", "a dataset, such as digits")):
        if getattr(options, flag) == "":
            raise UserError(f"--{flag} '': give {example}.")
    given = {each.name: getattr(options, each.name) for each in fields(Request) if each.name in options}
    read = {"query": _query(options.query), "output": Path(options.output).expanduser()}
    return Request(**{**given, **read, "averaged": AVERAGED[options.weights]})


def _check_timm(options: Any) -> None:
    """Flags that belong to models of timm."""
    for flag in ("pretrained", "checkpoint", "model_kwargs"):
        check_of_timm(f"--{flag}", getattr(options, flag), options.network)
    if options.checkpoint is None:
        return
    if options.pretrained:
        raise UserError(f"--checkpoint {options.checkpoint!r}: --pretrained takes timm's weights; give one of the two.")
    if not Path(options.checkpoint).expanduser().is_file():
        raise UserError(f"--checkpoint {options.checkpoint!r}: no such file; give a .safetensors or .pth file.")


def _query(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 2 or not all(part.isdecimal() for part in parts):
        raise UserError(f"--query {text!r}: allowed are a row and a column from 0, such as 6,7.")
    return int(parts[0]), int(parts[1])
