"""Results of a heads study: layer by layer in fractions and points, beside the paper's Figs. 3 and 4, in sentences."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import sqrt
from pathlib import Path

import torch
from timm.models import SwinTransformer, VisionTransformer
from torch import Tensor, nn

from shvit_pl.analysis import attention_maps, heads_subject
from shvit_pl.designs.paper_results import IMAGENET_SIZE
from shvit_pl.files import read_rows

LITTLE = 1.0  # points of top-1: a layer that loses no more with one head alone has heads to spare
_TOO_FEW = "Too few images to say which layers are redundant; give more with --ablation_images."
_ROUNDING = 1e-9
_UNCHANGED = 1e-6  # largest change of an output, as a share of the largest output, that is rounding


@dataclass
class Scores:
    """Counts of matching predictions."""

    images: int = 0
    intact: int = 0
    """Matching predictions of the whole network."""
    matching: dict[str, Tensor] = field(default_factory=dict)
    """By layer: matching predictions without each head, and with each alone `(2, heads)`."""
    effect: dict[str, float] = field(default_factory=dict)
    """By layer: largest change of an output by removing heads, as a share of the largest output."""
    by_class: Tensor = field(default_factory=lambda: torch.zeros(2, 1))
    """Predictions of the whole network and targets, class by class `(2, classes)`."""
    finite: bool = True
    """No output of the whole network is inf or nan."""

    @property
    def chance(self) -> float:
        """Share of matching predictions, from 0 to 1, were they independent of the targets."""
        predicted, targets = self.by_class / self.images
        some = int((targets > 0).sum()) > 1  # images of a single class match as often as it is predicted
        return float(predicted @ targets) if some else 1 / len(targets)

    def add(self, outputs: Tensor, targets: Tensor) -> None:
        """Count a batch: outputs `(B, classes)` of the whole network, targets `(B,)`."""
        predicted = outputs.argmax(-1)
        counts = [torch.bincount(classes, minlength=outputs.shape[-1]).cpu() for classes in (predicted, targets)]
        self.by_class = self.by_class + torch.stack(counts)
        self.finite = self.finite and bool(outputs.isfinite().all())
        self.intact += int((predicted == targets).sum())
        self.images += len(targets)


@dataclass(frozen=True)
class LayerResult:
    """A layer of attention; scores and similarities are fractions, and changes are in points, which are 0.01."""

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
    """Share of the images that one is."""
    paper: "PaperLayer | None" = None
    left_out: str = ""
    """Reason not to compare its heads, such as `it attends to a single token`; empty where they are compared."""
    judged: bool = True
    """The score can tell heads apart."""

    @property
    def heads(self) -> int:
        """Number of heads."""
        return len(self.without)

    @property
    def is_compared(self) -> bool:
        """True where the maps of several heads are compared."""
        return self.heads > 1 and not self.left_out

    @cached_property
    def similarity(self) -> float | None:
        """Mean over images and heads; `None` where heads are not compared."""
        return float(self.similarities.mean()) if self.is_compared else None

    @cached_property
    def spread(self) -> float | None:
        """Standard deviation over images of the mean over heads; `None` for a single image, or where not compared."""
        return float(self.similarities.mean(1).std()) if self.is_compared and len(self.similarities) > 1 else None

    def head_similarity(self, head: int) -> float | None:
        """Return the similarity of a head (from 0) with the layer's others; `None` where they are not compared."""
        return float(self.similarities[:, head].mean()) if self.is_compared else None

    @property
    def changes_without(self) -> list[float]:
        """Change of top-1 in points without each head."""
        return [100 * (value - self.intact) for value in self.without]

    @property
    def changes_alone(self) -> list[float]:
        """Change of top-1 in points with each head alone in its layer."""
        return [100 * (value - self.intact) for value in self.alone]

    @property
    def change_without(self) -> float:
        """The paper's score: change of top-1 in points without the least important head."""
        return max(self.changes_without)

    @property
    def change_alone(self) -> float:
        """The paper's score: change of top-1 in points with the best head alone."""
        return max(self.changes_alone)

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
        if self.left_out or not self.judged:
            return None
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
        images, results = self.scores.images, []
        recorded = zip(self.subject.layers, self.maps.layers, self._reasons, strict=True)
        for number, (layer, maps, left_out) in enumerate(recorded, start=1):
            matching = self.scores.matching[layer.name].tolist()
            without, alone = (tuple(count / images for count in row) for row in matching)
            paper = self.paper.layers[number - 1] if self.paper else None
            measured = (self.intact, maps.similarity.double(), without, alone, self.image)
            results.append(LayerResult(number, layer.name, *measured, paper, left_out, judged=not self.blind))
        return results

    @cached_property
    def _reasons(self) -> list[str]:
        """Reason to leave out each layer, empty for those that are compared."""
        recorded = zip(self.subject.layers, self.maps.layers, strict=True)
        return [_why_left_out(maps, self.scores.effect[layer.name]) for layer, maps in recorded]

    @cached_property
    def blind(self) -> str:
        """Reason why the score can't tell whether heads matter; empty if it can."""
        scores, images = self.scores, self.scores.images
        if not scores.finite:
            return "the network's outputs are not finite numbers"
        if not self.is_paper_score:
            same = int((scores.by_class[0] > 0).sum()) == 1
            if same and images > 1:
                return "the intact network predicts the same class for every image"
        elif self.intact <= scores.chance + 2 * sqrt(scores.chance * (1 - scores.chance) / images):
            return f"{self.intact:.4f} of the intact network is no better than chance ({scores.chance:.4f})"
        layers = zip(self.subject.layers, self._reasons, strict=True)
        matching = [scores.matching[layer.name] for layer, left_out in layers if not left_out]
        if matching and all((counts == scores.intact).all() for counts in matching):
            return "it is the same without any one head, and with any one alone"
        return ""

    @property
    def image(self) -> float:
        """Share of the images that one is."""
        return 1 / self.scores.images

    @property
    def is_coarse(self) -> bool:
        """True where an image is more than what a redundant layer may lose."""
        return 100 * self.image > LITTLE

    @property
    def intact(self) -> float:
        """Top-1 of the whole network."""
        return self.scores.intact / self.scores.images

    @property
    def measured(self) -> str:
        """Number of images, and the intact network's score or why it has none."""
        reference, images = self.subject.reference, self.scores.images
        on = f"on {images} image{'s' * (images > 1)}"
        if reference.labels == "network":
            return f"{on}: {reference.sentence}"
        return f"{on}: top-1 of the intact network {self.intact:.4f}"

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
        compared = [layer for layer in self.layers if layer.is_compared]
        lines = [] if compared else ["No layer has several heads to compare."]
        lines += self.left_out
        if len(compared) > 2 and len(compared[0].similarities) > 1:  # fewer layers or images rank nothing
            ranked = sorted(compared, key=lambda layer: -(layer.similarity or 0))[: min(3, len(compared) // 2)]
            shown = ", ".join(f"{layer.number} ({layer.similarity:.3f})" for layer in ranked)
            lines.append(f"The heads are most similar in layer{'s' * (len(ranked) > 1)} {shown}.")
        if self.blind:
            return [*lines, _TOO_FEW] if compared and self.is_coarse and self.scores.finite else lines
        measured = compared or [layer for layer in self.layers if not layer.left_out]
        return [*lines, *(self._changes(measured) if measured else []), f"One image is {100 * self.image:.3g} points."]

    @property
    def left_out(self) -> list[str]:
        """Sentences on layers without a finding, and on a score that can give none."""
        lines = list[str]()
        for reason in dict.fromkeys(layer.left_out for layer in self.layers if layer.left_out):
            named = [f"{layer.number} ({layer.name})" for layer in self.layers if layer.left_out == reason]
            lines.append(f"Left out: layer{'s' * (len(named) > 1)} {', '.join(named)}: {reason}.")
        score = self.subject.reference.short_score
        return [*lines, f"Blind: {score} can't tell whether heads matter, as {self.blind}."] if self.blind else lines

    def _changes(self, layers: Sequence[LayerResult]) -> list[str]:
        """Return sentences on what removing heads of some layers changes."""
        score, lines = self.subject.reference.short_score, list[str]()
        several = [layer for layer in layers if layer.heads > 1]
        if several:
            spare = [str(layer.number) for layer in several if -layer.change_alone <= LITTLE + _ROUNDING]
            if self.is_coarse:
                lines.append(_TOO_FEW)
            elif spare:
                lines.append(
                    f"Redundant: with the best head alone, {score} stays within {LITTLE:g} point in {len(spare)} of "
                    f"{len(several)} layers ({', '.join(spare)})."
                )
            else:
                lines.append(f"No layer keeps {score} within {LITTLE:g} point with one head alone.")
        worst = min(layers, key=lambda layer: min(layer.without))
        least = min(worst.without)
        where = f"(layer {worst.number}, head {worst.without.index(least) + 1})"
        effect = f"changes {score} by {100 * (least - self.intact):+.2f} points at worst {where}"
        lines.append(f"Removing one head {effect if least < self.intact else f'never lowers {score}'}.")
        if changes := [layer.change_alone for layer in several]:
            low, high = min(changes), max(changes)
            lines.append(f"Keeping only the best head of a layer changes it by {low:+.2f} to {high:+.2f} points.")
        return lines


def _why_left_out(maps: attention_maps.LayerMaps, effect: float) -> str:
    """Return why a layer's heads can't be compared, and are neither alike nor redundant."""
    reasons = {
        "a query attends to a single token": maps.keys == 1,
        "the maps are not finite numbers": not maps.similarity.isfinite().all() and maps.similarity.shape[1] > 1,
        "every head attends to all tokens alike": maps.even,
        "attention changes no output": effect <= _UNCHANGED,
    }
    return next((reason for reason, applies in reasons.items() if applies), "")


# ---- the paper's numbers

_FILE = Path(__file__).with_name("fig3_fig4.csv")  # heads from 1
_COLUMNS = ("similarity", "without_points", "alone_points")
_PIXELS = 224
_PRINTED = "printed in the figure"
_DIGITIZED = "digitized from the figure: within 0.003 of similarity and 0.1 points of top-1"
_PAPER = {  # networks: top-1, and how sure the numbers are
    "Fig. 3: DeiT-T with 3 heads": (0.7214, _PRINTED),
    "Fig. 3: DeiT-T with 6 heads": (0.7295, f"{_PRINTED}; its boxes of important and redundant heads read by eye"),
    "Fig. 4: Swin-T": (0.8118, _DIGITIZED),
    "Fig. 4: Swin-T of half the width": (0.7505, _DIGITIZED),
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
    """Mean cosine similarity of its heads."""
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
    """Top-1 of the whole network."""
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
            similarity, without, alone = (float(row[name]) for name in _COLUMNS)
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
