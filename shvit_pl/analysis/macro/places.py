"""Where in a network what is computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from torch import nn

from shvit_pl.designs.cost import Operation
from shvit_pl.models import SHViT

Place = tuple[str, Operation]  # a stage, as `cost_parts` calls it, and an operation
Reading = TypeVar("Reading")

_OF_BLOCK: dict[str, Operation] = {"conv": "depthwise", "mixer": "attention", "ffn": "ffn"}
_HEAD = ("global_pool", "flatten", "head")


def places(model: SHViT) -> dict[str, Place]:
    """The place of each module that a forward pass calls, by its name; together they do all that it does."""
    return {name: place for name, place in _places(model) if not isinstance(model.get_submodule(name), nn.Identity)}


@contextmanager
def watched(model: SHViT, now: Callable[[], Reading]) -> Iterator[list[tuple[Place, Reading, Reading]]]:
    """Read a clock or a counter where a place begins and where it ends, in every forward pass meanwhile."""
    found: list[tuple[Place, Reading, Reading]] = []
    begun: list[Reading] = []

    def begin(*_: object) -> None:
        begun.append(now())

    def end_of(place: Place) -> Callable[..., None]:
        return lambda *_: found.append((place, begun.pop(), now()))

    handles = []
    for name, place in places(model).items():
        module = model.get_submodule(name)
        handles += [module.register_forward_pre_hook(begin), module.register_forward_hook(end_of(place))]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _places(model: SHViT) -> Iterator[tuple[str, Place]]:
    yield "patch_embed", ("stem", "stem")
    for number, depth in enumerate(model.design.depth):
        stage = f"stage {number + 1}"
        yield f"stages.{number}.downsample", (stage, "downsampling")
        for block in range(depth):
            for child, operation in _OF_BLOCK.items():
                yield f"stages.{number}.blocks.{block}.{child}", (stage, operation)
    for name in _HEAD:
        yield name, ("head", "head")
