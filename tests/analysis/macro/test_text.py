"""The sentences say what the numbers do."""

from dataclasses import replace

import pytest

from shvit_pl.analysis.macro.stopwatch import TimeShare
from shvit_pl.analysis.macro.study import Load, MeasuredPart, Peaks, Study
from shvit_pl.analysis.macro.text import ratios, sentences
from shvit_pl.designs.cost import cost_parts
from shvit_pl.designs.named import NAMED

PEAKS = Peaks(flops=1e12, bytes=1e11)  # ridge 10
PIXELS = {"macro_a": 224, "macro_b": 224, "s1": 224, "tiny": 128}


def made(name, slowest, rate, intensity=5):
    """A study in which one stage takes nine tenths of the time, and all do as many FLOP per byte."""
    parts = cost_parts(NAMED[name])
    stages = list(dict.fromkeys(part.stage for part in parts))
    measured = []
    for part in parts:
        alike = sum(other.stage == part.stage for other in parts)
        share = (0.9 if part.stage == slowest else 0.1 / (len(stages) - 1)) / alike
        flops = 2 * part.cost.macs
        load = Load(flops, flops // intensity, share / rate)
        measured.append(MeasuredPart(part, 1, load, TimeShare(share, (share, share))))
    return Study(name, NAMED[name], 1, (rate, rate, rate), tuple(measured))


@pytest.mark.parametrize("stage", ["stem", "stage 1", "stage 3"])
def test_the_slowest_stage_is_named_with_its_shares(stage):
    said, _ = sentences([made("macro_a", stage, 10)], PEAKS, PIXELS)
    assert f"{stage} takes most: 90% of the time" in said
    macs = sum(part.cost.macs for part in cost_parts(NAMED["macro_a"]))
    of_stage = sum(part.cost.macs for part in cost_parts(NAMED["macro_a"]) if part.stage == stage)
    assert f"and {of_stage / macs:.0%} of the MACs" in said


@pytest.mark.parametrize(
    ("intensity", "told"),
    [
        (5, "below the ridge of 10.0: memory sets its bound"),
        (9, "about at the ridge of 10.0: memory and arithmetic alike set its bound"),
        (11, "about at the ridge of 10.0: memory and arithmetic alike set its bound"),
        (20, "above the ridge of 10.0: arithmetic sets its bound"),
    ],
)
def test_the_limit_is_that_of_its_side_of_the_ridge(intensity, told):
    said, _ = sentences([made("s1", "stage 2", 10, intensity)], PEAKS, PIXELS)
    assert told in said


def test_the_dearest_stage_takes_more_of_the_time_than_of_the_macs():
    _, said = sentences([made("macro_a", "stage 1", 10)], PEAKS, PIXELS)
    assert "stage 1 is dearest per MAC" in said
    assert said.endswith("90% of the time and 2% of the MACs.")


def test_the_papers_speeds_stand_beside_ours():
    first, second = made("macro_a", "stem", 10), made("macro_b", "stem", 25)
    *_, said = sentences([first, second], PEAKS, PIXELS)
    assert "macro_b / macro_a: 25 / 10 images/s, 2.50 times" in said
    assert "3.00 on a GPU, 2.75 by ONNX Runtime on a CPU (Fig. 2: (b) / Fig. 2: (a))." in said
    (ratio,) = ratios([first, second], PIXELS)
    assert ratio["here"] == pytest.approx(2.5)
    assert ratio["paper_gpu"] == pytest.approx(33810 / 11267)
    assert ratio["paper_cpu"] is None


def test_where_the_paper_has_no_speed_none_is_said():
    *_, said = sentences([made("s1", "stem", 10), made("tiny", "stem", 25)], PEAKS, PIXELS)
    assert said.endswith("2.50 times.")
    *_, said = sentences([made("macro_a", "stem", 10), made("macro_b", "stem", 25)], PEAKS, {**PIXELS, "macro_a": 64})
    assert said.endswith("2.50 times.")


def test_shares_are_of_the_whole():
    study = made("macro_b", "stage 1", 4)
    assert study.whole.seconds == pytest.approx(1 / 4)
    assert sum(load.seconds for load in study.stages.values()) == pytest.approx(1 / 4)
    assert study.slowest() == "stage 1"
    assert replace(study, parts=study.parts[:1]).slowest() == "stem"
