"""What `analyze runtime` prints and leaves behind."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from shvit_pl.cli import main
from tests.analysis.pictures import colours

OWN_SIZE = ["--device=cpu", "--batch_size=1", "--repeats=5"]
SMALL = [*OWN_SIZE, "--image_size=64"]


def rows(folder="runtime"):
    with (Path(folder) / "runtime.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def facts(folder="runtime"):
    return json.loads((Path(folder) / "runtime.json").read_text())


def test_shares_add_up_and_stand_beside_the_papers(capsys):
    assert main(["analyze", "runtime", "timm:deit_tiny_patch16_224", "s1", "s3_mhsa", *OWN_SIZE]) == 0
    for name in ("timm:deit_tiny_patch16_224", "s1", "s3_mhsa"):
        of = {row["kind"]: row for row in rows() if row["network"] == name}
        percent = {kind: float(row["percent"]) for kind, row in of.items()}
        bound = percent.pop("memory-bound")
        assert sum(percent.values()) == pytest.approx(100, abs=0.01)
        assert bound == pytest.approx(100 - percent["matrix product"], abs=0.01)
        if name == "s3_mhsa":
            assert all(row["paper_percent"] == "" for row in of.values())
        else:
            difference = percent["reshape"] - float(of["reshape"]["paper_percent"])
            assert float(of["reshape"]["difference"]) == pytest.approx(difference, abs=0.002)
    assert {file.name for file in Path("runtime").iterdir()} == {"runtime.csv", "runtime.json", "runtime.png"}
    assert colours("runtime/runtime.png") >= 6
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("paper: MHSA, DeiT-T", "difference", "fused attention is switched off"))
    assert "the attention part of the blocks" in printed


def test_the_facts_say_under_which_conditions_and_what_was_counted():
    assert main(["analyze", "runtime", "tiny", "--scope=network", "--threads=2", "--dtype=bf16", *SMALL]) == 0
    under = facts()["conditions"]
    assert (under["scope"], under["threads"], under["dtype"]) == ("network", 2, "bf16")
    assert (under["batch_size"], under["image_size"], under["repeats"]) == (1, {"tiny": 64}, 5)
    assert (under["device_type"], under["torch"]) == ("cpu", torch.__version__)
    network = facts()["networks"]["tiny"]
    assert network["measured"] == "the whole network"
    assert sum(each["percent"] for each in network["operators"]) == pytest.approx(100)
    assert [str(row["percent"]) for row in facts()["rows"]] == [row["percent"] for row in rows()]
    assert torch.get_num_threads() == 1  # as before


def test_earlier_results_are_replaced_and_other_files_are_not(capsys):
    assert main(["analyze", "runtime", "tiny", "--output=out", *SMALL]) == 0
    first = facts("out")
    assert main(["analyze", "runtime", "tiny", "--output=out", "--scope=network", *SMALL]) == 0
    assert facts("out")["conditions"]["scope"] != first["conditions"]["scope"]
    assert colours("out/runtime.png") >= 6
    Path("out/mine.txt").write_text("kept")
    capsys.readouterr()
    assert main(["analyze", "runtime", "tiny", "--output=out", *SMALL]) == 2
    assert "--output 'out': it holds other files; give a new folder." in capsys.readouterr().err
    assert Path("out/mine.txt").read_text() == "kept"


MISTAKES = [
    (["tinny"], "did you mean 'tiny'"),
    (["timm:resnet18"], "no attention that is known here; give --scope network"),
    (["s3_no_attention"], "--scope network"),
    (["tiny", "--scope=heads"], "--scope 'heads': allowed are attention, network"),
    (["tiny", "--dtype=fp31"], "did you mean 'fp32'"),
    (["tiny", "--repeats=2"], "--repeats 2: allowed are whole numbers from 5"),
    (["tiny", "--batch_size=0"], "--batch_size 0: allowed are whole numbers from 1"),
    (["tiny", "--image_size=8"], "sides of 64 pixels or more"),
    (["tiny", "--image_size=9000"], "--image_size 9000"),
    (["tiny", "--threads=0"], "--threads 0"),
    (["tiny", "--device=tpu"], "--device 'tpu': allowed are"),
    (["tiny", "--device=cpu:5"], "--device 'cpu:5': allowed are"),
    (["tiny", "--output="], "give a folder"),
    (["tiny", "--output=."], "--output '.': the command runs inside this folder"),
    (["tiny", "--output=.."], "--output '..': the command runs inside this folder"),
    (["tiny", "--fast"], "--fast: no such flag"),
    (["timm:deit_tiny_patch16_224", "--image_size=10"], "can't"),
]


@pytest.mark.parametrize(("args", "told"), MISTAKES, ids=[" ".join(args) for args, _ in MISTAKES])
def test_a_mistake_is_one_line_and_nothing_is_written(args, told, capsys):
    small = ["--batch_size=1", "--image_size=64"]
    given = [flag for flag in small if not any(arg.startswith(flag.split("=")[0]) for arg in args)]
    assert main(["analyze", "runtime", *args, *given]) == 2
    message = capsys.readouterr().err
    assert told in message
    assert message.count("\n") == 1
    assert len(message) < 450
    assert list(Path().iterdir()) == []


def test_a_home_folder_is_written_into_when_it_may_be(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "taken").write_text("")
    assert main(["analyze", "runtime", "tiny", "--output=~/taken/out", *SMALL]) == 2
    assert f"{tmp_path / 'taken'} is a file" in capsys.readouterr().err
    assert main(["analyze", "runtime", "tiny", "--output=~/out", *SMALL]) == 0
    assert (tmp_path / "out" / "runtime.csv").is_file()


def test_the_help_is_quick():
    code = "from shvit_pl.cli import main; main(['analyze', 'runtime', '--help']); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", f"import sys; {code}"], env=os.environ, check=True, capture_output=True)


@pytest.mark.gpu
def test_a_gpus_kernels_are_sorted():
    assert main(["analyze", "runtime", "s1", "timm:deit_tiny_patch16_224", "--batch_size=8", "--repeats=5"]) == 0
    assert facts()["conditions"]["device"] == torch.cuda.get_device_name()
    assert all(float(row["percent"]) < 1 for row in rows() if row["kind"] == "other")
