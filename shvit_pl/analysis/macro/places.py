"""Where in a network what is computed."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from shvit_pl.designs.cost import Operation
from shvit_pl.models import SHViT

Place = tuple[str, Operation]  # a stage, as `cost_parts` calls it, and an operation

_OF_BLOCK: dict[str, Operation] = {"conv": "depthwise", "mixer": "attention", "ffn": "ffn"}
_HEAD = ("global_pool", "flatten", "head")


def places(model: SHViT) -> dict[str, Place]:
    """The place of each module that a forward pass calls, by its name; together they do all that it does."""
    return {name: place for name, place in _places(model) if not isinstance(model.get_submodule(name), nn.Identity)}


def place_of(layer: str, known: dict[str, Place]) -> Place:
    """The place of a layer inside one of these modules, by its name."""
    return next(place for name, place in known.items() if layer == name or layer.startswith(f"{name}."))


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
