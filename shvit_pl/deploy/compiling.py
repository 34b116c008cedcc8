"""Compiling a network for one shape of images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from textwrap import shorten
from typing import Any

import torch
from torch import Tensor, nn

_LONGEST = 160  # characters of a reason


class NotCompiledError(RuntimeError):
    """Why a network could not be compiled, in one short line."""


@contextmanager
def compiling() -> Iterator[None]:
    """Turn whatever goes wrong into a `NotCompiledError`: exporting, tracing and backends have errors of their own."""
    try:
        yield
    except Exception as error:
        raise NotCompiledError(_reason(error)) from error


@torch.inference_mode()
def compiled(
    model: nn.Module, images: Tensor, mode: str | None = None, backend: str | Callable[..., Any] = "inductor"
) -> nn.Module:
    """Compile by `torch.compile`, for batches of exactly this shape, and run once.

    The network is exported first, which gives it a `forward` of its own: `torch.compile` keeps eight versions of the
    one that all networks of a class share, and runs any further network uncompiled, with no more than a warning.

    Args:
        model: In evaluation mode.
        images: A batch `(B, 3, S, S)`.
        mode: Of `torch.compile`, such as reduce-overhead.
        backend: Of `torch.compile`.

    Raises:
        NotCompiledError: where the compiler fails, or is missing.
    """
    with compiling():
        exported = torch.export.export(model, (images,)).module()
        network: Any = torch.compile(exported, dynamic=False, mode=mode, backend=backend)
        network(images)
    return network


@torch.no_grad()  # weights are frozen only where no gradient can be asked for
def frozen(model: nn.Module, images: Tensor, tuned: bool = False) -> Callable[[Tensor], Tensor]:
    """Compile with the weights as constants, laid out as the device's kernels want them, and run once.

    What comes out is called without torch's checks of whether it was compiled for such a batch, which cost more than
    some layers: give it batches of exactly this shape, dtype and layout.

    Args:
        model: In evaluation mode.
        images: A batch `(B, 3, H, W)`.
        tuned: Let the compiler measure kernels of its own against the libraries'.

    Raises:
        NotCompiledError: where the compiler fails, or is missing.
    """
    options = {
        "freezing": True,
        "cpp_wrapper": not images.is_cuda,  # without Python between kernels; a CUDA graph does the same
        "max_autotune": tuned,
        "conv_1x1_as_mm": tuned,
        "autotune_num_choices_displayed": 0,
        "max_autotune_report_choices_stats": False,
    }
    with compiling():
        exported = torch.export.export(model, (images,)).module()
        network: Any = torch._inductor.compile(exported, [images], options=options)
        network(images)
    return network


def _reason(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip() and not line.endswith("raised:")]
    return shorten(lines[0] if lines else type(error).__name__, _LONGEST, placeholder=" ...")
