"""Mistakes in the studies' commands are one message each, and nothing is written."""

from dataclasses import fields
from pathlib import Path

import pytest
import torch

from shvit_pl.analysis.command import STUDIES
from shvit_pl.analysis.study import measured_device
from shvit_pl.command_line.parser import read_options
from shvit_pl.files import output_folder
from tests.refusals import refusal, refused


@pytest.mark.parametrize(
    ("study", "flag", "words"),
    [
        ("runtime", "--scope=heads", "--scope ... heads ... allowed are attention, network"),
        ("runtime", "--dtype=int8", "--dtype ... int8 ... allowed are fp32, bf16, fp16"),
        ("runtime", "--repeats=2", "--repeats 2: allowed are whole numbers from 5"),
        ("runtime", "--batch_size=0", "--batch_size 0: allowed are whole numbers from 1"),
        ("runtime", "--image_size=9000", "--image_size 9000"),
        ("runtime", "--output=", "give a folder"),
        ("runtime", "--output=..", "inside this folder; give a new one, such as runtime."),
        ("macro", "--scope=network", "--scope: no such flag"),
        ("heads", "--images=0", "--images 0: ... from 1"),
        ("heads", "--query=3", "--query 3: ... 2 values"),
        ("heads", "--query=-1,2", "--query -1: ... from 0"),
        ("heads", "--vectorize=rows", "--vectorize ... rows ... map, query"),
        ("heads", "--head=1", "--head: no such flag"),
        ("heads", "--weights=ema", "--weights ema: only for a run"),
    ],
)
def test_flags_are_checked_before_anything_is_opened(study, flag, words):
    options = STUDIES[study].options
    with refused(words):
        read_options(options, ["tiny", flag], command="x", description="", positional=[fields(options)[0].name])


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["head"], "shvit-pl analyze: error: 'head': allowed are heads ... did you mean 'heads'"),
        ([""], "allowed are heads"),
        (["heads", "s3_no_attention"], "shvit-pl analyze heads: error: no attention heads found"),
        (["runtime", "timm:resnet18"], "shvit-pl analyze runtime: error: ... no known attention layers; give --sc"),
        (["runtime", "timm:deit_tiny_patch16_224", "--image_size=10"], "can't"),
        (["macro", "tiny", "--image_size=8"], "sides of 64 pixels or more"),
        (["macro", "timm:shvit_s1"], "Give a design (shvit-pl designs lists them) ... runtime takes models of timm"),
    ],
    ids=str,
)
def test_a_mistake_is_one_line_and_nothing_is_written(args, words, capsys):
    size = [] if args[-1].startswith("--image_size") else ["--image_size=64"]
    message = refusal(capsys, "analyze", *args, "--batch_size=1", "--device=cpu", *size)
    assert all(part in message for part in words.split(" ... "))
    assert list(Path().iterdir()) == []


def test_devices_that_can_not_be_timed_are_refused(monkeypatch):
    """Others: tests/deploy/test_options.py."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert measured_device("auto").type == "cpu"
    with refused("--device mps: its operations can't be timed one by one"):
        measured_device("mps")


def test_earlier_results_may_be_replaced_other_files_are_kept_and_no_file_is_a_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "out").mkdir()
    for name in ("runtime.csv", "runtime.json", "runtime.png"):
        (tmp_path / "out" / name).touch()
    assert output_folder("~/out", "runtime.*") == tmp_path / "out"
    with refused("contains other files; give a new folder."):
        output_folder("~/out", "macro.*")
    with refused(f"{tmp_path / 'out' / 'runtime.csv'} is a file"):
        output_folder("~/out/runtime.csv/out", "runtime.*")
