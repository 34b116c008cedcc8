"""The attention part of a network's blocks: what a block does but for its FFN and that one's normalisation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.profiler import record_function
from torch.utils.hooks import RemovableHandle

MARK = "shvit_pl::measured"  # the range around what counts

_ATTENTION = ("attention", "attn", "shsa", "mhsa", "xca", "litemla")  # in the names of classes
_FFN = ("mlp", "ffn")  # names of a block's children
_BEGINS_FFN = (*_FFN, "norm2")


@dataclass(frozen=True)
class Part:
    """From the beginning of a module to its end, or to that of its FFN.

    Attributes:
        module: A block, or attention with its residual.
        ends: Its children of which the first that is called is no more part of it.
    """

    module: nn.Module
    ends: tuple[nn.Module, ...] = ()

    def __str__(self) -> str:
        if self.ends:
            return f"{type(self.module).__name__} up to its FFN"
        inner = [type(child).__name__ for child in self.module.children() if _is_attention(child)]
        return f"{inner[0]} with its residual" if _is_residual(self.module) else f"{type(self.module).__name__} alone"


def attention_parts(module: nn.Module) -> list[Part]:
    """The attention parts of a network, found by the names of its classes and layers; empty where there are none."""
    found = [child for child in module.children() if _is_attention(child)]
    ends = _ffn_after(module, found[0]) if found else ()
    if ends or (found and _is_residual(module)):
        return [Part(module, ends)]
    inner = [child for child in module.children() if child not in found]
    return [Part(child) for child in found] + [part for child in inner for part in attention_parts(child)]


def described(parts: Sequence[Part]) -> str:
    """The parts in a few words, such as `12 x Block up to its FFN`."""
    return ", ".join(f"{number} x {name}" for name, number in Counter(map(str, parts)).items())


@contextmanager
def marked(parts: Sequence[Part]) -> Iterator[None]:
    """Put a range of the profiler around every part, for a while."""
    handles = [handle for part in parts for handle in _mark(part)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class _Range:
    """A range that is opened and closed by hooks; closing twice does no harm."""

    def __init__(self) -> None:
        self._open: Any = None

    def open(self, *_: Any) -> None:
        """Begin the part's time."""
        self._open = record_function(MARK)
        self._open.__enter__()

    def close(self, *_: Any) -> None:
        """End it, where it has begun."""
        if self._open is not None:
            self._open.__exit__(None, None, None)
            self._open = None


def _mark(part: Part) -> list[RemovableHandle]:
    around = _Range()
    at_ends: list[Callable[..., RemovableHandle]] = [end.register_forward_pre_hook for end in part.ends]
    return [
        part.module.register_forward_pre_hook(around.open),
        *(register(around.close) for register in at_ends),
        part.module.register_forward_hook(around.close, always_call=True),
    ]


def _is_attention(module: nn.Module) -> bool:
    """By its class and its queries, unless it is a block itself, as MaxViT's is."""
    name = type(module).__name__.lower()
    is_block = any(_ffn_after(each, None) for each in module.modules())
    return any(word in name for word in _ATTENTION) and _has_queries(module) and not is_block


def _has_queries(module: nn.Module) -> bool:
    """Whether it has heads, or a layer of queries (`qkv`, `to_query`): gates over channels are called attention too."""
    names = [name.rpartition(".")[2] for name, _ in module.named_modules()]
    return hasattr(module, "num_heads") or any(name.startswith("q") or "query" in name for name in names)


def _is_residual(module: nn.Module) -> bool:
    return "residual" in type(module).__name__.lower()


def _ffn_after(block: nn.Module, attention: nn.Module | None) -> tuple[nn.Module, ...]:
    """What begins the FFN of a block, of its children after the attention; empty where it has no FFN."""
    children = list(block.named_children())
    after = [child for _, child in children].index(attention) if attention is not None else -1
    later = children[after + 1 :]
    if not any(name in _FFN for name, _ in later):
        return ()
    return tuple(child for name, child in later if name in _BEGINS_FFN)
