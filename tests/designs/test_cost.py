"""Costs: the closed form is the built network's and the paper's."""

import csv
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from shvit_pl.designs.config import resolve_design
from shvit_pl.designs.cost import cost
from shvit_pl.designs.design import NAMED
from shvit_pl.models import create_model
from tests.designs import CUBE_BASES

CHANGED = [
    *((base, {"patch_size": 4, "stages": 4, "stage1": "attention"}) for base in CUBE_BASES),
    ("s2", {"single_head": "full"}),
    ("s2", {"single_head": "bottleneck"}),
    ("s1", {"distilled": True}),
    ("s1", {"qk_dim": (8, 16, 32), "partial_ratio": 0.5}),
    ("tiny", {"mixers": ("multi_head",) * 3, "num_heads": (2, 4, 8)}),
]


@pytest.mark.parametrize(("name", "changes"), [*((name, {}) for name in NAMED), *CHANGED], ids=str)
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
    for row in csv.DictReader((Path(__file__).parents[1] / "golden" / "table1_architecture.csv").open()):
        total = cost(NAMED[row["model"].removeprefix("SHViT-").lower()])
        assert total.params == int(row["params_unfused"])
        assert total.macs / 1e6 == pytest.approx(float(row["flops_M_bn_fused_fvcore"]), rel=1e-3)
