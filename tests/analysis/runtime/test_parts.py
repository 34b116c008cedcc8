"""What belongs to the attention of a block, and what to its FFN."""

from collections import Counter

import pytest
import timm
import torch
from torch.profiler import profile

from shvit_pl.analysis.runtime.parts import MARK, attention_parts, described, marked
from shvit_pl.models import create_model

NETWORKS = [
    ("vit_tiny_patch16_224", {"depth": 2, "img_size": 64}, "2 x Block up to its FFN"),
    ("swin_tiny_patch4_window7_224", {"depths": (1, 1), "img_size": 64}, "2 x SwinTransformerBlock up to its FFN"),
    ("swinv2_tiny_window8_256", {"depths": (1, 1), "img_size": 64}, "2 x SwinTransformerV2Block up to its FFN"),
    ("shvit_s1", {}, "9 x SHSA with its residual"),
    ("xcit_nano_12_p16_224", {"depth": 1}, "1 x XCABlock up to its FFN, 2 x ClassAttentionBlock up to its FFN"),
    ("maxvit_pico_rw_256", {"img_size": 64}, "22 x PartitionAttentionCl up to its FFN"),
    ("resnet18", {}, ""),
    ("resnest14d", {}, ""),  # its split attention has no queries
]


@pytest.mark.parametrize(("name", "changes", "told"), NETWORKS, ids=[name for name, _, _ in NETWORKS])
def test_the_attention_of_timms_networks_is_found(name, changes, told):
    assert described(attention_parts(timm.create_model(name, **changes))) == told


def test_the_attention_of_ours_is_the_mixer_with_its_residual():
    assert described(attention_parts(create_model("tiny"))) == "4 x SelfAttention with its residual"
    bottleneck = create_model("tiny", single_head="bottleneck")
    assert described(attention_parts(bottleneck)) == "4 x BottleneckAttention with its residual"
    assert attention_parts(create_model("tiny", mixers=("conv",) * 3)) == []


@pytest.mark.parametrize(("name", "changes", "_"), NETWORKS[:3], ids=[name for name, _, _ in NETWORKS[:3]])
def test_between_the_marks_is_all_of_attention_and_nothing_of_the_ffn(name, changes, _):
    inside = operators(timm.create_model(name, **changes).eval())
    assert inside["aten::linear"] >= 2 * 2  # queries, keys and values; projection; of SwinV2 the biases'
    assert inside["aten::native_layer_norm"] == 2
    assert inside["aten::gelu"] == 0
    assert inside["aten::add"] + inside["aten::add_"] >= 2  # residuals


def test_between_the_marks_of_ours_are_two_convolutions_a_block():
    inside = operators(create_model("tiny").eval())
    assert inside["aten::convolution"] == 2 * 4
    assert inside["aten::native_group_norm"] == 4
    assert inside["aten::softmax"] == 4


def test_no_hook_stays():
    model = create_model("tiny").eval()
    operators(model)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_pass_that_fails_closes_its_ranges():
    model = create_model("tiny").eval()
    with marked(attention_parts(model)), pytest.raises(RuntimeError):
        model(torch.zeros(1, 5, 64, 64))
    assert operators(model)["aten::softmax"] == 4


@torch.inference_mode()
def operators(model):
    """How often each operator was called between the marks."""
    with marked(attention_parts(model)), profile() as profiler:
        model(torch.zeros(1, 3, 64, 64))
    return Counter(event.name for event in profiler.events() if MARK in callers(event))


def callers(event):
    while (event := event.cpu_parent) is not None:
        yield event.name
