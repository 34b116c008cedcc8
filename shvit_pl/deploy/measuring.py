"""The conditions of a measurement (device, threads, number type, machine), and the folder of its results."""

import json
import platform
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any

import torch

from shvit_pl import __version__
from shvit_pl.display import counted
from shvit_pl.errors import UserError, one_line
from shvit_pl.files import replacing, write_rows, write_whole
from shvit_pl.models.open_network import OpenedNetwork, open_network
from shvit_pl.models.weights import NoAverageError
from shvit_pl.runs.folder import AVERAGED, Weights

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DEVICES = re.compile(r"cpu|mps|cuda(:(\d|[1-9]\d))?")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_LIBRARIES = ("timm", "triton", "onnxruntime", "numpy")
_MAX_REASON = 200  # characters


def chosen_device(name: str) -> torch.device:
    """Return the device of a name, `auto` the GPU where there is one; raises `UserError` for one that is not here."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind in available if available[kind])
    if not _DEVICES.fullmatch(name):
        raise UserError(f"--device {name!r}: allowed are auto, cpu, cuda, cuda:1 (a GPU by its number) and mps.")
    device = torch.device(name)
    if not available[device.type]:
        raise UserError(f"--device {name}: torch finds no such device here; give cpu or auto.")
    if device.type != "cuda":
        return device
    if (number := device.index or 0) >= torch.cuda.device_count():
        raise UserError(f"--device {name}: the GPUs here are 0 to {torch.cuda.device_count() - 1}.")
    return torch.device("cuda", number)


def open_weights(name: str, kind: Weights | None, **settings: Any) -> OpenedNetwork:
    """Open a network as `open_network` does, with the kind of weights of `--weights` where it is of a run."""
    try:
        return open_network(name, AVERAGED[kind], **settings)
    except NoAverageError as error:
        raise UserError(f"--weights {kind}: {error}") from error


def device_name(device: torch.device) -> str:
    """Return the name of a GPU or of the processor, without the host's."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else processor()


def processor() -> str:
    """Return the processor's name as Linux has it, elsewhere its architecture."""
    info = Path("/proc/cpuinfo")
    name = re.search(r"^model name\s*: (.*)$", info.read_text(), re.MULTILINE) if info.exists() else None
    return name[1].strip() if name else platform.processor() or platform.machine()


@contextmanager
def num_threads(number: int | None) -> Iterator[None]:
    """Set torch's threads for a while; `None` leaves them."""
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def machine(device: torch.device) -> dict[str, Any]:
    """Return the device, the threads as they are set, and the libraries."""
    on_gpu = device.type == "cuda"
    cudnn: Any = torch.backends.cudnn
    versions: dict[str, str | None] = dict.fromkeys(_LIBRARIES)
    for name in _LIBRARIES:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return {
        "device": device_name(device),
        "device_type": device.type,
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "cuda": torch.version.cuda if on_gpu else None,
        "cudnn": cudnn.version() if on_gpu else None,
        "tf32": torch.backends.cuda.matmul.allow_tf32 if on_gpu else None,
        "cudnn_tf32": cudnn.allow_tf32 if on_gpu else None,
        "cudnn_benchmark": cudnn.benchmark if on_gpu else None,
        "torch": torch.__version__,
        **versions,
    }


def machine_words(conditions: Mapping[str, Any]) -> str:
    """Return device, threads and torch in words, from what `machine` returns."""
    return f"{conditions['device']}, {counted(conditions['threads'], 'thread')}, torch {conditions['torch']}"


def origin(command: Sequence[str]) -> dict[str, Any]:
    """Return the command, the version and the time of a measurement."""
    time = datetime.now(UTC).isoformat(timespec="seconds")
    return {"command": list(command), "shvit_pl": __version__, "measured": time}


def is_out_of_memory(error: Exception) -> bool:
    """Return whether a GPU's memory, or that of the machine, was too small."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def short_reason(error: Exception) -> str:
    """Return an error of a network, compiler or device in one short line."""
    return "out of memory" if is_out_of_memory(error) else shorten(one_line(error), _MAX_REASON, placeholder=" ...")


def write_results(
    folder: Path,
    tables: Mapping[str, Sequence[Mapping[str, Any]]],
    facts: tuple[str, Mapping[str, Any]],
    figures: Mapping[str, "Figure"],
    dpi: int = 160,
) -> None:
    """Write the folder of a measurement at once; earlier results in it are replaced.

    `tables` are rows by the name of their CSV file, `facts` name and content of a JSON file, `figures` pictures by file
    name, which may have a folder.
    """
    from shvit_pl.plots import as_png

    with replacing(folder) as partial:
        partial.mkdir(parents=True)
        for name, rows in tables.items():
            write_rows(partial / name, rows)
        (partial / facts[0]).write_text(json.dumps(facts[1], indent=2) + "\n")
        for name, figure in figures.items():
            write_whole(partial / name, as_png(figure, dpi=dpi))
