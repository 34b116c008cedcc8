"""What `analyze macro` prints and leaves behind."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from shvit_pl.cli import main
from shvit_pl.designs.cost import cost
from shvit_pl.designs.named import NAMED
from tests.analysis.pictures import colours
from tests.hub.runs import quick_fit

SMALL = ["--device=cpu", "--batch_size=1", "--image_size=64", "--repeats=5"]


def rows(folder="macro"):
    with (Path(folder) / "macro.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def facts(folder="macro"):
    return json.loads((Path(folder) / "macro.json").read_text())


def test_two_designs_side_by_side_add_up(capsys):
    assert main(["analyze", "macro", *SMALL]) == 0
    for name in ("macro_a", "macro_b"):
        of = [row for row in rows() if row["design"] == name]
        assert sum(int(row["macs"]) for row in of) == cost(NAMED[name], 1000, 64).macs
        for column in ("macs_percent", "time_percent"):
            assert sum(float(row[column]) for row in of) == pytest.approx(100, abs=0.05)
        whole = facts()["designs"][name]
        milliseconds = 1000 / whole["images_per_second"]
        assert sum(float(row["milliseconds"]) for row in of) == pytest.approx(milliseconds, rel=1e-3)
        assert whole["whole"]["milliseconds"] == pytest.approx(milliseconds)
        assert sum(each["bytes"] for each in whole["stages"].values()) == sum(int(row["bytes"]) for row in of)
    assert {file.name for file in Path("macro").iterdir()} == {"macro.csv", "macro.json", "macro.png"}
    assert colours("macro/macro.png") >= 6
    printed = capsys.readouterr().out
    for said in facts()["said"]:
        assert said in printed
    assert "ridge at" in printed


def test_a_stage_is_below_the_ridge_as_the_measured_peaks_say():
    assert main(["analyze", "macro", "tiny", "--threads=2", *SMALL]) == 0
    ridge = facts()["peaks"]["flop_per_second"] / facts()["peaks"]["bytes_per_second"]
    assert facts()["peaks"]["ridge"] == pytest.approx(ridge)
    for stage in facts()["designs"]["tiny"]["stages"].values():
        assert stage["below_the_ridge"] == (stage["flop"] / stage["bytes"] < ridge)
        assert stage["gflop_per_second"] == pytest.approx(stage["flop"] / stage["milliseconds"] / 1e6)
    under = facts()["conditions"]
    assert (under["threads"], under["image_size"], under["batch_size"]) == (2, {"tiny": 64}, 1)
    assert under["torch"] == torch.__version__
    assert torch.get_num_threads() == 1  # as before


def test_a_run_of_ours_is_taken_at_its_own_size(tmp_path_factory):
    run = quick_fit(tmp_path_factory.mktemp("analysed"))
    assert main(["analyze", "macro", str(run), "--device=cpu", "--batch_size=1", "--repeats=5"]) == 0
    assert facts()["conditions"]["image_size"] == {str(run): 64}


MISTAKES = [
    (["tinny"], "did you mean 'tiny'"),
    (["timm:shvit_s1"], "Give a design (shvit-pl designs has them)"),
    (["timm:deit_tiny_patch16_224"], "analyze runtime takes models of timm"),
    (["tiny", "--scope=network"], "--scope: no such flag"),
    (["tiny", "--dtype=int8"], "--dtype 'int8': allowed are fp32, bf16, fp16"),
    (["tiny", "--repeats=0"], "--repeats 0: allowed are whole numbers from 5"),
    (["tiny", "--image_size=8"], "sides of 64 pixels or more"),
    (["tiny", "--batch_size=none"], "batch_size"),
    (["tiny", "--output="], "give a folder"),
]


@pytest.mark.parametrize(("args", "told"), MISTAKES, ids=[" ".join(args) for args, _ in MISTAKES])
def test_a_mistake_is_one_line_and_nothing_is_written(args, told, capsys):
    assert main(["analyze", "macro", *args]) == 2
    message = capsys.readouterr().err
    assert told in message
    assert message.count("\n") == 1
    assert len(message) < 450
    assert list(Path().iterdir()) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="of a machine without one")
def test_a_gpu_that_is_not_here_is_said(capsys):
    assert main(["analyze", "macro", "--device=cuda"]) == 2
    assert "torch finds no such device here" in capsys.readouterr().err


def test_the_help_is_quick():
    code = "from shvit_pl.cli import main; main(['analyze', 'macro', '--help']); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", f"import sys; {code}"], env=os.environ, check=True, capture_output=True)


@pytest.mark.gpu
def test_the_macro_study_on_a_gpu():
    assert main(["analyze", "macro", "--device=cuda", "--batch_size=64", "--dtype=bf16", "--repeats=5"]) == 0
    assert facts()["conditions"]["device"] == torch.cuda.get_device_name()
    assert facts()["ratios"][0]["here"] > 1
