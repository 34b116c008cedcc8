"""Shares are of all operators in the scope, known or not, and add up."""

import numpy as np
import pytest
import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from shvit_pl.analysis.measuring import Measuring
from shvit_pl.analysis.running import measured_device, ready
from shvit_pl.analysis.runtime.kinds import KINDS
from shvit_pl.analysis.runtime.parts import Part, marked
from shvit_pl.analysis.runtime.profiling import operator_times
from shvit_pl.analysis.runtime.shares import measure, scaled, summed_up
from shvit_pl.analysis.unfused import unfused
from shvit_pl.models.open_network import open_network

SWIN, DEIT = "timm:swin_tiny_patch4_window7_224", "timm:deit_tiny_patch16_224"


def network(name, device="cpu", **asked):
    asked = Measuring((name,), "", **{"batch_size": 1, **asked})
    return ready(open_network(name), asked, measured_device(device), torch.contiguous_format)


def test_shares_have_a_sum_of_a_hundred_and_nothing_is_dropped():
    first = {("aten::mm", "matrix product"): 50, ("aten::add", "elementwise"): 30, ("?", "other"): 20}
    second = {("aten::mm", "matrix product"): 80, ("aten::add", "elementwise"): 20}
    third = {("aten::mm", "matrix product"): 60, ("aten::add", "elementwise"): 30, ("?", "other"): 10}
    found = summed_up([first, second, third], "all")
    assert found.percent["matrix product"] == pytest.approx(60)
    assert found.percent["other"] == pytest.approx(10)
    assert sum(found.percent.values()) == pytest.approx(100)
    assert found.memory_bound == pytest.approx(40)
    assert found.quartiles["memory-bound"] == pytest.approx((30, 45))
    assert found.operators["?", "other"] == pytest.approx(10)
    assert found.milliseconds == pytest.approx(0.1)


def test_the_median_of_all_but_products_stays():
    percent = scaled(np.array([60, 20, 0, 10, 0, 0]))
    assert percent[0] == 60
    assert percent[1] == pytest.approx(2 * percent[3])
    assert sum(percent) == pytest.approx(100)


@pytest.mark.parametrize("scope", ["attention", "network"])
@pytest.mark.parametrize("name", ["s1", "s2", "s3", "s4", DEIT, SWIN])
def test_hardly_anything_is_of_no_known_kind(name, scope):
    (found,) = measure([network(name)], scope, repeats=3)
    assert found.percent["other"] < 1
    assert sum(found.percent.values()) == pytest.approx(100)
    assert sum(found.operators.values()) == pytest.approx(100)
    assert all(found.percent[kind] > 0 for kind in KINDS if kind != "other")


def test_attention_is_less_than_the_network_and_more_than_nothing():
    deit = network(DEIT, image_size=64)
    times = {scope: measure([deit], scope, repeats=5)[0].milliseconds for scope in ("attention", "network")}
    assert 0 < times["attention"] < 0.8 * times["network"]


def test_the_time_is_that_of_the_operators_between_the_marks():
    deit = network(DEIT, image_size=64)
    assert operator_times(deit) == {}
    with marked([Part(deit.model.blocks[0].attn.proj)]):
        times = operator_times(deit)
    assert {("aten::linear", "matrix product"), ("aten::addmm", "matrix product")} <= set(times)
    assert not any("softmax" in name for name, _ in times)
    assert all(time > 0 for time in times.values())


def test_fused_attention_is_off_for_a_while_and_the_network_stays():
    deit = network(DEIT, image_size=64)
    before = {name: tensor.clone() for name, tensor in deit.model.state_dict().items()}
    (found,) = measure([deit], "attention", repeats=1)
    assert not any("scaled_dot_product" in name for name, _ in found.operators)
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
    (found,) = measure([shvit], "network", repeats=5)
    assert found.milliseconds * 1000 == pytest.approx(whole, rel=0.2)
    assert found.percent["other"] < 1
