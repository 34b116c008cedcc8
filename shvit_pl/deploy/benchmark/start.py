"""From the options to the results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from shvit_pl.command_line.checks import check_extra
from shvit_pl.deploy.benchmark.accuracy import known_accuracy
from shvit_pl.deploy.benchmark.builder import Builder
from shvit_pl.deploy.benchmark.cells import ONNX, Group, plan
from shvit_pl.deploy.benchmark.earlier import Earlier, check_output, read_earlier
from shvit_pl.deploy.benchmark.environment import conditions, explained, threads
from shvit_pl.deploy.benchmark.figure import draw_accuracy
from shvit_pl.deploy.benchmark.files import write
from shvit_pl.deploy.benchmark.measure import Measured, measure
from shvit_pl.deploy.benchmark.networks import open_all
from shvit_pl.deploy.benchmark.options import Options
from shvit_pl.deploy.benchmark.progress import Steps
from shvit_pl.deploy.benchmark.rows import Row, make_rows
from shvit_pl.deploy.benchmark.table import describe, print_table
from shvit_pl.deploy.measuring import chosen_device, origin
from shvit_pl.models.open_network import OpenedNetwork


def start(options: Options, command: Sequence[str]) -> None:
    """Measure, print the table, and write the results.

    Args:
        options: What was asked for.
        command: The command line.

    Raises:
        UserError: for what is not here or can't be compared, before anything is measured.
    """
    if ONNX in options.runtimes:
        check_extra("--runtime onnx", "onnx")
    device = chosen_device(options.device)
    with threads(options, device):
        _run(options, device, command)


def _run(options: Options, device: torch.device, command: Sequence[str]) -> None:
    under = conditions(options, device)
    output = Path(options.output).expanduser()
    check_output(output, under)
    earlier = None if options.compare is None else read_earlier(Path(options.compare).expanduser(), under)
    opened = open_all(options.models, options.averaged)
    groups = plan(options, {name: each.image_size for name, each in opened.items()}, device.type)
    if earlier is not None:
        earlier.check_rows(groups)
    print(describe(under), flush=True)
    with Steps(groups, options) as steps:
        measured, skipped = measure(groups, Builder(opened, device, options.train), options, steps)
    rows = make_rows(measured, _accuracies(opened, groups))
    _show(rows, under, earlier)
    environment = {"conditions": under, "explained": explained(device, options.train)}
    environment |= {"models": _models(opened, measured), "skipped": skipped, **origin(command)}
    write(output, rows, environment, draw_accuracy(rows, under))
    print(f"written: {output}")


def _show(rows: Sequence[Row], under: Mapping[str, Any], earlier: Earlier | None) -> None:
    print_table(rows, under, None if earlier is None else earlier.ratios(rows))


def _accuracies(opened: Mapping[str, OpenedNetwork], groups: Sequence[Group]) -> dict[tuple[str, int], Any]:
    asked = {(cell.model, cell.pixels) for group in groups for cell in group.cells}
    return {(name, pixels): known_accuracy(opened[name], pixels) for name, pixels in asked}


def _models(opened: Mapping[str, OpenedNetwork], measured: Sequence[Measured]) -> dict[str, dict[str, Any]]:
    folded = {each.cell.model: each.built.folded for each in measured}
    return {
        name: {
            "origin": network.origin,
            "own_image_size": network.image_size,
            "weights": network.weights,
            "folded": folded.get(name),
        }
        for name, network in opened.items()
    }
