"""The paper's numbers of its Figures 3 and 4, beside a network of the same form."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from shvit_pl.files import read_rows

_FOLDER = Path(__file__).with_name("paper")
_PRINTED = "printed in the figure"
_BY_EYE = "; its boxes of important and redundant heads read by eye"
_DIGITISED = "digitised from the figure: within 0.3 points of similarity and 0.1 points of top-1"


@dataclass(frozen=True)
class PaperLayer:
    """A layer of the paper's.

    Attributes:
        similarity: Mean cosine similarity of its heads, in percent.
        without: Change of top-1 in points without one head, at best.
        alone: Likewise, with one head alone.
        important: The most important head (from 0), where the paper marks one.
        redundant: Likewise, the most redundant one.
    """

    similarity: float
    without: float
    alone: float
    important: int | None = None
    redundant: int | None = None


@dataclass(frozen=True)
class PaperHeads:
    """What the paper found of a network.

    Attributes:
        network: Whose numbers these are.
        top1: Of the whole network, in percent.
        confidence: How sure the numbers are.
        layers: One by one.
    """

    network: str
    top1: float
    confidence: str
    layers: tuple[PaperLayer, ...]


def paper_heads(model: nn.Module) -> PaperHeads | None:
    """The paper's numbers of a network of this form, whatever its weights; None where it has none."""
    if isinstance(model, VisionTransformer):
        return _deit(model)
    if isinstance(model, SwinTransformer):
        return _swin(model)
    return None


def _deit(model: VisionTransformer) -> PaperHeads | None:
    """DeiT-T of 3 heads, and the one of 6 that the paper trained."""
    heads = model.blocks[0].attn.num_heads
    top1 = {3: 72.14, 6: 72.95}.get(heads)
    form = (model.embed_dim, len(model.blocks), model.patch_embed.patch_size, model.num_prefix_tokens)
    if top1 is None or form != (192, 12, (16, 16), 1):
        return None
    layers = tuple(_of_deit(row, heads) for row in read_rows(_FOLDER / "fig3_deit_tiny.csv"))
    return PaperHeads(f"Fig. 3: DeiT-T with {heads} heads", top1, _PRINTED + _BY_EYE * (heads == 6), layers)


def _of_deit(row: dict[str, str], heads: int) -> PaperLayer:
    names = ("cos_sim_pct", "remove1_dtop1", "leave1_dtop1")
    marked = [row[f"most_{kind}_head_6h_1based"] if heads == 6 else "" for kind in ("important", "redundant")]
    similarity, without, alone = (float(row[f"{name}_{heads}heads"]) for name in names)
    return PaperLayer(similarity, without, alone, *(int(head) - 1 if head else None for head in marked))


def _swin(model: SwinTransformer) -> PaperHeads | None:
    """Swin-T, and the one of half its width, whose heads the paper does not print."""
    ending, name = {96: ("", "Swin-T"), 48: ("_x0.5", "Swin-T of half the width")}.get(model.embed_dim, ("", ""))
    depths = tuple(len(stage.blocks) for stage in model.layers)
    heads = tuple(stage.blocks[0].attn.num_heads for stage in model.layers)
    if not name or depths != (2, 2, 6, 2) or (model.embed_dim == 96 and heads != (3, 6, 12, 24)):
        return None
    rows = read_rows(_FOLDER / "fig4_swin.csv")
    top1 = float(rows[0][f"full_top1_swin_t{ending}"])
    return PaperHeads(f"Fig. 4: {name}", top1, _DIGITISED, tuple(_of_swin(row, ending, top1) for row in rows))


def _of_swin(row: dict[str, str], ending: str, top1: float) -> PaperLayer:
    modes = ("mask_one_head", "mask_all_but_one")
    without, alone = (round(float(row[f"{mode}_top1_swin_t{ending}"]) - top1, 2) for mode in modes)
    return PaperLayer(float(row[f"cos_sim_pct_swin_t{ending}"]), without, alone)
