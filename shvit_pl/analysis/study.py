"""Steps that the studies share: networks ready to be measured, conditions, passes in turns, folder of the results."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from matplotlib.figure import Figure

from shvit_pl.analysis.command import PassesOptions
from shvit_pl.deploy import measuring, passes, timing
from shvit_pl.deploy.options import PAPER_BATCH
from shvit_pl.display import say
from shvit_pl.errors import UserError
from shvit_pl.models.open_network import OpenedNetwork

Result = TypeVar("Result")
_WARM_UPS = 2


@dataclass(frozen=True)
class ReadyNetwork:
    """A network and its images, on the device."""

    opened: OpenedNetwork
    """The network as it was opened, which stays as it is."""
    model: torch.nn.Module
    """A fused copy in evaluation mode."""
    images: torch.Tensor
    """A random batch `(B, 3, S, S)`."""

    @property
    def name(self) -> str:
        """Name on the command line."""
        return self.opened.name

    @property
    def pixels(self) -> int:
        """Side of the images."""
        return self.images.shape[-1]

    def call(self) -> None:
        """Do one forward pass, and wait for it."""
        with torch.inference_mode():
            self.model(self.images)
        timing.wait_for(self.images.device)


@contextmanager
def ready_networks(
    options: PassesOptions, open_network: Callable[[str], OpenedNetwork], memory_format: torch.memory_format
) -> Iterator[tuple[list[ReadyNetwork], dict[str, Any]]]:
    """Yield all networks, ready and for a while with the options' threads, and their conditions, which are printed."""
    device, opened = measured_device(options.device), [open_network(name) for name in options.models]
    with measuring.num_threads(options.threads):
        networks = [make_ready(network, options, device, memory_format) for network in opened]
        conditions = {
            "batch_size": len(networks[0].images),
            "image_size": {network.name: network.pixels for network in networks},
            "dtype": options.dtype,
            "repeats": options.repeats,
            **measuring.machine(device),
        }
        say(condition_words(conditions, "on "))
        with device_errors(f"measuring {' '.join(options.models)}"):
            yield networks, conditions


def measured_device(name: str) -> torch.device:
    """Return the device of a name, `auto` the CPU on a Mac; raises `UserError` for mps and for one that is not here."""
    device = measuring.chosen_device(name)
    if device.type == "mps" and name != "auto":
        raise UserError(f"--device {name}: its operations can't be timed one by one; allowed are cpu and cuda.")
    return torch.device("cpu") if device.type == "mps" else device


def make_ready(
    opened: OpenedNetwork, options: PassesOptions, device: torch.device, memory_format: torch.memory_format
) -> ReadyNetwork:
    """Make a network ready, and run it once; raises `UserError` where it can't be run."""
    pixels = options.image_size or opened.image_size
    batch = options.batch_size or PAPER_BATCH[device.type]
    with device_errors(f"{opened.name}, {batch} images of {pixels} pixels in {options.dtype}"):
        dtype = measuring.DTYPES[options.dtype]
        model = passes.fused(passes.at_size(opened, pixels)).to(device, dtype).to(memory_format=memory_format)
        images = torch.randn(batch, opened.in_chans, pixels, pixels).to(device, dtype, memory_format=memory_format)
        network = ReadyNetwork(opened, model, images)
        network.call()
    return network


def in_turns(
    networks: Sequence[ReadyNetwork], repeats: int, measure: Callable[[ReadyNetwork], Result]
) -> list[list[Result]]:
    """Return what `measure` returns for each network in `repeats` passes, in turns, after some that don't count."""
    turns = [[measure(network) for network in networks] for _ in range(_WARM_UPS + repeats)]
    return [list(passes) for passes in zip(*turns[_WARM_UPS:], strict=True)]


@contextmanager
def device_errors(what: str, flags: str = "--image_size, --batch_size or --dtype") -> Iterator[None]:
    """Turn whatever networks and devices raise into a `UserError` that names what is run and the flags to change."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # networks and devices have errors of their own
        reason = measuring.short_reason(error)
        raise UserError(f"{what}: can't be run here ({reason}). Give another {flags}.") from error


def condition_words(conditions: Mapping[str, Any], where: str = "") -> str:
    """Return batch, number type and machine in a line; `where` stands before the machine."""
    machine = measuring.machine_words(conditions)
    return f"batch {conditions['batch_size']}, {conditions['dtype']}, {where}{machine}"


def write(
    folder: Path, study: str, rows: Sequence[Mapping[str, Any]], facts: Mapping[str, Any], figure: Figure
) -> None:
    """Write a CSV, a JSON (facts and rows) and a picture, all named after the study; earlier ones are replaced."""
    tables, content = {f"{study}.csv": rows}, (f"{study}.json", {**facts, "rows": list(rows)})
    measuring.write_results(folder, tables, content, {f"{study}.png": figure}, dpi=200)
    say(f"written: {folder}")


def rounded(value: float | None, digits: int = 4) -> float | None:
    """Round a number of a table; `None` stays."""
    return None if value is None else round(value, digits)
