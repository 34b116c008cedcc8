"""The time of attention: which operators are of it, of which kind each is, and shares that add up."""

from collections import Counter

import numpy as np
import pytest
import timm
import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from shvit_pl.analysis import runtime
from shvit_pl.analysis.attention_layers import unfused
from shvit_pl.analysis.command import RuntimeOptions
from shvit_pl.analysis.runtime import KINDS, AttentionPart, attention_parts, marked, measure
from shvit_pl.analysis.study import make_ready, measured_device
from shvit_pl.models import create_model
from shvit_pl.models.open_network import open_network

SWIN, DEIT = "timm:swin_tiny_patch4_window7_224", "timm:deit_tiny_patch16_224"


def network(name, device="cpu", **options):
    options = RuntimeOptions(models=(name,), **{"batch_size": 1, **options})
    return make_ready(open_network(name), options, measured_device(device), torch.contiguous_format)


@pytest.fixture(scope="module")
def deit():
    return network(DEIT, image_size=32)


CHAINS = [
    (["aten::addmm", "aten::linear"], "matrix product"),
    (["aten::mkldnn_convolution", "aten::_convolution"], "matrix product"),
    (["aten::relu_"], "elementwise"),
    (["aten::_softmax", "aten::softmax"], "normalization"),
    (["aten::cat"], "copy"),
    (["aten::permute"], "reshape"),
    (["aten::copy_"], "copy"),
    (["aten::copy_", "aten::_to_copy", "aten::to"], "copy"),
    (["aten::copy_", "aten::clone", "aten::contiguous"], "reshape"),
    (["aten::copy_", "aten::clone", "aten::reshape", "aten::matmul"], "reshape"),
    (["aten::copy_", "aten::addmm"], "matrix product"),
    (["aten::empty", "aten::native_layer_norm"], "normalization"),
    (["aten::empty"], "other"),
    (["aten::never_heard_of", "aten::nor_of_this"], "other"),
    (["some_library::add"], "elementwise"),
]


def test_an_operator_has_the_kind_of_the_first_known_name_and_none_is_of_two_kinds():
    assert [(chain, runtime.kind_of(chain)) for chain, _ in CHAINS] == CHAINS
    names = Counter(name for names in runtime.OPERATORS.values() for name in names.split())
    assert [name for name, number in names.items() if number > 1] == []
    assert set(runtime.OPERATORS) == set(KINDS) - {"other"}
    assert sum(hasattr(torch.ops.aten, name) for name in names) > 0.8 * len(names)


NETWORKS = [
    ("vit_tiny_patch16_224", {"depth": 2, "img_size": 64}, "2 x Block up to its FFN"),
    ("swin_tiny_patch4_window7_224", {"depths": (1, 1), "img_size": 64}, "2 x SwinTransformerBlock up to its FFN"),
    ("swinv2_tiny_window8_256", {"depths": (1, 1), "img_size": 64}, "2 x SwinTransformerV2Block up to its FFN"),
    ("shvit_s1", {}, "9 x SHSA with its residual"),
    ("xcit_nano_12_p16_224", {"depth": 1}, "1 x XCABlock up to its FFN, 2 x ClassAttentionBlock up to its FFN"),
    ("maxvit_pico_rw_256", {"img_size": 64}, "22 x PartitionAttentionCl up to its FFN"),
    ("resnet18", {}, ""),
    ("resnest14d", {}, ""),  # its split attention has no queries
    ("tiny", {}, "4 x SelfAttention with its residual"),
    ("tiny", {"single_head": "bottleneck"}, "4 x BottleneckAttention with its residual"),
    ("tiny", {"mixers": ("conv",) * 3}, ""),
]


@pytest.mark.parametrize(("name", "changes", "words"), NETWORKS, ids=str)
def test_the_attention_of_timms_networks_and_ours_is_found(name, changes, words):
    create = create_model if name == "tiny" else timm.create_model
    assert runtime.part_words(attention_parts(create(name, **changes))) == words


@pytest.mark.parametrize(("name", "changes", "_"), NETWORKS[:3], ids=str)
def test_between_the_marks_is_all_of_attention_and_nothing_of_the_ffn(name, changes, _):
    inside = operators(timm.create_model(name, **changes).eval())
    assert inside["aten::linear"] >= 2 * 2  # queries, keys and values; projection; of SwinV2 the biases'
    assert inside["aten::native_layer_norm"] == 2
    assert inside["aten::gelu"] == 0
    assert inside["aten::add"] + inside["aten::add_"] >= 2  # residuals


