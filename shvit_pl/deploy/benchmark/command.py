"""`shvit-pl benchmark`: networks are measured in turns in one process, and a table and its files are written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from shvit_pl.command_line.checks import check_extra
from shvit_pl.command_line.parser import read_options
from shvit_pl.deploy.benchmark.options import BenchmarkOptions

if TYPE_CHECKING:
    import torch


def run(args: list[str]) -> None:
    """Run the command; its help and mistakes in flags need no heavy import."""
    options = read_options(
        BenchmarkOptions,
        args[1:],
        command="benchmark",
        description="Measure networks in turns: milliseconds, images per second, memory, and ratios to the first.",
        epilog="Lists have commas. Modes: official (traced, as speed_test.py of the official code), eager (fused, "
        "channels-last), compiled (the same by torch.compile; reduce-overhead and max-autotune are its modes), "
        "optimized (shvit_pl.deploy.optimize).",
        positional=["models"],
    )
    if "onnx" in options.runtimes:
        check_extra("--runtime onnx", "onnx")
    from shvit_pl.command_line.quiet import quiet

    quiet()
    from shvit_pl.deploy.measuring import chosen_device, num_threads

    device = chosen_device(options.device)
    official_on_cpu = options.protocol == "official" and device.type == "cpu"
    with num_threads(1 if official_on_cpu else options.threads):
        _run(options, device, ["shvit-pl", *args])


def _run(options: BenchmarkOptions, device: torch.device, command: Sequence[str]) -> None:
    from shvit_pl.deploy.benchmark import cells, measure, results, table

    conditions = results.conditions(options, device)
    output = Path(options.output).expanduser()
    results.check_output(output, conditions)
    opened = cells.open_all(options.models, options.averaged)
    groups = cells.plan(options, {name: network.image_size for name, network in opened.items()}, device.type)
    earlier = results.read_earlier(options.compare, conditions, groups)
    print(table.describe(conditions), flush=True)
    with measure.Steps(groups, options) as steps:
        measured, skipped = measure.measure(groups, measure.Builder(opened, device, options.train), options, steps)
    rows = results.make_rows(measured, opened)
    table.print_table(rows, conditions, None if earlier is None else results.ratios(rows, earlier))
    environment = results.environment(conditions, opened, measured, skipped, command)
    results.write(output, rows, environment, table.draw_accuracy(rows, conditions))
    print(f"written: {output}")
