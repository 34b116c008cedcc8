"""Networks ready to be measured: fused, on a device, with random images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from shvit_pl.analysis.options import PassesOptions
from shvit_pl.deploy.measuring import chosen_device, machine, machine_words, num_threads, short_reason, torch_dtype
from shvit_pl.deploy.options import PAPER_BATCH
from shvit_pl.deploy.passes import at_size, fused
from shvit_pl.deploy.timing import wait_for
from shvit_pl.errors import UserError
from shvit_pl.models.open_network import OpenedNetwork

Result = TypeVar("Result")
_WARM_UPS = 2


@dataclass(frozen=True)
class ReadyNetwork:
    """A network and its images, on the device."""

    opened: OpenedNetwork
    """The network that it was made of, which stays as it is."""
    model: nn.Module
    """A fused copy in evaluation mode."""
    images: Tensor
    """A random batch `(B, 3, S, S)`."""

    @property
    def pixels(self) -> int:
        """Side of the images."""
        return self.images.shape[-1]

    @property
    def device(self) -> torch.device:
        """What computes."""
        return self.images.device

    def call(self) -> None:
        """Do one forward pass, and wait for it."""
        with torch.inference_mode():
            self.model(self.images)
        wait_for(self.device)


@contextmanager
def ready_networks(
    options: PassesOptions, open_network: Callable[[str], OpenedNetwork], memory_format: torch.memory_format
) -> Iterator[list[ReadyNetwork]]:
    """Make all networks ready, and set the threads for a while.

    Args:
        options: What is measured, and how.
        open_network: Opens a network by name.
        memory_format: Layout of weights and images.
    """
    device = measured_device(options.device)
    with num_threads(options.threads):
        yield [make_ready(open_network(name), options, device, memory_format) for name in options.models]


def measured_device(name: str) -> torch.device:
    """Return the device of a name, a CPU or a CUDA GPU.

    Raises:
        UserError: for any other, whose operations can't be timed one by one, and for one that is not here.
    """
    device = chosen_device(name)
    if device.type == "mps":
        if name != "auto":
            raise UserError(f"--device {name}: its operations can't be timed one by one; allowed are cpu and cuda.")
        return torch.device("cpu")
    return device


def make_ready(
    opened: OpenedNetwork, options: PassesOptions, device: torch.device, memory_format: torch.memory_format
) -> ReadyNetwork:
    """Make a network ready, and run it once.

    Raises:
        UserError: where it can't run so.
    """
    pixels = options.image_size or opened.image_size
    batch = options.batch_size or PAPER_BATCH[device.type]
    with device_errors(f"{opened.name}, {batch} images of {pixels} pixels in {options.dtype}"):
        dtype = torch_dtype(options.dtype)
        model = fused(at_size(opened, pixels)).to(device, dtype).to(memory_format=memory_format)
        images = torch.randn(batch, 3, pixels, pixels).to(device, dtype, memory_format=memory_format)
        network = ReadyNetwork(opened, model, images)
        network.call()
    return network


def in_turns(
    networks: Sequence[ReadyNetwork], repeats: int, measure: Callable[[ReadyNetwork], Result]
) -> list[list[Result]]:
    """Measure passes of all networks in turns, after some that warm up and don't count.

    Args:
        networks: The networks, on the device.
        repeats: Passes of each.
        measure: Makes a pass.

    Returns:
        For each network what `measure` returned, pass by pass.
    """
    results: list[list[Result]] = [[] for _ in networks]
    for turn in range(-_WARM_UPS, repeats):
        for network, passes in zip(networks, results, strict=True):
            result = measure(network)
            if turn >= 0:
                passes.append(result)
    return results


@contextmanager
def device_errors(what: str) -> Iterator[None]:
    """Turn whatever networks and devices raise into one message that names what was run."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # networks and devices have errors of their own
        raise UserError(
            f"{what}: can't be run here ({short_reason(error)}). Give another --image_size, --batch_size or --dtype."
        ) from error


def conditions(options: PassesOptions, networks: Sequence[ReadyNetwork]) -> dict[str, Any]:
    """Return the conditions of the measurement."""
    return {
        "batch_size": len(networks[0].images),
        "image_size": {network.opened.name: network.pixels for network in networks},
        "dtype": options.dtype,
        "repeats": options.repeats,
        **machine(networks[0].device),
    }


def condition_words(conditions: Mapping[str, Any], where: str = "") -> str:
    """Return batch, number type and machine in a line; `where` stands before the machine."""
    return f"batch {conditions['batch_size']}, {conditions['dtype']}, {where}{machine_words(conditions)}"
