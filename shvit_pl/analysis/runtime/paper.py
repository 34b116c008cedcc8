"""What the paper printed of the time of attention: `fig7.csv`, its Fig. 7."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

from timm.models.shvit import SHViT as TimmSHViT

from shvit_pl.analysis.runtime.kinds import KINDS, Kind
from shvit_pl.analysis.runtime.scope import Scope
from shvit_pl.models import SHViT
from shvit_pl.networks import OpenedNetwork

FILE = Path(__file__).with_name("fig7.csv")
_OURS = "SHSA"  # of which SHViT the paper's figure is, it does not say


@dataclass(frozen=True)
class PaperBar:
    """A bar of the figure.

    Attributes:
        attention: Its kind.
        network: Whose it is, as the paper calls it.
        networks: Names of networks that are the same one; empty for SHViT, which is known by its class.
        percent: Of the time, by kind of operation.
    """

    attention: str
    network: str
    networks: str
    percent: dict[Kind, float]


def paper_bar(opened: OpenedNetwork, scope: Scope = "attention") -> PaperBar | None:
    """The paper's bar of a network's attention; `None` where it has none, and it has none of whole networks."""
    if scope == "network":
        return None
    if _single_head(opened):
        return next(bar for bar in bars() if bar.attention == _OURS)
    return next((bar for bar in bars() if bar.networks and fnmatch(opened.name, bar.networks)), None)


@cache
def bars() -> tuple[PaperBar, ...]:
    """The figure, bar by bar."""
    with FILE.open(newline="") as file:
        return tuple(_bar(line) for line in csv.DictReader(file))


def _bar(line: dict[str, str]) -> PaperBar:
    percent = {kind: float(line[kind]) for kind in KINDS if kind in line}
    return PaperBar(line["attention"], line["network"], line["networks"], percent)


def _single_head(opened: OpenedNetwork) -> bool:
    """Whether all attention of a network is single-head, over part of the channels."""
    if isinstance(opened.model, SHViT):
        design = opened.model.design
        return design.single_head == "partial" and set(design.mixers) - {"conv"} == {"single_head"}
    return isinstance(opened.model, TimmSHViT)
