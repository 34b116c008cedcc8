"""Results of a heads study: layer by layer in percent and points, beside the paper's Figs. 3 and 4, in sentences."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from timm.models import SwinTransformer, VisionTransformer
from torch import Tensor, nn

from shvit_pl.analysis import attention_maps, heads_subject
from shvit_pl.designs.paper_results import IMAGENET_SIZE
from shvit_pl.files import read_rows

LITTLE = 1.0  # points of top-1: a layer that loses no more with one head alone has heads to spare
_ROUNDING = 1e-9


@dataclass
class Scores:
    """Counts of matching predictions."""

    images: int = 0
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
    paper: "PaperLayer | None" = None

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
        """The paper's score: change of top-1 in points without the least important head."""
        return max(self.without) - self.intact

    @property
    def change_alone(self) -> float:
        """The paper's score: change of top-1 in points with the best head alone."""
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

    subject: heads_subject.Subject
    maps: attention_maps.AttentionRecorder
    scores: Scores
    """Counts of matching predictions."""

    @cached_property
    def layers(self) -> list[LayerResult]:
        """Results layer by layer."""
        image, results = 100 / self.scores.images, []
        for number, (layer, maps) in enumerate(zip(self.subject.layers, self.maps.layers, strict=True), start=1):
            matching = self.scores.matching[layer.name].tolist()
            without, alone = (tuple(image * count for count in row) for row in matching)
            intact, similarities = image * self.scores.intact, 100 * maps.similarity.double()
            paper = self.paper.layers[number - 1] if self.paper else None
            results.append(LayerResult(number, layer.name, intact, similarities, without, alone, image, paper))
        return results

    @property
    def intact(self) -> float:
        """Top-1 of the whole network in percent."""
        return self.layers[0].intact

    @property
    def measured(self) -> str:
        """Number of images, and the intact network's score or why it has none."""
        reference, images = self.subject.reference, self.scores.images
        on = f"on {images} image{'s' * (images > 1)}"
        if reference.labels == "network":
            return f"{on}: {reference.sentence}"
        return f"{on}: top-1 of the intact network {self.intact:.2f} %"

    @cached_property
    def paper(self) -> "PaperHeads | None":
        """The paper's numbers of this network."""
        return paper_heads(self.subject.opened.model)

    @property
    def is_paper_score(self) -> bool:
        """True where the paper's changes of top-1 can be compared with ours."""
        return self.subject.reference.labels == "dataset"

    @property
    def differences(self) -> list[str]:
        """Differences between this study and the paper's of the same network, in words."""
        subject, scored = self.subject, self.scores.images
        opened, images = subject.opened, subject.images
        is_imagenet = (len(images.class_names), images.rows) == IMAGENET_SIZE
        few = is_imagenet and scored < IMAGENET_SIZE[1]
        differences = (
            ("the weights are fresh, not trained", opened.fresh),
            ("the weights are not those of the authors", not opened.fresh and opened.name not in _AUTHORS_WEIGHTS),
            (f"the images are from {subject.data}, not ImageNet", not is_imagenet),
            (f"the images have {subject.image_size} px, not {_PIXELS}", subject.image_size != _PIXELS),
            (f"heads were removed on {scored} images, not {IMAGENET_SIZE[1]}", few),
            ("the agreement with the intact network is measured, not top-1", not self.is_paper_score),
        )
        return [text for text, differs in differences if differs]

    @property
    def paper_note(self) -> str:
        """Source of the paper's numbers, how sure they are, and what differs; empty without any."""
        if self.paper is None:
            return ""
        differs = f". Differences from its study: {'; '.join(self.differences)}" if self.differences else ""
        return f"paper: {self.paper.network}, {self.paper.confidence}{differs}"

    @property
    def sentences(self) -> list[str]:
        """Sentences on which layers are redundant, and how much accuracy heads matter for."""
        score, image = self.subject.reference.short_score, 100 / self.scores.images
        several = [layer for layer in self.layers if layer.heads > 1]
        lines = [] if several else ["Every layer has a single head: there is nothing to compare."]
        if several:
            ranked = sorted(several, key=lambda layer: -(layer.similarity or 0))[:3]
            shown = ", ".join(f"{layer.number} ({layer.similarity:.1f} %)" for layer in ranked)
            lines.append(f"The heads are most similar in layer{'s' * (len(ranked) > 1)} {shown}.")
            spare = [str(layer.number) for layer in several if -layer.change_alone <= LITTLE]
            if image > LITTLE:
                lines.append("Too few images to say which layers are redundant; give more with --ablation_images.")
            elif spare:
                lines.append(
                    f"Redundant: with the best head alone, {score} stays within {LITTLE:g} point in {len(spare)} of "
                    f"{len(several)} layers ({', '.join(spare)})."
                )
            else:
                lines.append(f"No layer keeps {score} within {LITTLE:g} point with one head alone.")
        worst = min(several or self.layers, key=lambda layer: min(layer.without))
        least = min(worst.without)
        where = f"(layer {worst.number}, head {worst.without.index(least) + 1})"
        effect = f"changes {score} by {least - self.intact:+.2f} points at worst {where}"
        lines.append(f"Removing one head {effect if least < self.intact else f'never lowers {score}'}.")
        if changes := [layer.change_alone for layer in several]:
            low, high = min(changes), max(changes)
            lines.append(f"Keeping only the best head of a layer changes it by {low:+.2f} to {high:+.2f} points.")
        return [*lines, f"One image is {image:.3g} points."]


