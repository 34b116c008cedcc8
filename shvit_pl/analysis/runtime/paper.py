"""What the paper printed of the time of attention: `fig7.csv`, its Fig. 7."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

from timm.models.shvit import SHViT as TimmSHViT

from shvit_pl.analysis.runtime.kinds import KINDS, Kind
from shvit_pl.analysis.runtime.scope import Scope
from shvit_pl.designs.fingerprint import timm_name
from shvit_pl.designs.published import row_at
from shvit_pl.files import read_rows
from shvit_pl.models import SHViT
from shvit_pl.models.open_network import OpenedNetwork

FILE = Path(__file__).with_name("fig7.csv")
_OURS = "SHSA"  # of which SHViT the paper's figure is, it does not say


@dataclass(frozen=True)
class PaperBar:
    """A bar of the figure.

    Attributes:
        attention: Its kind.
        network: Whose it is, as the paper calls it.
        networks: Names of networks that are the same one; empty for SHViT, of which it may be any of S1 to S4.
        percent: Of the time, by kind of operation.
    """

    attention: str
    network: str
    networks: str
    percent: dict[Kind, float]


def paper_bar(opened: OpenedNetwork, pixels: int, scope: Scope = "attention") -> PaperBar | None:
    """The paper's bar of a network's attention; `None` for networks and image sizes that are not the paper's.

    Args:
        opened: The network.
        pixels: Side of the images that it is measured with.
        scope: What of it is measured; the paper has nothing of whole networks.
    """
    if scope == "network":
        return None
    return next((bar for bar in bars() if _is_of(bar, opened, pixels)), None)


@cache
def bars() -> tuple[PaperBar, ...]:
    """The figure, bar by bar."""
    return tuple(_bar(line) for line in read_rows(FILE))


def _bar(line: dict[str, str]) -> PaperBar:
    percent = {kind: float(line[kind]) for kind in KINDS if kind in line}
    return PaperBar(line["attention"], line["network"], line["networks"], percent)


def _is_of(bar: PaperBar, opened: OpenedNetwork, pixels: int) -> bool:
    if isinstance(opened.model, SHViT):
        design = opened.model.design
        in_paper = timm_name(design) is not None and row_at(design, pixels) is not None
        return bar.attention == _OURS and in_paper
    is_same = fnmatch(opened.name, bar.networks) if bar.networks else isinstance(opened.model, TimmSHViT)
    return is_same and pixels == opened.image_size
