"""What a study found: layer by layer in percent and points, and in sentences."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

from torch import Tensor

from shvit_pl.analysis.heads.maps import AttentionRecorder
from shvit_pl.analysis.heads.paper import PaperHeads, PaperLayer, differences_from_paper, paper_heads
from shvit_pl.analysis.heads.subject import Subject

LITTLE = 1.0  # points of top-1: a layer that loses no more with one head alone has heads to spare
_ROUNDING = 1e-9


@dataclass
class Scores:
    """Counts of matching predictions."""

    images: int = 0
    """Images that were counted."""
    intact: int = 0
    """Matching predictions of the whole network."""
    matching: dict[str, Tensor] = field(default_factory=dict)
    """By layer: matching predictions without each head, and with each alone `(2, heads)`."""


@dataclass(frozen=True)
class LayerResult:
    """A layer of attention, in percent."""

    number: int
    """From 1, in the order of execution."""
    name: str
    """Path of the module."""
    intact: float
    """Top-1 of the whole network."""
    similarities: Tensor
    """Similarity with the layer's other heads, by image and head `(images, heads)`."""
    without: tuple[float, ...]
    """Top-1 without each head."""
    alone: tuple[float, ...]
    """Top-1 with each head alone in its layer."""
    image: float = 0.0
    """Points that one image is."""

    @property
    def heads(self) -> int:
        """Number of heads."""
        return len(self.without)

    @cached_property
    def similarity(self) -> float | None:
        """Mean over images and heads; `None` for a single head."""
        return float(self.similarities.mean()) if self.heads > 1 else None

    @cached_property
    def spread(self) -> float | None:
        """Standard deviation over images of the mean over heads; `None` for a single head or image."""
        return float(self.similarities.mean(1).std()) if self.heads > 1 and len(self.similarities) > 1 else None

    def head_similarity(self, head: int) -> float | None:
        """Return the similarity of a head (from 0) with the layer's others; `None` for a single head."""
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
        """Head (from 0) that is missed most and does most alone: the greatest `alone - without`, by a margin."""
        return self._extreme(max)

    @property
    def redundant(self) -> int | None:
        """Head (from 0) that is missed least and does least alone: the least `alone - without`, by a margin."""
        return self._extreme(min)

    def _extreme(self, best: Callable[[list[float]], float]) -> int | None:
        """Return the best head, or `None` where another is as good but for an image in each of the two scores."""
        worth = [alone - without for alone, without in zip(self.alone, self.without, strict=True)]
        head = worth.index(best(worth))
        others = [value for number, value in enumerate(worth) if number != head]
        return head if others and abs(worth[head] - best(others)) > 2 * self.image + _ROUNDING else None


@dataclass(frozen=True)
class Findings:
    """A study that is done."""

    subject: Subject
    """What was studied."""
    maps: AttentionRecorder
    """Recorded attention maps."""
    scores: Scores
    """Counts of matching predictions."""

    @cached_property
    def layers(self) -> list[LayerResult]:
        """Results layer by layer."""
        return [self._layer(number) for number in range(len(self.subject.layers))]

    def _layer(self, number: int) -> LayerResult:
        name, image = self.subject.layers[number].name, 100 / self.scores.images
        without, alone = (tuple(image * count for count in counts.tolist()) for counts in self.scores.matching[name])
        similarities = 100 * self.maps.layers[number].similarity.double()
        return LayerResult(number + 1, name, image * self.scores.intact, similarities, without, alone, image)

    @property
    def intact(self) -> float:
        """Top-1 of the whole network in percent."""
        return self.layers[0].intact

    @property
    def title(self) -> str:
        """Network, weights, data."""
        subject = self.subject
        return f"{subject.name}, {subject.opened.weights} weights, {subject.data}, {subject.image_size} px"

    @property
    def measured(self) -> str:
        """Number of images, and the intact network's score or why it has none."""
        reference, images = self.subject.reference, self.scores.images
        on = f"on {images} image{'s' * (images > 1)}"
        if reference.labels == "network":
            return f"{on}: {reference.sentence}"
        return f"{on}: top-1 of the intact network {self.intact:.2f} %"

    @cached_property
    def paper(self) -> PaperHeads | None:
        """The paper's numbers of this network."""
        return paper_heads(self.subject.opened.model)

    def paper_layer(self, layer: LayerResult) -> PaperLayer | None:
        """Return the paper's numbers of a layer."""
        return self.paper.layers[layer.number - 1] if self.paper else None

    @property
    def is_paper_score(self) -> bool:
        """Whether the paper's changes of top-1 can be compared with ours."""
        return self.subject.reference.labels == "dataset"

    @property
    def differences(self) -> list[str]:
        """Differences between this study and the paper's, where there is one of the network."""
        return differences_from_paper(self.subject, self.scores.images) if self.paper else []

    @property
    def paper_note(self) -> str:
        """Whose numbers stand beside ours, how sure they are, and what differs; empty without any."""
        if self.paper is None:
            return ""
        differs = f". Not the same study: {'; '.join(self.differences)}" if self.differences else ""
        return f"paper: {self.paper.network}, {self.paper.confidence}{differs}"

    @property
    def sentences(self) -> list[str]:
        """Which layers are redundant, and how much accuracy is at stake."""
        several = [layer for layer in self.layers if layer.heads > 1]
        if not several:
            nothing = "Every layer has one head: there is nothing to compare."
            return [nothing, *self._stake(self.layers)]
        return [self._most_alike(several), self._redundant(several), *self._stake(several)]

    def _most_alike(self, layers: list[LayerResult]) -> str:
        ranked = sorted(layers, key=lambda layer: -(layer.similarity or 0))[:3]
        shown = ", ".join(f"{layer.number} ({layer.similarity:.1f} %)" for layer in ranked)
        return f"The heads are most alike in layer{'s' * (len(ranked) > 1)} {shown}."

    def _redundant(self, layers: list[LayerResult]) -> str:
        score = self.subject.reference.short_score
        if 100 / self.scores.images > LITTLE:
            return "Too few images to say which layers are redundant; give more by --ablation_images."
        spare = [str(layer.number) for layer in layers if -layer.change_alone <= LITTLE]
        if not spare:
            return f"No layer keeps {score} within {LITTLE:g} point with one head alone."
        return (
            f"Redundant: with the best head alone, {score} stays within {LITTLE:g} point in {len(spare)} of "
            f"{len(layers)} layers ({', '.join(spare)})."
        )

    def _stake(self, layers: list[LayerResult]) -> list[str]:
        score = self.subject.reference.short_score
        worst = min(layers, key=lambda layer: min(layer.without))
        lost = min(worst.without) - self.intact
        where = f"(layer {worst.number}, head {worst.without.index(min(worst.without)) + 1})"
        lines = [f"At stake: without one head {score} changes by {lost:+.2f} points at worst {where}."]
        if lost >= 0:
            lines = [f"At stake: no head costs any {score} when it alone is left out."]
        changes = [layer.change_alone for layer in layers if layer.heads > 1]
        if changes:
            low, high = min(changes), max(changes)
            lines.append(f"With only the best head of a layer, it changes by {low:+.2f} to {high:+.2f}.")
        return [*lines, f"One image is {100 / self.scores.images:.3g} points."]
