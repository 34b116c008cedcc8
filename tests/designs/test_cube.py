"""The macro cube holds equal what it says, around every base."""

from itertools import product

import pytest

from shvit_pl.designs.config import resolve_design
from shvit_pl.designs.cost import cost
from shvit_pl.designs.design import NAMED
from tests.designs import CUBE_BASES


@pytest.mark.parametrize(("base", "patch_size", "stages"), product(CUBE_BASES, (4, 16), (3, 4)))
def test_patch_size_and_stages_keep_macs_and_blocks_and_stage1_changes_the_mixer_alone(base, patch_size, stages):
    conv, attention = (
        resolve_design(base, patch_size=patch_size, stages=stages, stage1=stage1) for stage1 in ("conv", "attention")
    )
    assert (conv.patch_size, conv.stages) == (patch_size, stages)
    assert cost(conv).macs == pytest.approx(cost(NAMED[base]).macs, rel=0.025)
    assert sum(conv.depth) == sum(NAMED[base].depth)
    assert (conv == NAMED[base]) == ((patch_size, stages) == (16, 3))  # the base's own cell
    assert attention.mixers == ("single_head", *conv.mixers[1:])
    assert (attention.embed_dim, attention.depth) == (conv.embed_dim, conv.depth)
    assert 1 < cost(attention).params / cost(conv).params < 1.02
    assert cost(attention).macs > cost(conv).macs


@pytest.mark.parametrize(("patch_size", "stages"), [(8, 3), (8, 4), (8, 5), (16, 2), (4, 5)])
def test_patch_8_and_other_numbers_of_stages_follow_the_same_rule(patch_size, stages):
    cell = resolve_design("s4", patch_size=patch_size, stages=stages)
    assert cost(cell).macs == pytest.approx(cost(NAMED["s4"]).macs, rel=0.05)


def test_stage1_attention_is_the_kind_of_the_other_stages():
    assert resolve_design("s1", stage1="attention").mixers == ("single_head",) * 3
    assert resolve_design("macro_b", stage1="attention") == NAMED["macro_b_attn"]
    assert resolve_design("s3_no_attention", stage1="attention").mixers == ("single_head", "conv", "conv")


def test_explicit_lists_override_the_rule():
    design = resolve_design("s1", patch_size=4, stages=4, embed_dim=(24, 48, 96, 192), depth=(1, 1, 2, 1))
    assert (design.embed_dim, design.depth, design.patch_size) == ((24, 48, 96, 192), (1, 1, 2, 1), 4)
    mixers = ("conv", "conv", "multi_head", "single_head")
    assert resolve_design("s1", stages=4, mixers=mixers).mixers == mixers
