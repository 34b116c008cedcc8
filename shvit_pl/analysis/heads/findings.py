"""All that a study has found, and what is to be said beside its numbers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from shvit_pl.analysis.heads.found import Found
from shvit_pl.analysis.heads.paper import PaperHeads, PaperLayer, paper_heads
from shvit_pl.analysis.heads.request import Request
from shvit_pl.analysis.heads.results import LITTLE, LayerResult, layer_results
from shvit_pl.analysis.heads.settings import weights
from shvit_pl.analysis.heads.subject import Subject

_IMAGENET = (1000, 50_000)  # classes, and images of its validation split
_PIXELS = 224  # the paper's


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
        opened = self.subject.opened
        return f"{_name(opened.name)}, {weights(opened)} weights, {self.data}, {self.subject.image_size} px"

    @property
    def data(self) -> str:
        """The dataset's name."""
        return _name(self.subject.images.path)

    @property
    def reservations(self) -> list[str]:
        """In what this study differs from the paper's, where there is one of the network."""
        subject = self.subject
        if self.paper is None:
            return []
        is_imagenet = (len(subject.images.class_names), subject.images.rows) == _IMAGENET
        return [
            text
            for text, differs in (
                ("the weights are fresh, not trained", subject.opened.fresh),
                (f"the images are those of {self.data}, not ImageNet's", not is_imagenet),
                (f"they have {subject.image_size} px, not {_PIXELS}", subject.image_size != _PIXELS),
                ("the agreement with the intact network is measured, not top-1", subject.reference.labels == "network"),
            )
            if differs
        ]

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


def _name(given: str) -> str:
    """A folder by its last names, anything else as it was given."""
    path = Path(given)
    return "/".join(path.parts[-2:]) if path.exists() else given
