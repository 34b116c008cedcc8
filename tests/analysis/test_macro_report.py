"""What `analyze macro` prints and leaves behind; its sentences say what the numbers do."""

from dataclasses import replace
from functools import partial

import pytest
import torch

from shvit_pl.analysis import macro_roofline
from shvit_pl.analysis.macro_report import ratio, sentences
from shvit_pl.analysis.macro_roofline import Load, MeasuredDesign, MeasuredPart, Peaks
from shvit_pl.cli import main
from shvit_pl.deploy import timing
from shvit_pl.deploy.timing import Rate, images_per_second
from shvit_pl.designs.cost import cost, cost_parts
from shvit_pl.designs.design import NAMED
from tests.analysis.studies import colors, facts, files, rows

PEAKS = Peaks(flops=1e12, bytes=1e11)  # ridge 10


def test_a_run_and_a_design_side_by_side_add_up_and_lie_below_the_ridge_as_the_peaks_say(
    short_run, monkeypatch, capsys
):
    """Measured briefly; the peaks: tests/deploy/test_timing.py."""
    monkeypatch.setattr(macro_roofline, "images_per_second", partial(images_per_second, rounds=3, seconds=0.01))
    monkeypatch.setattr(timing, "peaks", lambda device, dtype: (1e11, 1e10))
    run = str(short_run)
    assert main(["analyze", "macro", run, "tiny", "--device=cpu", "--batch_size=1", "--repeats=5"]) == 0
    printed, found = capsys.readouterr().out, facts("macro/macro.json")
    for name, classes, pixels in ((run, 10, 64), ("tiny", 1000, 128)):  # each at its own size
        own = [row for row in rows("macro/macro.csv") if row["design"] == name]
        assert sum(int(row["macs"]) for row in own) == cost(NAMED["tiny"], classes, pixels).macs
        for column in ("macs_percent", "time_percent"):
            assert sum(float(row[column]) for row in own) == pytest.approx(100, abs=0.05)
        design = found["designs"][name]
        milliseconds = 1000 / design["images_per_second"]
        assert sum(float(row["milliseconds"]) for row in own) == pytest.approx(milliseconds, rel=1e-3)
        assert design["whole"]["milliseconds"] == pytest.approx(milliseconds)
        assert sum(stage["bytes"] for stage in design["stages"].values()) == sum(int(row["bytes"]) for row in own)
        for stage in design["stages"].values():
            assert stage["below_the_ridge"] == (stage["flop"] / stage["bytes"] < 10)
            assert stage["gflop_per_second"] == pytest.approx(stage["flop"] / stage["milliseconds"] / 1e6)
    assert files("macro") == ["macro.csv", "macro.json", "macro.png"]
    assert colors("macro/macro.png") >= 6
    assert all(text in printed for text in [*found["findings"], "ridge at 10.0"])
    assert found["peaks"] == {"flop_per_second": 1e11, "bytes_per_second": 1e10, "ridge": 10}
    under = found["conditions"]
    assert (under["image_size"], under["batch_size"]) == ({run: 64, "tiny": 128}, 1)


@pytest.mark.gpu
def test_the_macro_study_on_a_gpu():
    assert main(["analyze", "macro", "--device=cuda", "--batch_size=64", "--dtype=bf16", "--repeats=5"]) == 0
    found = facts("macro/macro.json")
    assert found["conditions"]["device"] == torch.cuda.get_device_name()
    assert found["ratios"][0]["here"] > 1


def made(name, slowest, rate, intensity=5, pixels=224):
    """A design of which one stage takes nine tenths of the time, and all do as many FLOP per byte."""
    parts = cost_parts(NAMED[name])
    stages = list(dict.fromkeys(part.stage for part in parts))
    measured = []
    for part in parts:
        alike = sum(other.stage == part.stage for other in parts)
        share = (0.9 if part.stage == slowest else 0.1 / (len(stages) - 1)) / alike
        flops = 2 * part.cost.macs
        measured.append(MeasuredPart(part, 1, Load(flops, flops // intensity, share / rate), (share, share, share)))
    return MeasuredDesign(name, NAMED[name], pixels, 1, Rate((rate,)), tuple(measured))


@pytest.mark.parametrize("stage", ["stem", "stage 1", "stage 3"])
def test_the_slowest_stage_is_named_with_its_shares(stage):
    design = made("macro_a", stage, 10)
    assert design.slowest == stage
    assert sum(load.seconds for load in design.stages.values()) == pytest.approx(design.whole.seconds) == 1 / 10
    sentence, _ = sentences([design], PEAKS)
    assert f"{stage} is the slowest: 90% of the time" in sentence
    macs = sum(part.cost.macs for part in cost_parts(NAMED["macro_a"]))
    of_stage = sum(part.cost.macs for part in cost_parts(NAMED["macro_a"]) if part.stage == stage)
    assert f"and {of_stage / macs:.0%} of the MACs" in sentence


@pytest.mark.parametrize(
    ("intensity", "limit"),
    [
        (5, "below the ridge of 10.0, memory-bound"),
        (9, "near the ridge of 10.0, limited by memory and compute about equally"),
        (11, "near the ridge of 10.0, limited by memory and compute about equally"),
        (20, "above the ridge of 10.0, compute-bound"),
    ],
)
def test_the_limit_is_that_of_its_side_of_the_ridge(intensity, limit):
    sentence, _ = sentences([made("s1", "stage 2", 10, intensity)], PEAKS)
    assert limit in sentence


def test_the_least_efficient_stage_takes_more_of_the_time_than_of_the_macs():
    _, sentence = sentences([made("macro_a", "stage 1", 10)], PEAKS)
    assert "stage 1 has the highest time per MAC" in sentence
    assert sentence.endswith("90% of the time and 2% of the MACs.")


def test_the_papers_speeds_stand_beside_ours_where_it_has_them():
    first, second = made("macro_a", "stem", 10), made("macro_b", "stem", 25)
    *_, sentence = sentences([first, second], PEAKS)
    assert "macro_b / macro_a: 25 / 10 images/s, 2.50 times" in sentence
    assert "3.00 on a GPU, 2.75 by ONNX Runtime on a CPU (Fig. 2: (b) / Fig. 2: (a))." in sentence
    found = ratio(first, second)
    assert found["here"] == pytest.approx(2.5)
    assert found["paper_gpu"] == pytest.approx(33810 / 11267)
    assert found["paper_cpu"] is None
    for pair in [(replace(first, pixels=64), second), (made("s1", "stem", 10), made("tiny", "stem", 25, pixels=128))]:
        *_, sentence = sentences(pair, PEAKS)
        assert sentence.endswith("2.50 times.")
