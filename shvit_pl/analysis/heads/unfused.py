"""Attention that has its maps in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn


@contextmanager
def unfused(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Turn off timm's fused attention, which computes no maps, in `modules`; restored afterwards."""
    fusing: list[Any] = [module for module in modules if hasattr(module, "fused_attn")]
    before = [(module, module.fused_attn) for module in fusing]
    try:
        for module, _ in before:
            module.fused_attn = False
        yield
    finally:
        for module, fused in before:
            module.fused_attn = fused
