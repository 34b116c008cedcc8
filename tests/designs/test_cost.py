"""Costs: the closed form is the built network's and the paper's; the macro cube holds equal what it says."""

import csv
from itertools import product
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from shvit_pl.designs.config import resolve_design
from shvit_pl.designs.cost import cost
from shvit_pl.designs.design import NAMED
from shvit_pl.models import create_model
from tests.designs import CUBE_BASES

CELLS = [(base, {"patch_size": 4, "stages": 4, "stage1": "attention"}) for base in CUBE_BASES]
MICRO = [
    ("s2", {"single_head": "full"}),
    ("s2", {"single_head": "bottleneck"}),
    ("s1", {"distilled": True}),
    ("s1", {"qk_dim": (8, 16, 32), "partial_ratio": 0.5}),
    ("tiny", {"mixers": ("multi_head",) * 3, "num_heads": (2, 4, 8)}),
]


@pytest.mark.parametrize(("name", "changes"), [*((name, {}) for name in NAMED), *CELLS, *MICRO], ids=str)
def test_closed_form_costs_equal_counted_parameters_and_torchs_flop_counter(name, changes):
    design = resolve_design(name, **changes)
    with torch.device("meta"):
        model = create_model(name, num_classes=1000, **changes).eval()
        image = torch.empty(1, 3, design.image_size, design.image_size)
    with FlopCounterMode(display=False) as counter:
        model(image)
    assert cost(design).params == sum(p.numel() for p in model.parameters())
    assert cost(design).macs * 2 == counter.get_total_flops()


def test_table_1_parameters_are_exact_and_macs_are_the_papers():
    rows = csv.DictReader((Path(__file__).parents[1] / "golden" / "table1_architecture.csv").open())
    for row in rows:
        total = cost(NAMED[row["model"].removeprefix("SHViT-").lower()])
        assert total.params == int(row["params_unfused"])
        assert total.macs / 1e6 == pytest.approx(float(row["flops_M_bn_fused_fvcore"]), rel=1e-3)


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
