"""The paper's numbers of its Figures 3 and 4, and how a study of the same network differs from the paper's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from shvit_pl.analysis.heads.subject import Subject
from shvit_pl.designs.published import IMAGENET_SIZE
from shvit_pl.files import read_rows

_FOLDER = Path(__file__).parent
_PRINTED = "printed in the figure"
_BY_EYE = "; its boxes of important and redundant heads read by eye"
_DIGITIZED = "digitized from the figure: within 0.3 points of similarity and 0.1 points of top-1"


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
    """Figure and network."""
    top1: float
    """Top-1 of the whole network, in percent."""
    confidence: str
    """How sure the numbers are."""
    layers: tuple[PaperLayer, ...]
    """Layers one by one."""


def paper_heads(model: nn.Module) -> PaperHeads | None:
    """Return the paper's numbers of a network of this form, whatever its weights; `None` where it has none."""
    if isinstance(model, VisionTransformer):
        return _deit(model)
    if isinstance(model, SwinTransformer):
        return _swin(model)
    return None


def _deit(model: VisionTransformer) -> PaperHeads | None:
    """Return those of DeiT-T with 3 heads, or with 6, which the paper trained."""
    heads = model.blocks[0].attn.num_heads
    top1 = {3: 72.14, 6: 72.95}.get(heads)
    form = (model.embed_dim, len(model.blocks), model.patch_embed.patch_size, model.num_prefix_tokens)
    if top1 is None or form != (192, 12, (16, 16), 1):
        return None
    layers = tuple(_deit_layer(row, heads) for row in read_rows(_FOLDER / "fig3_deit_tiny.csv"))
    return PaperHeads(f"Fig. 3: DeiT-T with {heads} heads", top1, _PRINTED + _BY_EYE * (heads == 6), layers)


def _deit_layer(row: dict[str, str], heads: int) -> PaperLayer:
    names = ("cos_sim_pct", "remove1_dtop1", "leave1_dtop1")
    marked = [row[f"most_{kind}_head_6h_1based"] if heads == 6 else "" for kind in ("important", "redundant")]
    similarity, without, alone = (float(row[f"{name}_{heads}heads"]) for name in names)
    return PaperLayer(similarity, without, alone, *(int(head) - 1 if head else None for head in marked))


def _swin(model: SwinTransformer) -> PaperHeads | None:
    """Return those of Swin-T, or of the one of half its width, whose heads the paper does not print."""
    ending, name = {96: ("", "Swin-T"), 48: ("_x0.5", "Swin-T of half the width")}.get(model.embed_dim, ("", ""))
    depths = tuple(len(stage.blocks) for stage in model.layers)
    heads = tuple(stage.blocks[0].attn.num_heads for stage in model.layers)
    if not name or depths != (2, 2, 6, 2) or (model.embed_dim == 96 and heads != (3, 6, 12, 24)):
        return None
    rows = read_rows(_FOLDER / "fig4_swin.csv")
    top1 = float(rows[0][f"full_top1_swin_t{ending}"])
    return PaperHeads(f"Fig. 4: {name}", top1, _DIGITIZED, tuple(_swin_layer(row, ending, top1) for row in rows))


def _swin_layer(row: dict[str, str], ending: str, top1: float) -> PaperLayer:
    modes = ("mask_one_head", "mask_all_but_one")
    without, alone = (round(float(row[f"{mode}_top1_swin_t{ending}"]) - top1, 2) for mode in modes)
    return PaperLayer(float(row[f"cos_sim_pct_swin_t{ending}"]), without, alone)


_PIXELS = 224
_WEIGHTS = (  # trained by the authors of DeiT and Swin
    "timm:deit_tiny_patch16_224",
    "timm:deit_tiny_patch16_224.fb_in1k",
    "timm:swin_tiny_patch4_window7_224",
    "timm:swin_tiny_patch4_window7_224.ms_in1k",
)


def differences_from_paper(subject: Subject, scored_images: int) -> list[str]:
    """Return how a study differs from the paper's of the same network, each in a few words.

    Args:
        subject: What was studied, a network that the paper has.
        scored_images: Number of images on which top-1 was measured.
    """
    opened, images = subject.opened, subject.images
    is_imagenet = (len(images.class_names), images.rows) == IMAGENET_SIZE
    few = is_imagenet and scored_images < IMAGENET_SIZE[1]
    differences = (
        ("the weights are fresh, not trained", opened.fresh),
        ("the weights are not those of the authors", not opened.fresh and opened.name not in _WEIGHTS),
        (f"the images are those of {subject.data}, not ImageNet's", not is_imagenet),
        (f"they have {subject.image_size} px, not {_PIXELS}", subject.image_size != _PIXELS),
        (f"heads were left out on {scored_images} images, not {IMAGENET_SIZE[1]}", few),
        ("the agreement with the intact network is measured, not top-1", subject.reference.labels == "network"),
    )
    return [text for text, differs in differences if differs]
