"""Private API of other libraries, collected so that an upgrade that breaks one breaks a test of this file."""

from __future__ import annotations

from argparse import Action, ArgumentParser
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, fx
    from torch.profiler import profile


def parser_actions(parser: ArgumentParser) -> list[Action]:
    """Return the options of a parser; argparse has no public list of them."""
    return parser._actions


def inductor_compile(graph: fx.GraphModule, images: Tensor, options: Mapping[str, Any]) -> Callable[[Tensor], Tensor]:
    """Compile for one shape without the checks of each call, which `torch.compile` always makes."""
    import torch

    network: Callable[[Tensor], Tensor] = torch._inductor.compile(graph, [images], options=dict(options))
    return network


def limited_recompiles(limit: int) -> AbstractContextManager[None]:
    """Raise beyond `limit` compilations of one function, for a while; torch would run it uncompiled, with a warning."""
    from torch._dynamo import config

    patched: AbstractContextManager[None] = config.patch(recompile_limit=limit, fail_on_recompile_limit_hit=True)
    return patched


def allocations(profiler: profile) -> list[int]:
    """Return the bytes that torch's allocator gave (or took back, negative), in order; public results are only sums."""
    results: Any = profiler.profiler
    events = [event for event in results.kineto_results.events() if event.name() == "[memory]"]
    return [event.nbytes() for event in sorted(events, key=lambda event: (event.start_ns(), event.nbytes()))]


def storage_id(tensor: Tensor) -> int:
    """Return what identifies a tensor's storage; its public address is 0 for all empty storages."""
    return int(tensor.untyped_storage()._cdata)
