"""Mistakes in the studies' commands are one message each, and nothing is written."""

import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import torch

from shvit_pl.analysis.command import STUDIES
from shvit_pl.analysis.study import check_output, measured_device
from shvit_pl.cli import main
from shvit_pl.command_line.parser import read_options
from shvit_pl.errors import UserError


@pytest.mark.parametrize(
    ("study", "flag", "message"),
    [
        ("runtime", "--scope=heads", "--scope .*heads.*: allowed are attention, network"),
        ("runtime", "--dtype=fp31", "--dtype .*did you mean 'fp32'"),
        ("runtime", "--dtype=int8", "--dtype .*int8.*: allowed are fp32, bf16, fp16"),
        ("runtime", "--repeats=2", "--repeats 2: allowed are whole numbers from 5"),
        ("runtime", "--batch_size=0", "--batch_size 0: allowed are whole numbers from 1"),
        ("runtime", "--batch_size=none", "--batch_size"),
        ("runtime", "--image_size=9000", "--image_size 9000"),
        ("runtime", "--threads=0", "--threads 0"),
        ("runtime", "--output=", "give a folder"),
        ("runtime", "--output=.", "--output '.': the command runs inside this folder"),
        ("runtime", "--output=..", "--output '..': the command runs inside this folder"),
        ("runtime", "--fast", "--fast: no such flag"),
        ("macro", "--scope=network", "--scope: no such flag"),
        ("heads", "--images=0", "--images 0: .*from 1"),
        ("heads", "--batch_size=-1", "--batch_size -1: .*from 1"),
        ("heads", "--query=3", "--query 3: .*2 values"),
        ("heads", "--query=-1,2", "--query -1: .*from 0"),
        ("heads", "--vectorize=rows", "--vectorize .*rows.*map, query"),
        ("heads", "--head=1", "--head: no such flag"),
    ],
)
def test_flags_are_checked_before_anything_is_opened(study, flag, message):
    options = STUDIES[study].options
    with pytest.raises(UserError, match=message):
        read_options(options, ["tiny", flag], command="x", description="", positional=[fields(options)[0].name])


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["head"], "did you mean 'heads'"),
        ([""], "allowed are heads"),
        (["heads", "s3_no_attention"], "no attention heads found"),
        (["runtime", "tinny"], "did you mean 'tiny'"),
        (["runtime", "timm:resnet18"], "no known attention layers; give --scope network"),
        (["runtime", "s3_no_attention"], "--scope network"),
        (["runtime", "timm:deit_tiny_patch16_224", "--image_size=10"], "can't"),
        (["macro", "tiny", "--image_size=8"], "sides of 64 pixels or more"),
    ],
    ids=str,
)
def test_a_mistake_is_one_line_and_nothing_is_written(args, message, capsys):
    size = [] if args[-1].startswith("--image_size") else ["--image_size=64"]
    assert main(["analyze", *args, "--batch_size=1", "--device=cpu", *size]) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.startswith("shvit-pl analyze")
    assert printed.count("\n") == 1
    assert len(printed) < 450
    assert list(Path().iterdir()) == []


def test_devices_that_are_not_here_or_can_not_be_timed_are_refused(monkeypatch):
    for name, message in [("tpu", "'tpu': allowed are"), ("cpu:5", "'cpu:5': allowed are"), ("cuda", "no such device")]:
        if name != "cuda" or not torch.cuda.is_available():
            with pytest.raises(UserError, match=f"--device .*{message}"):
                measured_device(name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert measured_device("auto").type == "cpu"
    with pytest.raises(UserError, match="--device mps: its operations can't be timed one by one"):
        measured_device("mps")


def test_a_home_folder_below_a_file_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "taken").write_text("")
    with pytest.raises(UserError, match=f"{tmp_path / 'taken'} is a file"):
        check_output("~/taken/out", "runtime")


@pytest.mark.parametrize("study", [[], ["heads"], ["macro"], ["runtime"]], ids=str)
def test_the_help_is_quick(study):
    command = ["analyze", *study, "--help"]
    code = f"import sys; from shvit_pl.cli import main; main({command}); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], env=os.environ, check=True, capture_output=True)
