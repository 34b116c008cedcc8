"""Networks ready to be measured, and the device that they run on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from shvit_pl.analysis.measuring import Measuring
from shvit_pl.deploy.flags import PAPER_BATCH
from shvit_pl.deploy.measuring import chosen_device, machine, machine_words, num_threads, short_reason, torch_dtype
from shvit_pl.deploy.passes import at_size, fused
from shvit_pl.deploy.timing import wait_for
from shvit_pl.errors import UserError
from shvit_pl.models.open_network import OpenedNetwork

Found = TypeVar("Found")
_WARM_UPS = 2


@dataclass(frozen=True)
class Ready:
    """A network and its images, on the device.

    Attributes:
        opened: What it was made of, which stays as it is.
        model: A fused copy in evaluation mode.
        images: A random batch `(B, 3, S, S)`.
    """

    opened: OpenedNetwork
    model: nn.Module
    images: Tensor

    @property
    def pixels(self) -> int:
        """Side of the images."""
        return self.images.shape[-1]

    @property
    def device(self) -> torch.device:
        """What computes."""
        return self.images.device

    def call(self) -> None:
        """One forward pass, waited for."""
        with torch.inference_mode():
            self.model(self.images)
        wait_for(self.device)


@contextmanager
def prepared(
    asked: Measuring, opened: Callable[[str], OpenedNetwork], memory_format: torch.memory_format
) -> Iterator[list[Ready]]:
    """All networks as they are asked for, on the device and with the threads that are asked for.

    Args:
        asked: What is measured, and how.
        opened: Opens a network by name.
        memory_format: Of weights and images.
    """
    device = measured_device(asked.device)
    with num_threads(asked.threads):
        yield [ready(opened(name), asked, device, memory_format) for name in asked.models]


def measured_device(name: str) -> torch.device:
    """The device of a name, a CPU or a CUDA GPU.

    Raises:
        UserError: for any other, whose operations can't be timed one by one, and for one that is not here.
    """
    device = chosen_device(name)
    if device.type == "mps":
        if name != "auto":
            raise UserError(f"--device {name}: its operations can't be timed one by one; allowed are cpu and cuda.")
        return torch.device("cpu")
    return device


def ready(opened: OpenedNetwork, asked: Measuring, device: torch.device, memory_format: torch.memory_format) -> Ready:
    """A network as it is asked for, run once.

    Raises:
        UserError: where it can't run so.
    """
    pixels = asked.image_size or opened.image_size
    batch = asked.batch_size or PAPER_BATCH[device.type]
    with explaining(f"{opened.name}, {batch} images of {pixels} pixels in {asked.dtype}"):
        dtype = torch_dtype(asked.dtype)
        model = fused(at_size(opened, pixels)).to(device, dtype).to(memory_format=memory_format)
        images = torch.randn(batch, 3, pixels, pixels).to(device, dtype, memory_format=memory_format)
        made = Ready(opened, model, images)
        made.call()
    return made


def in_turns(networks: Sequence[Ready], repeats: int, once: Callable[[Ready], Found]) -> list[list[Found]]:
    """What `once` finds of each network, pass by pass in turns; passes that warm up come before and do not count.

    Args:
        networks: On the device.
        repeats: Passes of each.
        once: Makes a pass.
    """
    passes: list[list[Found]] = [[] for _ in networks]
    for turn in range(-_WARM_UPS, repeats):
        for network, found in zip(networks, passes, strict=True):
            result = once(network)
            if turn >= 0:
                found.append(result)
    return passes


@contextmanager
def explaining(what: str) -> Iterator[None]:
    """Turn whatever networks and devices raise into one message that says what was run."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # networks and devices have errors of their own
        raise UserError(
            f"{what}: can't be run here ({short_reason(error)}). Give another --image_size, --batch_size or --dtype."
        ) from error


def conditions(asked: Measuring, every: list[Ready]) -> dict[str, Any]:
    """Under which conditions was measured."""
    return {
        "batch_size": len(every[0].images),
        "image_size": {each.opened.name: each.pixels for each in every},
        "dtype": asked.dtype,
        "repeats": asked.repeats,
        **machine(every[0].device),
    }


def described(conditions: Mapping[str, Any], where: str = "") -> str:
    """Batch, type of numbers and machine in a line; `where` stands before the machine."""
    return f"batch {conditions['batch_size']}, {conditions['dtype']}, {where}{machine_words(conditions)}"