# ---- the paper's numbers

_FILE = Path(__file__).with_name("fig3_fig4.csv")  # changes of top-1 in points, heads from 1
_PIXELS = 224
_PRINTED = "printed in the figure"
_DIGITIZED = "digitized from the figure: within 0.3 points of similarity and 0.1 points of top-1"
_PAPER = {  # networks: top-1 in percent, and how sure the numbers are
    "Fig. 3: DeiT-T with 3 heads": (72.14, _PRINTED),
    "Fig. 3: DeiT-T with 6 heads": (72.95, f"{_PRINTED}; its boxes of important and redundant heads read by eye"),
    "Fig. 4: Swin-T": (81.18, _DIGITIZED),
    "Fig. 4: Swin-T of half the width": (75.05, _DIGITIZED),
}
_AUTHORS_WEIGHTS = (
    "timm:deit_tiny_patch16_224",
    "timm:deit_tiny_patch16_224.fb_in1k",
    "timm:swin_tiny_patch4_window7_224",
    "timm:swin_tiny_patch4_window7_224.ms_in1k",
)


@dataclass(frozen=True)
class PaperLayer:
    """A layer in the paper."""

    similarity: float
    """Mean cosine similarity of its heads, in percent."""
    without: float
    """Change of top-1 in points without one head, at best."""
    alone: float
    """Change of top-1 in points with one head alone, at best."""
    important: int | None = None
    """Most important head (from 0), where the paper marks one."""
    redundant: int | None = None
    """Most redundant head (from 0), where the paper marks one."""


@dataclass(frozen=True)
class PaperHeads:
    """The paper's numbers of a network."""

    network: str
    top1: float
    """Top-1 of the whole network, in percent."""
    confidence: str
    """Accuracy of the numbers, in words."""
    layers: tuple[PaperLayer, ...]


def paper_heads(model: nn.Module) -> PaperHeads | None:
    """Return the paper's numbers of a network of this form, whatever its weights; `None` where it has none."""
    network = _paper_name(model)
    if network not in _PAPER:
        return None
    layers = []
    for row in read_rows(_FILE):
        if row["network"] == network:
            similarity, without, alone = (float(row[name]) for name in ("similarity", "without", "alone"))
            marked = (int(row[name]) - 1 if row[name] else None for name in ("important", "redundant"))
            layers.append(PaperLayer(similarity, without, alone, *marked))
    return PaperHeads(network, *_PAPER[network], tuple(layers))


def _paper_name(model: nn.Module) -> str:
    """Return the paper's name of DeiT-T with 3 heads, or with 6, which it trained, and of Swin-T or half of it."""
    if isinstance(model, VisionTransformer):
        form = (model.embed_dim, len(model.blocks), model.patch_embed.patch_size, model.num_prefix_tokens)
        heads = model.blocks[0].attn.num_heads
        return f"Fig. 3: DeiT-T with {heads} heads" if form == (192, 12, (16, 16), 1) else ""
    if isinstance(model, SwinTransformer) and [len(stage.blocks) for stage in model.layers] == [2, 2, 6, 2]:
        heads = [stage.blocks[0].attn.num_heads for stage in model.layers]
        if model.embed_dim == 48:  # the paper does not print its heads
            return "Fig. 4: Swin-T of half the width"
        return "Fig. 4: Swin-T" if (model.embed_dim, heads) == (96, [3, 6, 12, 24]) else ""
    return ""
