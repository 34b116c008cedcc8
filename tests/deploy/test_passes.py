"""Every rewriting of a network's layers is exact."""

import pytest
import torch
from torch import nn

from shvit_pl.deploy.passes import attention_over_tokens, depthwise_as_sum, fused, pointwise_as_linear, rewrite
from shvit_pl.models import create_model
from shvit_pl.models.blocks import SelfAttention
from tests.conftest import perturb_

DESIGNS = {
    "s1": {"name": "s1"},
    "tiny": {"name": "tiny"},
    "two classifiers": {"name": "tiny", "distilled": True},
    "four stages of patch size 4": {"name": "tiny", "patch_size": 4, "stages": 4, "stage1": "attention"},
    "many heads": {"name": "tiny", "mixers": ("conv", "multi_head", "multi_head"), "num_heads": 2},
    "bottleneck": {"name": "tiny", "single_head": "bottleneck"},
    "attention alone": {"name": "tiny", "local_conv": False},
}
IMAGES = torch.randn(3, 3, 96, 64, generator=torch.Generator().manual_seed(0))


def difference(found, expected):
    return (torch.linalg.vector_norm(found - expected) / torch.linalg.vector_norm(expected)).item()


@pytest.mark.parametrize("design", DESIGNS.values(), ids=DESIGNS.keys())
@torch.inference_mode()
def test_the_fused_and_each_rewritten_network_give_the_same_logits(design):
    model = perturb_(create_model(num_classes=7, **design)).eval()
    before = model(IMAGES)
    for passes in ((), (attention_over_tokens,), (pointwise_as_linear,), (depthwise_as_sum,)):
        rewritten = rewrite(fused(model), *passes)
        assert difference(rewritten(IMAGES), before) <= 1e-5, passes
    assert torch.equal(model(IMAGES), before)  # which stays as it was


def test_every_layer_is_reached():
    model = rewrite(fused(create_model("s1")), attention_over_tokens, pointwise_as_linear, depthwise_as_sum)
    left = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d)]
    assert [layer.kernel_size for layer in left] == [(3, 3)] * 4  # of the stem
    assert not any("Norm" in str(type(layer)) or isinstance(layer, SelfAttention) for layer in model.modules())


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 4, 1, stride=2),
        nn.Conv2d(4, 4, 1, groups=2),
        nn.Conv2d(4, 4, 1, padding=1),
        nn.Conv2d(4, 4, 3, padding=1),
        nn.Conv2d(4, 8, 3, padding=1, groups=4),
        nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=4),
        nn.Conv2d(4, 4, 5, padding=2, groups=4),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect", groups=4),
        nn.Conv2d(4, 4, 3, padding="same", groups=4),
    ],
    ids=str,
)
@torch.inference_mode()
def test_other_convolutions_stay_exact(layer):
    images = torch.randn(2, 4, 9, 9)
    found = rewrite(nn.Sequential(layer), pointwise_as_linear, depthwise_as_sum)(images)
    torch.testing.assert_close(found, layer(images))
