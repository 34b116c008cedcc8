"""The designs with a name: the paper's S1-S4, its macro study and Table 6, and our `tiny`.

What the paper leaves open (facts it does not print, so several choices fit) and what we chose:

* Macro study (Fig. 2): attention heads and widths, FFN ratio and downsampling. Ours: plain MetaFormer blocks (one token
  mixer and an FFN of ratio 2), SHViT's own downsampling, queries and keys half as wide as the values.
* Table 6, "MHSA": heads and widths. Ours: 4 heads over all channels, 16 query and key channels per head as in SHSA.
"""

from dataclasses import replace

from shvit_pl.designs.design import Design, Mixer, fingerprint

_SHVIT: tuple[Mixer, ...] = ("conv", "single_head", "single_head")
_MULTI: tuple[Mixer, ...] = ("conv", "multi_head", "multi_head")
_CONV: tuple[Mixer, ...] = ("conv", "conv", "conv")

_S3 = Design(embed_dim=(192, 352, 448), depth=(3, 5, 5), mixers=_SHVIT)
_MACRO_B = Design((128, 256, 384), depth=(2, 4, 2), mixers=_MULTI, num_heads=(4, 8, 12), local_conv=False)

NAMED: dict[str, Design] = {
    # Table 1
    "s1": Design(embed_dim=(128, 224, 320), depth=(2, 4, 5), mixers=_SHVIT),
    "s2": Design(embed_dim=(128, 308, 448), depth=(2, 4, 5), mixers=_SHVIT),
    "s3": _S3,
    "s4": Design(embed_dim=(224, 336, 448), depth=(4, 7, 6), mixers=_SHVIT, image_size=256),
    # Figure 2: (a), (b) and (b''); (b') is (b) at 256 pixels
    "macro_a": Design(
        embed_dim=(24, 48, 184, 368),
        depth=(1, 1, 4, 2),
        mixers=("conv", "conv", "multi_head", "multi_head"),
        patch_size=4,
        qk_dim=23,
        num_heads=(1, 1, 4, 8),
        local_conv=False,
    ),
    "macro_b": _MACRO_B,
    "macro_b_attn": replace(_MACRO_B, mixers=("multi_head",) * 3),
    # Table 6, on S3
    "s3_mhsa": replace(_S3, mixers=_MULTI),
    "s3_no_attention": replace(_S3, mixers=_CONV),
    "s3_ratio_1_8": replace(_S3, partial_ratio=1 / 8),
    "s3_ratio_1_2": replace(_S3, partial_ratio=1 / 2),
    # ours, not the paper's: for tests and quick studies
    "tiny": Design(embed_dim=(80, 112, 160), depth=(1, 2, 2), mixers=_SHVIT, image_size=128),
}

TIMM_NAMES = {"s1": "shvit_s1", "s2": "shvit_s2", "s3": "shvit_s3", "s4": "shvit_s4"}


def timm_name(design: Design) -> str | None:
    """Return timm's own name of the network, where timm has it: S1 to S4 with one classifier."""
    if design.distilled:
        return None
    return next((name for ours, name in TIMM_NAMES.items() if fingerprint(NAMED[ours]) == fingerprint(design)), None)
