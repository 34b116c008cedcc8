"""What a study found, layer by layer, in percent and in points."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from shvit_pl.analysis.heads.attention.layers import AttentionLayer
from shvit_pl.analysis.heads.found.sums import Found

MODES = {"without": "without one head", "alone": "one head alone"}  # what is measured, and how a figure names it
LITTLE = 1.0  # points of top-1: a layer that loses no more with one head alone has heads to spare
_ROUNDING = 1e-9


@dataclass(frozen=True)
class LayerResult:
    """A layer of attention.

    Attributes:
        number: From 1, in the order of execution.
        name: Path of the module.
        intact: Top-1 of the whole network in percent.
        similarities: Of each image and head `(images, heads)`, in percent.
        without: Top-1 without each head, in percent.
        alone: Top-1 with each head alone in its layer, in percent.
        image: Points that one image is.
    """

    number: int
    name: str
    intact: float
    similarities: Tensor
    without: tuple[float, ...]
    alone: tuple[float, ...]
    image: float = 0.0

    @property
    def heads(self) -> int:
        """Their number."""
        return len(self.without)

    @cached_property
    def similarity(self) -> float | None:
        """The mean over images and heads; None of a single head."""
        return float(self.similarities.mean()) if self.heads > 1 else None

    @cached_property
    def spread(self) -> float | None:
        """The standard deviation over images of the mean over heads; None of a single head or image."""
        return float(self.similarities.mean(1).std()) if self.heads > 1 and len(self.similarities) > 1 else None

    def head_similarity(self, head: int) -> float | None:
        """Of a head (from 0) with the layer's others."""
        return float(self.similarities[:, head].mean()) if self.heads > 1 else None

    @property
    def change_without(self) -> float:
        """The paper's score: change of top-1 in points without a head, of the head that costs least."""
        return max(self.without) - self.intact

    @property
    def change_alone(self) -> float:
        """The paper's score: change of top-1 in points with one head alone, of the head that costs least."""
        return max(self.alone) - self.intact

    @property
    def important(self) -> int | None:
        """The head (from 0) that is missed most and does most alone: the greatest `alone - without`, by a margin."""
        return self._only(max)

    @property
    def redundant(self) -> int | None:
        """The head (from 0) that is missed least and does least alone: the least `alone - without`, by a margin."""
        return self._only(min)

    def _only(self, best: Callable[[list[float]], float]) -> int | None:
        """`None` where another head is as good but for an image in each of the two scores."""
        worth = [alone - without for alone, without in zip(self.alone, self.without, strict=True)]
        head = worth.index(best(worth))
        others = [value for number, value in enumerate(worth) if number != head]
        return head if others and abs(worth[head] - best(others)) > 2 * self.image + _ROUNDING else None


def layer_results(layers: list[AttentionLayer], found: Found) -> list[LayerResult]:
    """The layers of a study that is done."""
    return [_result(number, layer, found) for number, layer in enumerate(layers, 1)]


def _result(number: int, layer: AttentionLayer, found: Found) -> LayerResult:
    image = 100 / found.images
    without, alone = (tuple(image * count for count in counts.tolist()) for counts in found.matching[number - 1])
    similarities = 100 * found.similarity[number - 1].double()
    return LayerResult(number, layer.name, image * found.intact, similarities, without, alone, image)
