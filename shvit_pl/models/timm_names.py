"""What timm saves of a network, for it to be built again: the architecture's name and its arguments."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from shvit_pl.designs.design import Design
from shvit_pl.designs.fingerprint import timm_name

ENTRY_POINT = "shvit_pl"  # the entry point by which timm builds any design


def record_design(model: Any, design: Design) -> None:
    """Let timm save a network under timm's own name where it has that very network, else with its whole design.

    Args:
        model: Built by timm's builder.
        design: Of the network as it is now.
    """
    name = timm_name(design)
    model._model_args = {} if name else asdict(design)
    model.pretrained_cfg = {**model.pretrained_cfg, "architecture": name or ENTRY_POINT}
