"""How much faster `optimize` is than the official protocol and than timm's best flags, and what still holds it up.

S1 at 224 and S4 at 256 pixels, fresh weights. Official: BatchNorm fused and traced, as the official speed_test.py; on
a GPU under fp16 autocast; it trains in fp32. Timm's best flags: fused, channels-last, the fastest of `torch.compile`'s
modes. Ours in training is what `fit` does with `model.compile`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jsonargparse import auto_cli

from benchmarks.gaps import gap, gap_table
from benchmarks.report import environment, publish, table
from shvit_pl.deploy.benchmark import Builder, Measured, measure, plan
from shvit_pl.deploy.measuring import chosen_device, device_name
from shvit_pl.deploy.options import BenchmarkOptions
from shvit_pl.display import counted
from shvit_pl.models.open_network import open_network

MODELS = ("s1", "s4")
_OURS = "optimized"
_TIMM = {"cpu": ("compiled",), "cuda": ("compiled", "reduce-overhead", "max-autotune")}
_PACKAGES = ("torch", "timm")


@dataclass(frozen=True)
class Target:
    """A row of the table.

    Attributes:
        name: Of the row.
        batch: Images per batch.
        dtypes: Any of which may reach it.
        official: Least ratio to the official protocol, by model.
        timm: Least ratio to timm's best flags in the same dtype.
        train: A step of training.
    """

    name: str
    batch: int
    dtypes: tuple[str, ...]
    official: tuple[float, float]
    timm: float
    train: bool = False


TARGETS = {
    "cpu": (
        Target("fp32, batch 16", 16, ("fp32",), (1.7, 1.6), 1.15),
        Target("bf16, batch 16", 16, ("bf16",), (6, 6), 1.15),
        Target("fp32, batch 1", 1, ("fp32",), (1.5, 1.5), 1.1),
    ),
    "cuda": (
        Target("16 bits, batch 256", 256, ("fp16", "bf16"), (3, 3), 1.2),
        Target("16 bits, batch 1", 1, ("fp16", "bf16"), (5, 5), 1.2),
        Target("training, bf16, batch 256", 256, ("bf16",), (4, 4), 1.1, train=True),
    ),
}


def main(
    device: str = "auto",
    threads: int = 1,
    blocks: int = 7,
    seconds: float = 1.0,
    out: Path = Path("benchmarks/results"),
) -> None:
    """Measure every target of the device, print the tables, and write them to `out`.

    Args:
        device: auto, cpu or cuda.
        threads: Of a CPU.
        blocks: Interleaved blocks of each network.
        seconds: Least time of a block.
        out: Folder of the results.
    """
    where = chosen_device(device)
    torch.set_num_threads(threads)
    settings = {"models": MODELS, "device": device, "blocks": blocks, "seconds": seconds}
    rows: list[dict[str, Any]] = []
    for target in TARGETS[where.type]:
        rows += _rows(target, _measured(target, settings, where))
        print(_ratios(rows), flush=True)
    gaps = [gap(row, where) for row in rows]
    text = f"{_ratios(rows)}\n\n{gap_table(gaps)}\n\n{_note(where, threads, blocks)}"
    facts = {**environment(_PACKAGES), "device": device_name(where)}
    publish(out / f"targets_{where.type}", "Targets of speed", text, facts, rows=rows, gaps=gaps)


def _measured(target: Target, settings: dict[str, Any], device: torch.device) -> list[Measured]:
    """All networks of a target, in one interleaved run."""
    modes = ("official", *_TIMM[device.type], _OURS)
    options = BenchmarkOptions(
        **settings, batch_size=(target.batch,), mode=modes, dtype=target.dtypes, train=target.train
    )
    opened = {name: open_network(name) for name in MODELS}
    groups = plan(options, {name: network.image_size for name, network in opened.items()}, device.type)
    return measure(groups, Builder(opened, device, options.train), options)[0]


def _rows(target: Target, measured: Sequence[Measured]) -> list[dict[str, Any]]:
    """One row per network and dtype."""
    rates = {(each.cell.model, each.cell.mode, each.cell.dtype): each.rate.median for each in measured}
    rows = []
    for (model, mode, dtype), rate in rates.items():
        if mode != _OURS:
            continue
        number = MODELS.index(model)
        official = next(found for (name, how, _), found in rates.items() if (name, how) == (model, "official"))
        timm = {
            how: found
            for (name, how, kind), found in rates.items()
            if (name, kind) == (model, dtype) and how not in ("official", _OURS)
        }
        best = max(timm, key=lambda how: timm[how])
        row = {"target": target.name, "model": model, "dtype": dtype, "batch": target.batch, "train": target.train}
        row |= {"images_per_second": rate, "to_official": rate / official, "wanted": target.official[number]}
        row |= {"timm": best, "to_timm": rate / timm[best], "wanted_timm": target.timm}
        rows.append(row)
    return rows


def _ratios(rows: Sequence[dict[str, Any]]) -> str:
    header = ["", "network", "dtype", "images/s", "of official", "wanted", "of timm's best", "wanted", "which"]
    cells = [
        [
            *(row["target"], row["model"], row["dtype"], f"{row['images_per_second']:.1f}"),
            *(f"{row['to_official']:.2f}", f"{row['wanted']:g}", f"{row['to_timm']:.2f}", f"{row['wanted_timm']:g}"),
            row["timm"],
        ]
        for row in rows
    ]
    return table(header, cells)


def _note(device: torch.device, threads: int, blocks: int) -> str:
    where = counted(threads, "thread") if device.type == "cpu" else "wall clock, the GPU idle before and after a block"
    return (
        f"{where}; medians of {blocks} interleaved blocks. The second table: FLOP/s by the network's MACs; bytes/s as "
        "if every operator of the fused network read and wrote memory (caches and fused operators need less); a step "
        "of training counts three times a forward pass. The last columns are shares of the time."
    )


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
