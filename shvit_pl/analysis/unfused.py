"""Attention step by step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel


@contextmanager
def unfused(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Compute attention step by step for a while: fused, it has no maps, and is one operator.

    Timm's `modules` have a switch, which is as before afterwards; what calls torch's function gets its plain form.
    """
    fusing: list[Any] = [module for module in modules if hasattr(module, "fused_attn")]
    before = [(module, module.fused_attn) for module in fusing]
    try:
        for module, _ in before:
            module.fused_attn = False
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        for module, fused in before:
            module.fused_attn = fused
