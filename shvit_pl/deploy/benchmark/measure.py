"""Measuring groups of cells: the cells of a group take turns."""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch._dynamo import config as dynamo

from shvit_pl.deploy.benchmark.builder import Builder, Built, CannotRunError
from shvit_pl.deploy.benchmark.cells import Cell, Group
from shvit_pl.deploy.benchmark.official import officially_timed
from shvit_pl.deploy.benchmark.options import Options
from shvit_pl.deploy.benchmark.progress import Steps
from shvit_pl.deploy.timing import Rate, side_by_side
from shvit_pl.errors import UserError


@dataclass(frozen=True)
class Measured:
    """A row of the table.

    Attributes:
        cell: What was measured.
        group: Where it took its turn.
        rate: Images per second in every block.
        ratio: Its median over the median of the group's first row.
        built: What else is known of it.
    """

    cell: Cell
    group: Group
    rate: Rate
    ratio: float
    built: Built


def measure(
    groups: Sequence[Group], builder: Builder, options: Options, steps: Steps
) -> tuple[list[Measured], dict[str, str]]:
    """Measure all groups, one after the other.

    Returns:
        The rows, and why others could not be measured, by what they are.

    Raises:
        UserError: where no cell could be.
    """
    found: list[Measured] = []
    skipped: dict[str, str] = {}
    for group in groups:
        try:
            found += _measure_group(group, builder, options, steps, skipped)
        finally:
            builder.images.cache_clear()
            torch.compiler.reset()  # frees what was compiled
            gc.collect()
    if not found:
        what, reason = next(iter(skipped.items()))
        raise UserError(f"nothing could be measured: {what}: {reason}")
    return found, skipped


def _measure_group(
    group: Group, builder: Builder, options: Options, steps: Steps, skipped: dict[str, str]
) -> list[Measured]:
    with dynamo.patch(recompile_limit=len(group.cells) + 8, fail_on_recompile_limit_hit=True):  # else some run eagerly
        built = _built(group, builder, steps, skipped)
        steps.leave_out(len(group.cells) - len(built))
        rates = _timed(built, options, steps)
    first = next(iter(rates.values())).median if rates else 1.0
    return [Measured(cell, group, rate, rate.median / first, built[cell]) for cell, rate in rates.items()]


def _built(group: Group, builder: Builder, steps: Steps, skipped: dict[str, str]) -> dict[Cell, Built]:
    built = {}
    for cell in group.cells:
        steps.build(str(cell))
        try:
            built[cell] = builder.build(cell)
        except CannotRunError as error:
            if error.what not in skipped:
                steps.say(f"skipped: {error.what}: {error}")
            skipped[error.what] = str(error)
    return built


def _timed(built: Mapping[Cell, Built], options: Options, steps: Steps) -> dict[Cell, Rate]:
    work = {cell: each.work for cell, each in built.items()}
    if options.protocol == "interleaved":
        return side_by_side(work, options.blocks, options.seconds, steps.measure)
    rates = {}
    for cell, each in work.items():
        steps.measure(f"measuring {cell}")
        rates[cell] = officially_timed(each, options.warm_up or 0.0, options.seconds)
    return rates
