"""Mistakes through the command: each is one short line, before anything starts, and leaves nothing.

Most are in test_sweep_file, test_checks and test_options, where they are found.
"""

import os
import re
from pathlib import Path

import pytest
import torch

from shvit_pl.cli import main
from shvit_pl.sweep import start
from shvit_pl.sweep.definition import Definition, write_record
from shvit_pl.sweep.engine import local
from shvit_pl.sweep.engine.local import local_engine
from shvit_pl.sweep.engine.reading import recorded
from shvit_pl.sweep.engine.study import open_journal
from shvit_pl.sweep.options import SweepOptions
from tests.sweep.small import LONGEST, assert_refused, fit_check
from tests.sweep.test_sweep_file import GRID

COMMAND = ["shvit-pl", "sweep"]


@pytest.fixture
def other_sweep(tmp_path):
    """A sweep file `my.yaml`, and a folder that a sweep over other sizes has begun in."""
    (tmp_path / "my.yaml").write_text(GRID)
    definition = Definition("grid", {"patch_size 4": {"model.design.patch_size": 4}}, (0,), {"val/acc1": "max"}, {})
    write_record(tmp_path / "there", definition, COMMAND)
    return definition


def refused(args, parts, folder, capsys):
    """A command is refused in one line, before anything has begun; returns the line."""
    before = set(folder.rglob("*"))
    assert main(args) == 2
    printed = capsys.readouterr()
    line = re.fullmatch(rf"shvit-pl {args[0]}: error: (.+)\n", printed.err)
    assert line, printed.err
    assert len(line[1]) < LONGEST
    assert all(part in line[1] for part in parts), line[1]
    assert "sweep: " not in printed.out
    assert set(folder.rglob("*")) == before
    return line[1]


@pytest.mark.parametrize(
    ("args", "parts"),
    [
        ("sweep --config=my.yaml --wokers=3", ["--wokers", "did you mean '--workers'"]),
        ("sweep --config=my.yaml --folder=there", ["contains another sweep (", "patch_size", "another --folder"]),
        ("sweep --config=my.yaml --folder=there --dry-run", ["--folder 'there'", "another sweep ("]),
        pytest.param(
            "sweep --config=my.yaml --folder=/proc/sweep", ["--folder", "/proc"],
            marks=pytest.mark.skipif(not Path("/proc/self").exists(), reason="no folder that nobody can write into"),
        ),
        ("sweep --config=there/sweep.yaml", ["the record of a sweep", "its command was: shvit-pl sweep"]),
        ("report --folder=", ["--folder ''", "sweeps/macro"]),
        ("report --folder=none", ["--folder 'none'", "no such folder"]),
        ("report --folder=.", ["--folder '.'", "not a sweep folder"]),
        ("report --folder=empty", ["--folder 'empty'", "study.journal is missing"]),
        ("report --folder=killed", ["--folder 'killed'", "study.journal is missing"]),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_and_leaves_nothing(args, parts, other_sweep, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(start, "FitCheck", fit_check)
    for name in ("empty", "killed"):
        write_record(tmp_path / name, other_sweep, COMMAND)
    open_journal(tmp_path / "killed")  # before there was a study in it
    refused(args.split(), parts, tmp_path, capsys)


@pytest.mark.parametrize(
    ("folder", "parts"),
    [
        ("version_0", ["--folder 'version_0'", "the folder of a run"]),
        ("my.yaml", ["--folder 'my.yaml'", "is a file"]),
        ("my.yaml/sweep", ["--folder 'my.yaml/sweep'", "is a file"]),
        ("mine", ["--folder 'mine'", "its sweep.yaml is not the record of a sweep", "another folder"]),
        ("torn", ["--folder 'torn/sweep.yaml'", "not YAML"]),
        ("bare", ["--folder 'bare'", "its sweep.yaml is missing", "another folder"]),
        pytest.param(
            "locked/sweep", ["--folder 'locked/sweep'", "no access"],
            marks=pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root writes anywhere"),
        ),
    ],
)  # fmt: skip
def test_a_folder_that_is_no_sweeps(folder, parts, other_sweep, tmp_path):
    for name in ("version_0", "mine", "torn", "bare"):
        (tmp_path / name).mkdir()
    (tmp_path / "version_0" / "config.yaml").touch()
    (tmp_path / "mine" / "sweep.yaml").write_text(GRID)
    (tmp_path / "torn" / "sweep.yaml").write_text("command: [a")
    open_journal(tmp_path / "bare")
    (tmp_path / "locked").mkdir(mode=0o555)
    before = set(tmp_path.rglob("*"))
    assert_refused(parts, recorded, Path(folder))
    assert set(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("options", "devices", "gpus", "parts"),
    [
        (SweepOptions(gpus="7"), "auto", 2, ["--gpus 7: allowed are 0, 1"]),
        (SweepOptions(gpus="7"), "auto", 0, ["--gpus 7: torch finds no GPU here; leave it out"]),
        (SweepOptions(workers=3), "auto", 2, ["--workers 3: 2 GPUs with --gpus_per_run 1 have room for 2"]),
        (SweepOptions(workers=2), 2, 2, ["--workers 2: 2 GPUs with --gpus_per_run 2 have room for 1"]),
        (SweepOptions(gpus_per_run=4), "auto", 2, ["--gpus_per_run 4: this computer has 2"]),
        (SweepOptions(gpus_per_run=1), "auto", 0, ["--gpus_per_run 1: torch finds no GPU here; leave it out"]),
        (SweepOptions(gpus_per_run=1), 2, 2, ["--trainer.devices 2: --gpus_per_run gives", "allowed is 1, or leave"]),
        (SweepOptions(), "0,1", 2, ["--trainer.devices 0,1", "allowed is a number, or leave it out"]),
        (SweepOptions(cpus_per_run=5), "auto", 0, ["--cpus_per_run 5: this computer has 4"]),
        (
            SweepOptions(workers=3, cpus_per_run=2), "auto", 0,
            ["--workers 3, each with --cpus_per_run 2: this computer has 4 cores; give fewer"],
        ),
    ],
)  # fmt: skip
def test_what_a_run_needs_and_this_computer_has_not(options, devices, gpus, parts, monkeypatch):
    monkeypatch.setattr(local, "cores_of_process", lambda: 4)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert_refused(parts, local_engine, options, devices)


@pytest.mark.parametrize(
    ("options", "devices", "gpus", "slots"),
    [
        (SweepOptions(), "auto", 0, [None]),
        (SweepOptions(workers=3), 2, 0, [None] * 3),  # processes on CPUs
        (SweepOptions(gpus_per_run=0.5), "auto", 2, ["0", "1", "0", "1"]),
        (SweepOptions(gpus_per_run=2), "auto", 5, ["0,1", "2,3"]),
        (SweepOptions(gpus_per_run=2, workers=1), 2, 4, ["0,1"]),
        (SweepOptions(), 2, 4, ["0,1", "2,3"]),
        (SweepOptions(gpus="3,1"), "1", 4, ["3", "1"]),
    ],
)
def test_gpus_are_handed_out_in_turn(options, devices, gpus, slots, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert local_engine(options, devices).slots == slots


def test_gpus_have_the_names_that_their_environment_gives_them(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")  # which torch numbers from 0
    assert local_engine(SweepOptions(gpus="1,0", workers=1), "auto").slots == ["7"]