def test_between_the_marks_of_ours_are_two_convolutions_a_block_and_no_hook_stays():
    model = create_model("tiny").eval()
    with marked(attention_parts(model)), pytest.raises(RuntimeError):
        model(torch.zeros(1, 5, 64, 64))  # a pass that fails closes its ranges
    inside = operators(model)
    assert inside["aten::convolution"] == 2 * 4
    assert inside["aten::native_group_norm"] == 4
    assert inside["aten::softmax"] == 4
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@torch.inference_mode()
def operators(model):
    """How often each operator was called between the marks."""
    with marked(attention_parts(model)), profile() as profiler:
        model(torch.zeros(1, 3, 64, 64))
    return Counter(event.name for event in profiler.events() if runtime.MARK in callers(event))


def callers(event):
    while (event := event.cpu_parent) is not None:
        yield event.name


def test_shares_have_a_sum_of_a_hundred_and_nothing_is_dropped():
    first = {("aten::mm", "matrix product"): 50, ("aten::add", "elementwise"): 30, ("?", "other"): 20}
    second = {("aten::mm", "matrix product"): 80, ("aten::add", "elementwise"): 20}
    third = {("aten::mm", "matrix product"): 60, ("aten::add", "elementwise"): 30, ("?", "other"): 10}
    shares = runtime.summed_up([first, second, third], "all")
    assert shares.percent["matrix product"] == pytest.approx(60)
    assert shares.percent["other"] == pytest.approx(10)
    assert sum(shares.percent[kind] for kind in KINDS) == pytest.approx(100)
    assert shares.percent["memory-bound"] == pytest.approx(40)
    assert shares.quartiles["memory-bound"] == pytest.approx((30, 45))
    assert list(shares.operators) == [("aten::mm", "matrix product"), ("aten::add", "elementwise"), ("?", "other")]
    assert shares.operators["?", "other"] == pytest.approx(10)
    assert shares.milliseconds == pytest.approx(0.1)


def test_the_median_of_all_but_products_stays():
    percent = runtime.scaled(np.array([60, 20, 0, 10, 0, 0]))
    assert percent[0] == 60
    assert percent[1] == pytest.approx(2 * percent[3])
    assert sum(percent) == pytest.approx(100)


QUICK = [("s2", "attention"), (DEIT, "attention"), (SWIN, "network")]


@pytest.mark.parametrize(
    ("name", "scope"),
    [
        pytest.param(name, scope, marks=[] if (name, scope) in QUICK else pytest.mark.full)
        for name in ["s1", "s2", "s3", "s4", DEIT, SWIN]
        for scope in ["attention", "network"]
    ],
)
def test_hardly_anything_is_of_no_known_kind(name, scope):
    (shares,) = measure([network(name)], scope, repeats=1)
    assert shares.percent["other"] < 1
    assert sum(shares.percent[kind] for kind in KINDS) == pytest.approx(100)
    assert sum(shares.operators.values()) == pytest.approx(100)
    assert all(shares.percent[kind] > 0 for kind in KINDS if kind != "other")


def test_the_time_is_that_of_the_operators_between_the_marks(deit):
    assert runtime.operator_times(deit) == {}
    with marked([AttentionPart(deit.model.blocks[0].attn.proj)]):
        times = runtime.operator_times(deit)
    assert {("aten::linear", "matrix product"), ("aten::addmm", "matrix product")} <= set(times)
    assert not any("softmax" in name for name, _ in times)
    assert all(time > 0 for time in times.values())


def test_attention_is_not_fused_its_scope_has_no_ffn_and_stem_and_the_network_stays(deit):
    before = {name: tensor.clone() for name, tensor in deit.model.state_dict().items()}
    attention, whole = (
        {name for name, _ in measure([deit], scope, 1)[0].operators} for scope in ("attention", "network")
    )
    assert attention < whole
    assert {"aten::gelu", "aten::conv2d"} <= whole - attention
    assert not any("scaled_dot_product" in name for name in whole)
    assert all(block.attn.fused_attn for block in deit.model.blocks)
    assert all(torch.equal(before[name], tensor) for name, tensor in deit.model.state_dict().items())
    with profile() as profiler:
        deit.call()
    assert any("scaled_dot_product" in event.name for event in profiler.events())


def test_what_calls_torchs_attention_itself_is_taken_apart_too():
    with unfused([]), torch.inference_mode(), profile() as profiler:
        tensors = torch.randn(3, 2, 4, 8, 16)
        torch.nn.functional.scaled_dot_product_attention(*tensors)
    names = {event.name for event in profiler.events()}
    assert {"aten::bmm", "aten::_softmax"} <= names or {"aten::matmul", "aten::_safe_softmax"} <= names


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_on_a_gpu_every_kernel_belongs_to_an_operator(dtype):
    shvit = network("s1", "cuda", batch_size=8, dtype=dtype)
    shvit.call()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        shvit.call()
    kernels = [event for event in profiler.events() if event.device_type == DeviceType.CUDA]
    whole = sum(event.time_range.elapsed_us() for event in kernels if not event.is_user_annotation)
    (shares,) = measure([shvit], "network", repeats=5)
    assert shares.milliseconds * 1000 == pytest.approx(whole, rel=0.2)
    assert shares.percent["other"] < 1
