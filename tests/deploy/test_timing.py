"""Models are measured in turns, or as the official script does; peaks, memory and bytes are counted."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from shvit_pl.deploy import benchmark, timing
from shvit_pl.deploy.benchmark import officially_timed, peak_memory
from shvit_pl.deploy.timing import Rate, Work, counted_bytes, images_per_second, peaks
from shvit_pl.models.blocks import SelfAttention

MEGABYTE = 1_000_000


@pytest.fixture
def clock(monkeypatch):
    """A clock that only the measured calls move."""

    class Clock:
        now = 0.0

        def time(self):
            return self.now

        perf_counter = time

    clock = Clock()
    for module in (timing, benchmark):
        monkeypatch.setattr(module, "time", clock)
    return clock


def test_models_take_turns_after_a_warm_up_and_rates_are_images_by_the_time_of_their_calls(clock):
    calls, reports = [], []

    def model(name, seconds):
        def forward(images):
            calls.append((name, len(images), torch.is_inference_mode_enabled()))
            clock.now += seconds

        return forward

    models = {"a": model("a", 0.001), "b": model("b", 0.004), "c": model("c", 0.02)}
    images = {"a": torch.zeros(4, 3, 2, 2), "b": torch.zeros(4, 3, 2, 2), "c": torch.zeros(1, 3, 2, 2)}
    rates = images_per_second(models, images, 3, 0.01, lambda *step: reports.append((*step, len(calls))))
    assert {name: rate.rounds for name, rate in rates.items()} == {
        name: pytest.approx((rate,) * 3) for name, rate in {"a": 4000, "b": 1000, "c": 50}.items()
    }
    assert [step[:3] for step in reports] == [
        (f"measuring, round {1 + step // 3} of 3", step + 1, 9) for step in range(9)
    ]
    assert "".join(calls[step[3] - 1][0] for step in reports) == "abcbcacab"  # each round begins with another one
    measured = reports[-1][3] - reports[0][3]
    assert measured == 2 * 10 + 3 * 3 + 3 * 1  # calls that fill 0.01 seconds; the first block is not in it
    warm_up = calls[: reports[0][3] - 10]
    assert {name for name, *_ in warm_up} == {"a", "b", "c"}
    assert all(inference and size == len(images[name]) for name, size, inference in calls)


def test_the_official_timing_is_the_batch_over_the_mean_after_a_warm_up(clock):
    durations = iter([5.0] * 2 + [1.0, 2.0, 3.0])

    def call():
        clock.now += next(durations)

    assert officially_timed(Work(call, 4, torch.device("cpu")), warm_up=10, seconds=6).rounds == (4 / 2.0,)


def test_what_a_call_holds_at_once_is_counted_and_what_it_gives_back_is_not():
    def call():
        first = torch.empty(3 * MEGABYTE, dtype=torch.uint8)
        del first
        second = torch.empty(2 * MEGABYTE, dtype=torch.uint8)
        third = torch.empty(2 * MEGABYTE, dtype=torch.uint8)
        del second, third

    assert 4 * MEGABYTE <= peak_memory(call, torch.device("cpu")) < 4.01 * MEGABYTE


def test_half_of_the_rounds_lie_between_the_quartiles():
    rate = Rate((50.0, 10.0, 20.0, 40.0, 30.0))
    assert (rate.median, rate.quartiles) == (30, pytest.approx((20, 40)))


def test_the_peaks_are_those_of_a_product_and_a_copy(monkeypatch):
    def measured(work, rounds, seconds):
        return {name: Rate((10.0 * (item.call() is not None),)) for name, item in work.items()}

    monkeypatch.setattr(timing, "_SMALL_SIDE", 32)
    monkeypatch.setattr(timing, "_COPIED_NUMBERS", 1000)
    monkeypatch.setattr(timing, "side_by_side", measured)
    assert peaks(torch.device("cpu"), torch.bfloat16) == (10 * 2 * 32**3, 10 * 2 * 4000)


def traffic_of(work):
    with counted_bytes() as moved:
        work()
    return moved()


def test_layers_move_their_inputs_outputs_and_weights():
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Identity(), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 16, 2))
    images, maps = torch.zeros(5, 3, 4, 4), 5 * 8 * 16
    convolution = 5 * 3 * 16 + maps + 8 * 3 * 9 + 8
    linear = maps + 5 * 2 + 2 * 8 * 16 + 2
    assert traffic_of(lambda: model(images)) == 4 * (convolution + 2 * maps + linear)
    half, half_images = deepcopy(model).bfloat16(), images.bfloat16()
    assert traffic_of(lambda: half(half_images)) == 2 * (convolution + 2 * maps + linear)
    mixer = SelfAttention(dim=32, attended=8, qk_dim=4).eval()
    few, many = (traffic_of(lambda side=side: mixer(torch.zeros(1, 32, side, side))) for side in (8, 16))
    assert many - few > 5 * 4 * (16**4 - 8**4)  # scores: written by the product, read and written by scale and softmax


def test_views_move_nothing_copies_and_additions_in_place_do():
    x, y = torch.zeros(6, 4), torch.zeros(6, 4)
    assert traffic_of(lambda: (x.t(), x[:, 1:], x.view(3, 8), x.reshape(24), x.split(2), x.detach())) == 0
    assert traffic_of(lambda: x.t().reshape(24)) == traffic_of(x.clone) == 2 * x.nbytes
    assert traffic_of(lambda: x.add_(y)) == traffic_of(lambda: x + y) == 3 * x.nbytes
