"""From the options to the results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from shvit_pl.analysis.measuring import Measuring
from shvit_pl.analysis.outcome import check_output, write
from shvit_pl.analysis.running import Ready, conditions, explaining, prepared
from shvit_pl.analysis.runtime.figure import draw
from shvit_pl.analysis.runtime.kinds import OPERATORS
from shvit_pl.analysis.runtime.paper import paper_bar
from shvit_pl.analysis.runtime.rows import Measured, make_rows
from shvit_pl.analysis.runtime.scope import Scope
from shvit_pl.analysis.runtime.shares import Shares, measure
from shvit_pl.analysis.runtime.table import describe, print_table
from shvit_pl.deploy.measuring import origin
from shvit_pl.models.open_network import open_network

STUDY = "runtime"


def start(asked: Measuring, scope: Scope, command: Sequence[str]) -> None:
    """Measure, print the table, and write the results.

    Args:
        asked: What is measured, and how.
        scope: The attention part of the blocks, or the whole network.
        command: The command line.

    Raises:
        UserError: for what is not here or can't be measured, before anything is written.
    """
    folder = check_output(asked.output, STUDY)
    with prepared(asked, open_network, torch.contiguous_format) as networks:
        under = {"scope": scope, **conditions(asked, networks)}
        print(describe(under), flush=True)
        with explaining(f"profiling {' '.join(asked.models)}"):
            found = measure(networks, scope, asked.repeats)
    found_of = zip(networks, found, strict=True)
    measured = [
        Measured(each.opened.name, shares, paper_bar(each.opened, each.pixels, scope)) for each, shares in found_of
    ]
    print_table(measured)
    facts = {"conditions": under, "explained": _EXPLAINED, **_networks(networks, found), **origin(command)}
    write(folder, STUDY, make_rows(measured), facts, draw(measured, under))
    print(f"written: {folder}")


_EXPLAINED = {
    "percent": "of the time of all operators in the scope: the median over the passes; those of "
    "all but matrix products are scaled, such that all add up to 100",
    "percent_q1, percent_q3": "where the middle half of the passes lies, not scaled",
    "paper_percent": "as printed in the paper's Fig. 7; its device, batch size, image size and profiler are "
    "not; beside networks of the paper at its image sizes",
    "difference": "in percentage points",
    "memory-bound": "all but matrix products",
    "time": "of an operator without those that it calls, in Python's own time between them none; on a GPU of kernels",
    "networks": "fused as they are deployed, NCHW; attention not fused, step by step",
    "kinds": {kind: " ".join(names.split()) for kind, names in OPERATORS.items()},
}


def _networks(networks: Sequence[Ready], found: Sequence[Shares]) -> dict[str, Any]:
    return {
        "networks": {
            each.opened.name: {
                "measured": of.scope,
                "milliseconds": of.milliseconds,
                "operators": [
                    {"operator": name, "kind": kind, "percent": percent}
                    for (name, kind), percent in of.operators.items()
                ],
            }
            for each, of in zip(networks, found, strict=True)
        }
    }
