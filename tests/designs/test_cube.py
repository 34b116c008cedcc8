"""The macro cube holds equal what it says it holds equal."""

from itertools import product

import pytest

from shvit_pl.designs.config import resolve_design
from shvit_pl.designs.cost import cost
from shvit_pl.designs.named import NAMED
from tests.designs import CUBE_BASES

CONV_CELLS = list(product(CUBE_BASES, (4, 16), (3, 4)))


@pytest.mark.parametrize(("base", "patch_size", "stages"), CONV_CELLS)
def test_patch_size_and_stages_keep_macs_within_2_5_percent_and_the_number_of_blocks(base, patch_size, stages):
    cell = resolve_design(base, patch_size=patch_size, stages=stages, stage1="conv")
    assert (cell.patch_size, cell.stages) == (patch_size, stages)
    assert cost(cell).macs == pytest.approx(cost(NAMED[base]).macs, rel=0.025)
    assert sum(cell.depth) == sum(NAMED[base].depth)


@pytest.mark.parametrize(("base", "patch_size", "stages"), CONV_CELLS)
def test_stage1_changes_the_mixer_alone_and_parameters_by_less_than_2_percent(base, patch_size, stages):
    conv, attention = (
        resolve_design(base, patch_size=patch_size, stages=stages, stage1=stage1) for stage1 in ("conv", "attention")
    )
    assert attention.mixers == ("single_head", *conv.mixers[1:])
    assert (attention.embed_dim, attention.depth) == (conv.embed_dim, conv.depth)
    assert 1 < cost(attention).params / cost(conv).params < 1.02
    assert cost(attention).macs > cost(conv).macs


@pytest.mark.parametrize("base", CUBE_BASES)
def test_the_bases_own_cell_is_the_base(base):
    assert resolve_design(base, patch_size=16, stages=3, stage1="conv") == NAMED[base]


def test_patch_8_and_other_numbers_of_stages_follow_the_same_rule():
    for patch_size, stages in ((8, 3), (8, 4), (8, 5), (16, 2), (4, 5)):
        cell = resolve_design("s4", patch_size=patch_size, stages=stages)
        assert cost(cell).macs == pytest.approx(cost(NAMED["s4"]).macs, rel=0.05)
