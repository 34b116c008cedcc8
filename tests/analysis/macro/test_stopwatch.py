"""Parts are timed by hooks that do not stay."""

import time

import pytest
import torch

from shvit_pl.analysis.macro.places import places
from shvit_pl.analysis.macro.stopwatch import seconds_of_places, time_shares
from shvit_pl.analysis.macro.study import study
from shvit_pl.analysis.measuring import Measuring
from shvit_pl.analysis.running import measured_device, ready
from shvit_pl.designs.cost import cost_parts
from shvit_pl.models.open_network import open_network


def network(name="tiny", device="cpu", **asked):
    asked = Measuring((name,), "", **{"batch_size": 2, "image_size": 64, **asked})
    return ready(open_network(name), asked, measured_device(device), torch.channels_last)


def test_all_places_are_timed_and_nothing_else_takes_long():
    tiny = network(image_size=256)
    tiny.call()
    (shares,) = time_shares([tiny], repeats=5)
    expected = {(part.stage, part.operation) for part in cost_parts(tiny.opened.model.design)}
    assert set(shares) == set(places(tiny.model).values()) == expected
    assert sum(each.share for each in shares.values()) == pytest.approx(1)
    assert all(each.quartiles[0] <= each.share <= each.quartiles[1] for each in shares.values())


def test_a_place_that_is_made_slower_takes_a_larger_share():
    tiny = network()
    (before,) = time_shares([tiny], repeats=5)
    place = ("stage 2", "attention")
    for block in tiny.model.stages[1].blocks:
        block.mixer.m.register_forward_hook(lambda *_: time.sleep(0.01))
    (after,) = time_shares([tiny], repeats=5)
    assert after[place].share > max(0.5, before[place].share)


def test_the_network_is_left_as_it_was():
    tiny = network()
    before = {name: tensor.clone() for name, tensor in tiny.opened.model.state_dict().items()}
    study([tiny], repeats=1)
    for model in (tiny.model, tiny.opened.model):
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    after = tiny.opened.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.gpu
def test_on_a_gpu_the_events_of_the_parts_fill_the_pass():
    s1 = network("s1", "cuda", batch_size=64, image_size=224, dtype="bf16")
    for _ in range(5):
        s1.call()
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    seconds = seconds_of_places(s1)
    end.record()
    torch.cuda.synchronize()
    assert 0.7 < sum(seconds.values()) / (start.elapsed_time(end) / 1000) <= 1.01
