"""The table of the study, as it is printed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from shvit_pl.analysis.macro.study import Load, MeasuredPart, Study
from shvit_pl.display.terminal import narrow_table, table_console

_TEXTS = ("", "operation")
_NUMBERS = ("tokens", "channels", "sees px", "MMACs", "% MACs", "MB", "ms", "% time", "FLOP/byte", "GFLOP/s")


def print_table(studies: Sequence[Study]) -> None:
    """Print every operation of every stage, and the sums."""
    table = narrow_table(_TEXTS, _NUMBERS)
    for study in studies:
        table.add_row(study.name, "all", "", "", "", *_load(study.whole, study), style="bold")
        for stage, parts in groupby(study.parts, lambda each: each.part.stage):
            for number, each in enumerate(parts):
                table.add_row(f"  {stage}" if number == 0 else "", *_cells(each, study))
        table.add_section()
    table_console().print(table)
    print("MMACs: of one image; MB and ms: of a batch; MB: what every operator reads and writes, but for views")
    print("ms: the shares of timed parts of the time of the whole network, which is measured without instruments")


def _cells(each: MeasuredPart, study: Study) -> list[str]:
    part = each.part
    texts = [part.operation, str(part.tokens), str(part.channels), str(each.receptive_field)]
    return [*texts, *_load(each.load, study)]


def _load(load: Load, study: Study) -> list[str]:
    whole = study.whole
    return [
        f"{load.flops / 2e6 / study.batch_size:.2f}",
        f"{100 * load.flops / whole.flops:.1f}",
        f"{load.bytes / 1e6:.1f}",
        f"{1000 * load.seconds:.3g}",
        f"{100 * load.seconds / whole.seconds:.1f}",
        f"{load.intensity:.1f}",
        f"{load.flops_per_second / 1e9:.3g}",
    ]
