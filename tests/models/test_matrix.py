"""Every kind of design in every way that a network is used; the whole cube around every base in `full`."""

from dataclasses import replace
from itertools import product

import pytest
import torch
from torch.export import Dim

from shvit_pl.designs.config import resolve_design
from shvit_pl.designs.cube import CELLS
from shvit_pl.designs.design import NAMED
from shvit_pl.models import build_network
from tests.conftest import perturb_
from tests.designs import CUBE_BASES

PAIRWISE = [CELLS[index] for index in (0, 3, 5, 6)]  # every two values of two axes meet
MICRO = [
    {"single_head": "full"},
    {"single_head": "bottleneck"},
    {"mixers": ("multi_head",) * 3, "num_heads": (2, 4, 8)},
    {"mixers": ("conv", "multi_head", "single_head"), "local_conv": False},
    {"patch_size": 8, "qk_dim": 8, "partial_ratio": 0.5},
]
QUICK = [("s1", {}), *(("tiny", changes) for changes in [*PAIRWISE, *MICRO])]
SLOW = [(name, {}) for name in NAMED if name not in CUBE_BASES]
SLOW += product([base for base in CUBE_BASES if base != "tiny"], PAIRWISE)
FULL = [(base, cell) for base, cell in product(CUBE_BASES, CELLS) if cell not in PAIRWISE]


def cases(quick, slow, full=()):
    marked = [(slow, pytest.mark.slow), (full, pytest.mark.full)]
    return [*quick, *(pytest.param(*case, marks=mark) for some, mark in marked for case in some)]


def build(name, changes, **further):
    design = replace(resolve_design(name, **changes), **further)
    return perturb_(build_network(design, num_classes=10)).eval()


@pytest.mark.parametrize(("name", "changes"), cases(QUICK, SLOW, FULL), ids=str)
@torch.no_grad()
def test_forward_and_fuse_at_all_sizes_that_the_strides_allow(name, changes, request):
    model, fused = build(name, changes), build(name, changes).fuse()
    assert sum(p.numel() for p in fused.parameters()) < sum(p.numel() for p in model.parameters())
    for side in (64, 96, 128, 192, 224, 256, 384) if request.node.get_closest_marker("full") else (96, 192):
        image = torch.randn(1, 3, side, side)
        if side < model.design.strides[-1]:
            with pytest.raises(ValueError, match=f"image_size {side}"):
                model(image)
            continue
        features = model.forward_intermediates(image, intermediates_only=True)
        assert [f.shape[1:3] for f in features] == list(
            zip(model.design.embed_dim, model.design.grids(side), strict=True)
        )
        output = model(image)
        assert output.shape == (1, 10)
        torch.testing.assert_close(fused(image), output, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("name", "changes"), cases(QUICK, SLOW, FULL), ids=str)
def test_the_output_depends_on_every_weight(name, changes):
    model = build(name, changes).train()
    model(torch.randn(4, 3, 128, 128)).square().sum().backward()
    without = [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.abs().sum()]
    assert without == []


COMPILED = [("tiny", MICRO[3]), ("tiny", CELLS[3]), ("tiny", {"distilled": True}), QUICK[0]]
LONG = [case for case in QUICK + SLOW + FULL if case not in COMPILED]


@pytest.mark.parametrize(("name", "changes"), cases([], COMPILED, LONG), ids=str)
@torch.no_grad()
def test_compiling_without_a_graph_break_and_exporting_equal_eager(name, changes):
    torch.compiler.reset()
    one_block = (1,) * resolve_design(name, **changes).stages  # more of the same would only take longer
    model, image, auto = build(name, changes, depth=one_block), torch.randn(2, 3, 128, 128), Dim.AUTO
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(image), model(image))
    any_size = (name, changes) in COMPILED
    shapes = {0: auto, 2: auto, 3: auto} if any_size else {0: auto}
    exported = torch.export.export(model, (image,), dynamic_shapes=(shapes,))
    image = torch.randn(3, 3, 192, 160) if any_size else torch.randn(3, 3, 128, 128)
    torch.testing.assert_close(exported.module()(image), model(image), rtol=1e-4, atol=1e-5)
