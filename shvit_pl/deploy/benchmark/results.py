"""The results of a benchmark: conditions, rows with known accuracies, and the folder, which may be compared later."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from shvit_pl.deploy.benchmark.cells import Cell, Group
from shvit_pl.deploy.benchmark.measure import PEAK_OF, Measured
from shvit_pl.deploy.benchmark.options import BenchmarkOptions
from shvit_pl.deploy.measuring import condition_differences, machine, origin
from shvit_pl.deploy.output import holds_results, write_results
from shvit_pl.designs.config import resolve_design
from shvit_pl.designs.published import IMAGENET_SIZE, TIMM_TOP1, paper_row
from shvit_pl.errors import UserError, one_line
from shvit_pl.files import read_rows
from shvit_pl.models.network_names import TIMM, repo_of
from shvit_pl.models.open_network import OpenedNetwork
from shvit_pl.runs.finished_run import FinishedRun

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Row = dict[str, Any]
Key = tuple[str, ...]
Rates = dict[Key, float]
IMAGENET = "ImageNet-1k"
PEERS = Path(__file__).with_name("peers.csv")
_TABLE = "benchmark.csv"
_ENVIRONMENT = "environment.json"
_PICTURES = "accuracy*.png"
_KEY = ("model", "runtime", "mode", "dtype", "batch_size", "image_size")
_TASKS = {
    "train": "a step of training: official as engine.py, eager and compiled as timm's script, optimized as fit does it",
    "infer": "a forward pass without gradients",
}


def conditions(options: BenchmarkOptions, device: torch.device) -> dict[str, Any]:
    """Return everything but the row that a number depends on; only equal conditions may be compared.

    Args:
        options: The flags.
        device: The device that computes, its threads set.
    """
    return {
        "task": "train" if options.train else "infer",
        "protocol": options.protocol,
        "blocks": None if options.protocol == "official" else options.rounds,
        "seconds": options.block_seconds,
        "warm_up": options.warm_up_seconds or "until it gets no faster",
        **machine(device),
    }


def make_rows(measured: Sequence[Measured], opened: Mapping[str, OpenedNetwork]) -> list[Row]:
    """Return a row per cell, in the order of the table.

    Args:
        measured: The measured cells.
        opened: The networks by name.
    """
    sizes = {(item.cell.model, item.cell.pixels) for item in measured}
    accuracies = {(name, pixels): known_accuracy(opened[name], pixels) for name, pixels in sizes}
    return [_row(item, accuracies[item.cell.model, item.cell.pixels]) for item in measured]


def _row(measured: Measured, accuracy: Accuracy | None) -> Row:
    cell, rate, built = measured.cell, measured.rate, measured.built
    low, high = rate.quartiles
    is_mean = len(rate.rounds) == 1  # of the official protocol, without a spread
    return {
        "model": cell.model,
        "runtime": cell.runtime,
        "mode": cell.mode,
        "dtype": cell.dtype,
        "batch_size": cell.batch,
        "image_size": cell.pixels,
        "image_size_asked": measured.group.image_size or "own",
        "params": built.cost.params,
        "macs": built.cost.macs,
        "ms": _significant(1000 * cell.batch / rate.median),
        "ms_q1": None if is_mean else _significant(1000 * cell.batch / high),
        "ms_q3": None if is_mean else _significant(1000 * cell.batch / low),
        "images_per_second": _significant(rate.median),
        "images_per_second_q1": None if is_mean else _significant(low),
        "images_per_second_q3": None if is_mean else _significant(high),
        "ratio": _significant(measured.ratio),
        "peak_memory_mb": None if built.memory is None else round(built.memory / 1e6, 2),
        "top1": accuracy.top1 if accuracy else None,
        "top1_dataset": accuracy.dataset if accuracy else None,
        "top1_source": accuracy.source if accuracy else None,
    }


def _significant(value: float) -> float:
    return float(f"{value:.6g}")


@dataclass(frozen=True)
class Accuracy:
    """A top-1 accuracy."""

    top1: float
    """Accuracy in percent."""
    dataset: str
    """The dataset it was measured on; only accuracies on one dataset are compared."""
    source: str
    """The publication or run that it is from."""


def known_accuracy(opened: OpenedNetwork, pixels: int) -> Accuracy | None:
    """Return the accuracy of a network at a side in pixels; `None` where it is not known for that side."""
    if opened.origin == "design":
        return _paper_accuracy(opened.name, pixels)
    if opened.origin == "timm":
        return _peers().get((opened.name.removeprefix(TIMM).split(".")[0], pixels))
    if pixels != opened.image_size:
        return None
    if opened.origin == "checkpoint":
        return _run_accuracy(opened)
    top1 = TIMM_TOP1.get(repo_of(opened.name).split("@")[0])
    return None if top1 is None else Accuracy(top1, IMAGENET, "timm's results of these weights")


def _paper_accuracy(name: str, pixels: int) -> Accuracy | None:
    design = {"design": vars(resolve_design(name)), "teacher": None, "dataset": {"image_size": pixels}}
    row = paper_row(design)
    if row is None or row.image_size != pixels:
        return None
    return Accuracy(row.top1, IMAGENET, f"the paper, {row.source}")


def _run_accuracy(opened: OpenedNetwork) -> Accuracy | None:
    checkpoint = opened.checkpoint
    assert checkpoint is not None
    run = FinishedRun.of_checkpoint(checkpoint, opened.averaged)
    if run is None or "acc1" not in run.metrics:
        return None
    return Accuracy(round(100 * run.metrics["acc1"], 2), _dataset(run), "the run's validation")


def _dataset(run: FinishedRun) -> str:
    dataset = run.dataset
    if (len(run.class_names), dataset["validation_images"]) == IMAGENET_SIZE:
        return IMAGENET
    path, *details = dataset["path"], dataset["name"], (dataset["commit"] or "")[:7]
    return " ".join([Path(path).name if Path(path).is_absolute() else path, *filter(None, details)])


@cache
def _peers() -> dict[tuple[str, int], Accuracy]:
    """Return the accuracies of the paper's Table 2, by timm's name and side, where timm has the network."""
    return {
        (line["timm"], int(line["image_size"])): Accuracy(
            float(line["top1"]), IMAGENET, f"the paper, Table 2: {line['paper']}, {line['epochs']} epochs"
        )
        for line in read_rows(PEERS)
    }


def read_earlier(folder: str | None, ours: Mapping[str, Any], groups: Iterable[Group]) -> Rates | None:
    """Read the images per second of the benchmark in the folder of `--compare`; None without the flag.

    Args:
        folder: The value of `--compare`.
        ours: The conditions of this benchmark.
        groups: The cells of this benchmark.

    Raises:
        UserError: for a folder without a benchmark, for other conditions, and where it has none of these cells.
    """
    if folder is None:
        return None
    path = Path(folder).expanduser()
    flag = f"--compare {str(path)!r}"
    try:
        theirs = _read_conditions(path)
        rates = {_key(row): float(row["images_per_second"]) for row in read_rows(path / _TABLE)}
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise UserError(f"{flag}: no whole benchmark is there ({one_line(error)[:120]}). Give its folder.") from error
    if differences := condition_differences(ours, theirs):
        raise UserError(f"{flag}: measured under other conditions, so nothing may be compared: {differences}.")
    keys = [_cell_key(cell) for group in groups for cell in group.cells]
    if not rates.keys() & set(keys):
        there = ", ".join(next(iter(rates), ("none",)))
        raise UserError(
            f"{flag}: it has none of these rows. Here the first is {', '.join(keys[0])}, there it is {there} (model, "
            "runtime, mode, dtype, batch, pixels)."
        )
    return rates


def ratios(rows: Sequence[Row], earlier: Rates) -> list[float | None]:
    """Return images per second of each row over those of an earlier benchmark; `None` for a row that is new."""
    return [row["images_per_second"] / earlier[_key(row)] if _key(row) in earlier else None for row in rows]


def _key(row: Mapping[str, Any]) -> Key:
    """Return the columns that identify a row, as text as in a CSV."""
    return tuple(str(row[name]) for name in _KEY)


def _cell_key(cell: Cell) -> Key:
    return cell.model, cell.runtime, cell.mode, cell.dtype, str(cell.batch), str(cell.pixels)


def _read_conditions(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / _ENVIRONMENT).read_text())["conditions"])


def check_output(folder: Path, ours: Mapping[str, Any]) -> None:
    """Check that a benchmark under these conditions can be written into a folder.

    Raises:
        UserError: where there is no access, and where there are other files or a benchmark under other conditions.
    """
    if not holds_results(folder, _is_benchmark):
        return
    flag = f"--output {str(folder)!r}"
    try:
        differences = condition_differences(ours, _read_conditions(folder))
    except (ValueError, LookupError, TypeError) as error:
        raise UserError(f"{flag}: its {_ENVIRONMENT} is damaged; give a new folder.") from error
    if differences:
        raise UserError(f"{flag}: it holds a benchmark under other conditions: {differences}. Give a new folder.")


def _is_benchmark(folder: Path) -> bool:
    ours = {_TABLE, _ENVIRONMENT, *(path.name for path in folder.glob(_PICTURES))}
    return (folder / _ENVIRONMENT).is_file() and {path.name for path in folder.iterdir()} <= ours


def environment(
    under: Mapping[str, Any],
    opened: Mapping[str, OpenedNetwork],
    measured: Sequence[Measured],
    skipped: Mapping[str, str],
    command: Sequence[str],
) -> dict[str, Any]:
    """Return the content of `environment.json`.

    Args:
        under: The conditions.
        opened: The networks by name.
        measured: The measured cells.
        skipped: Reasons why others could not be measured, by cell or network.
        command: The command line.
    """
    folded = {item.cell.model: item.built.folded for item in measured}
    models = {
        name: {
            "origin": network.origin,
            "own_image_size": network.image_size,
            "weights": network.weights,
            "folded": folded.get(name),
        }
        for name, network in opened.items()
    }
    explained = _explained(under["device_type"], under["task"])
    return {"conditions": under, "explained": explained, "models": models, "skipped": skipped, **origin(command)}


def _explained(device: str, task: str) -> dict[str, str]:
    return {
        "images_per_second": "the median of the blocks; _q1 and _q3 are their quartiles",
        "ms": "of a batch: the batch size over images_per_second",
        "clock": "CUDA events around a block" if device == "cuda" else "wall clock around a block",
        "ratio": "to the first row with the same batch size and image_size asked for",
        "peak_memory": PEAK_OF.get(device, "not known"),
        "params, macs": "of ours in closed form, BatchNorm not fused; of timm's models as reparameterized",
        "images": "random; in the row's dtype and channels-last, but for optimized in the layout that it takes, and "
        "for official in float32 and NCHW",
        "task": _TASKS[task],
    }


def write(folder: Path, rows: Sequence[Row], facts: Mapping[str, Any], figures: Mapping[str, Figure]) -> None:
    """Write the folder of a benchmark; an earlier one in it is replaced.

    Args:
        folder: The folder.
        rows: As `make_rows` returns them, at least one.
        facts: As `environment` returns them.
        figures: Pictures by file name.
    """
    write_results(folder, (_TABLE, rows), (_ENVIRONMENT, facts), figures)
