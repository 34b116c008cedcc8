"""All that a study has found, and what is to be said beside its numbers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from shvit_pl.analysis.heads.found.beside import reservations
from shvit_pl.analysis.heads.found.paper import PaperHeads, PaperLayer, paper_heads
from shvit_pl.analysis.heads.found.results import LITTLE, LayerResult, layer_results
from shvit_pl.analysis.heads.found.sums import Found
from shvit_pl.analysis.heads.request import Request
from shvit_pl.analysis.heads.subject import Subject


@dataclass(frozen=True)
class Findings:
    """A study that is done.

    Attributes:
        subject: What was studied.
        request: What was asked for.
        found: Sums and counts.
    """

    subject: Subject
    request: Request
    found: Found

    @cached_property
    def layers(self) -> list[LayerResult]:
        """Layer by layer."""
        return layer_results(self.subject.layers, self.found)

    @cached_property
    def paper(self) -> PaperHeads | None:
        """What the paper has of this network."""
        return paper_heads(self.subject.opened.model)

    @property
    def same_score(self) -> bool:
        """Whether the paper's changes of top-1 can be compared with ours."""
        return self.subject.reference.labels == "dataset"

    def paper_layer(self, layer: LayerResult) -> PaperLayer | None:
        """What the paper has of a layer."""
        return self.paper.layers[layer.number - 1] if self.paper else None

    @property
    def intact(self) -> float:
        """Top-1 of the whole network in percent."""
        return self.layers[0].intact

    @property
    def compared(self) -> int:
        """Images whose attention maps were compared."""
        return len(self.found.similarity[0])

    @property
    def score(self) -> str:
        """What top-1 is called here."""
        return self.subject.reference.score

    @property
    def measured(self) -> str:
        """On how many images, and the intact network's score or why it has none."""
        reference, on = self.subject.reference, f"on {self.found.images} image{'s' * (self.found.images > 1)}"
        if reference.labels == "network":
            return f"{on}: {reference.sentence}"
        return f"{on}: top-1 of the intact network {self.intact:.2f} %"

    @property
    def title(self) -> str:
        """Network, weights, data."""
        subject = self.subject
        return f"{subject.name}, {subject.opened.weights} weights, {subject.data}, {subject.image_size} px"

    @property
    def reservations(self) -> list[str]:
        """In what this study differs from the paper's, where there is one of the network."""
        return reservations(self.subject, self.found) if self.paper else []

    @property
    def beside_the_paper(self) -> str:
        """Whose numbers stand beside ours, how sure they are, and in what this study differs; empty without any."""
        if self.paper is None:
            return ""
        differs = f". Not the same study: {'; '.join(self.reservations)}" if self.reservations else ""
        return f"paper: {self.paper.network}, {self.paper.confidence}{differs}"

    @property
    def sentences(self) -> list[str]:
        """Which layers are redundant, and how much accuracy is at stake."""
        several = [layer for layer in self.layers if layer.heads > 1]
        if not several:
            nothing = "Every layer has one head: there is nothing to compare."
            return [nothing, *self._stake(self.layers)]
        return [self._alike(several), self._spare(several), *self._stake(several)]

    @property
    def brief(self) -> str:
        """The score's name, in a word."""
        return self.subject.reference.brief

    def _alike(self, layers: list[LayerResult]) -> str:
        ranked = sorted(layers, key=lambda layer: -(layer.similarity or 0))[:3]
        shown = ", ".join(f"{layer.number} ({layer.similarity:.1f} %)" for layer in ranked)
        return f"The heads are most alike in layer{'s' * (len(ranked) > 1)} {shown}."

    def _spare(self, layers: list[LayerResult]) -> str:
        if 100 / self.found.images > LITTLE:
            return "Too few images to say which layers are redundant; give more by --ablation_images."
        spare = [str(layer.number) for layer in layers if -layer.change_alone <= LITTLE]
        if not spare:
            return f"No layer keeps {self.brief} within {LITTLE:g} point with one head alone."
        return (
            f"Redundant: with the best head alone, {self.brief} stays within {LITTLE:g} point in {len(spare)} of "
            f"{len(layers)} layers ({', '.join(spare)})."
        )

    def _stake(self, layers: list[LayerResult]) -> list[str]:
        worst = min(layers, key=lambda layer: min(layer.without))
        lost = min(worst.without) - self.intact
        where = f"(layer {worst.number}, head {worst.without.index(min(worst.without)) + 1})"
        lines = [f"At stake: without one head {self.brief} changes by {lost:+.2f} points at worst {where}."]
        if lost >= 0:
            lines = [f"At stake: no head costs any {self.brief} when it alone is left out."]
        changes = [layer.change_alone for layer in layers if layer.heads > 1]
        if changes:
            low, high = min(changes), max(changes)
            lines.append(f"With only the best head of a layer, it changes by {low:+.2f} to {high:+.2f}.")
        return [*lines, f"One image is {100 / self.found.images:.3g} points."]
