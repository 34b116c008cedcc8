"""Models are measured in turns; the peaks are those of a product and a copy."""

import pytest
import torch
from torch import nn

from shvit_pl.deploy import timing
from shvit_pl.deploy.timing import Rate, images_per_second, peaks

IMAGES = torch.zeros(4, 3, 64, 64)


class Counted(nn.Module):
    """Writes its name into a list at every call, and does `work` convolutions."""

    def __init__(self, name, calls, work=1):
        super().__init__()
        self.name, self.calls, self.work, self.conv = name, calls, work, nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, images):
        self.calls.append((self.name, torch.is_inference_mode_enabled()))
        for _ in range(self.work):
            images = self.conv(images)
        return images


def test_a_model_of_four_times_the_work_is_less_than_half_as_fast():
    models = {"slow": Counted("slow", [], 40), "fast": Counted("fast", [], 10)}
    rates = images_per_second(models, IMAGES, rounds=5, seconds=0.02)
    assert rates["fast"].median > 2 * rates["slow"].median > 0
    assert all(len(rate.rounds) == 5 for rate in rates.values())


def test_the_models_take_turns_and_each_round_begins_with_another_one():
    calls, reports = [], []
    models = {name: Counted(name, calls) for name in "abc"}
    images_per_second(models, IMAGES, rounds=3, seconds=0.001, progress=lambda *args: reports.append(len(calls)))
    spans = zip([0, *reports], reports, strict=False)
    measured = [calls[last - 1][0] for _, last in spans]
    assert "".join(measured) == "abcbcacab"
    assert all(inference for _, inference in calls)
    first = reports[0] - next(i for i, call in reversed(list(enumerate(calls[: reports[0]]))) if call[0] != "a") - 1
    assert first > 0  # the calls before were warm-ups of all three
    assert [sum(call[0] == name for call in calls[: reports[0] - first]) >= 3 for name in "abc"] == [True] * 3


def test_progress_counts_every_measurement():
    reports = []
    images_per_second(
        {name: Counted(name, []) for name in "ab"},
        IMAGES,
        rounds=2,
        seconds=0.001,
        progress=lambda *s: reports.append(s),
    )
    assert [(done, total) for _, done, total in reports] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert reports[-1][0] == "measuring, round 2 of 2"


def test_each_model_may_have_images_of_its_own():
    small = torch.zeros(4, 3, 32, 32)
    models = {name: Counted(name, [], 10) for name in ("large", "small")}
    rates = images_per_second(models, {"large": torch.zeros(4, 3, 128, 128), "small": small}, rounds=3, seconds=0.02)
    assert rates["small"].median > 2 * rates["large"].median


def test_half_of_the_rounds_lie_between_the_quartiles():
    rate = Rate((50.0, 10.0, 20.0, 40.0, 30.0))
    assert rate.median == 30
    assert rate.quartiles == pytest.approx((20, 40))


def test_the_peaks_are_those_of_a_product_and_a_copy(monkeypatch):
    def measured(work, rounds, seconds):
        return {name: Rate((10.0 * (item.call() is not None),)) for name, item in work.items()}

    monkeypatch.setattr(timing, "_SMALL_SIDE", 32)
    monkeypatch.setattr(timing, "_COPIED_NUMBERS", 1000)
    monkeypatch.setattr(timing, "side_by_side", measured)
    assert peaks(torch.device("cpu"), torch.bfloat16) == (10 * 2 * 32**3, 10 * 2 * 4000)
