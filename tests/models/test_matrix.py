"""The whole matrix: every named design and every cell of every cube, in every way that a network is used."""

from itertools import product

import pytest
import torch

from shvit_pl.designs.named import NAMED
from shvit_pl.models import create_model
from tests.conftest import perturb_
from tests.designs.bases import CUBE_BASES

CELLS = [
    (base, {"patch_size": patch_size, "stages": stages, "stage1": stage1})
    for base, patch_size, stages, stage1 in product(CUBE_BASES, (4, 16), (3, 4), ("conv", "attention"))
]
OTHERS = [(name, {}) for name in NAMED if name not in CUBE_BASES]
pytestmark = [pytest.mark.slow, pytest.mark.parametrize(("name", "changes"), [*CELLS, *OTHERS], ids=str)]


def build(name, changes):
    return perturb_(create_model(name, num_classes=10, **changes)).eval()


@torch.no_grad()
def test_forward_and_fuse_at_all_sizes(name, changes):
    model, fused = build(name, changes), build(name, changes).fuse()
    for side in (64, 96, 128, 192, 224, 256, 384):
        if side < model.design.strides[-1]:
            continue
        image = torch.randn(1, 3, side, side)
        output = model(image)
        assert output.isfinite().all()
        torch.testing.assert_close(fused(image), output, rtol=1e-3, atol=1e-4)


def test_backward_reaches_every_weight(name, changes):
    model = build(name, changes).train()
    model(torch.randn(4, 3, 128, 128)).square().sum().backward()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in model.parameters())


@torch.no_grad()
def test_compile_and_export_equal_eager(name, changes):
    torch.compiler.reset()
    model, image = build(name, changes), torch.randn(2, 3, 128, 128)
    expected = model(image)
    torch.testing.assert_close(torch.compile(model, fullgraph=True, backend="eager")(image), expected)
    exported = torch.export.export(model, (image,), dynamic_shapes=({0: torch.export.Dim.AUTO},))
    torch.testing.assert_close(exported.module()(image), expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_features_only(name, changes):
    extractor = create_model(name, features_only=True, **changes).eval()
    design = create_model(name, **changes).design
    features = extractor(torch.randn(1, 3, 128, 128))
    assert [tuple(f.shape[1:3]) for f in features] == list(zip(design.embed_dim, design.grids(128), strict=True))
