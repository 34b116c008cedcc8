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
from shvit_pl.sweep.engine.reading import find_place
from shvit_pl.sweep.engine.storage import open_storage
from shvit_pl.sweep.engine.sweep_study import SweepStudy
from shvit_pl.sweep.options import SweepOptions
from shvit_pl.sweep.start import slots
from tests.sweep.small import LONGEST, assert_refused, fit_check
from tests.sweep.test_sweep_file import GRID

COMMAND = ["shvit-pl", "sweep"]


@pytest.fixture
def other_sweep(tmp_path):
    """A sweep file `my.yaml`, and a folder that a sweep over other sizes has begun in."""
    (tmp_path / "my.yaml").write_text(GRID)
    definition = Definition("grid", {"patch_size 4": {"model.design.patch_size": 4}}, (0,), {"val/acc1": "max"}, {})
    (tmp_path / "there").mkdir()
    SweepStudy(open_storage(tmp_path / "there", None), "there", ["max"]).record(definition, "--folder 'there'")
    write_record(tmp_path / "there", definition, "there", None, COMMAND)
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
        ("report --folder=there --storage=nonsense", ["--storage 'nonsense'", "postgresql://"]),
        ("report --folder=empty", ["--folder 'empty'", "study 'empty'"]),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_and_leaves_nothing(args, parts, other_sweep, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(start, "FitCheck", fit_check)
    (tmp_path / "empty").mkdir()
    write_record(tmp_path / "empty", other_sweep, "empty", None, COMMAND)
    refused(args.split(), parts, tmp_path, capsys)


def test_a_password_is_in_no_message(other_sweep, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PGPASSWORD", "another")  # and so it is what it was when this test has ended
    parts = ["--storage postgresql://nobody@localhost:1/x", "can't be reached", "refused"]
    args = ["sweep", "--config=my.yaml", "--storage=postgresql://nobody:secret@localhost:1/x"]
    assert "secret" not in refused(args, parts, tmp_path, capsys)
    assert os.environ["PGPASSWORD"] == "secret"  # where the runs find it
    assert "secret" not in refused([*args[:2], "--storage=me:secret@host/x"], ["'me@host/x'"], tmp_path, capsys)


@pytest.mark.parametrize(
    ("folder", "study", "parts"),
    [
        ("version_0", None, ["--folder 'version_0'", "the folder of a run"]),
        ("my.yaml", None, ["--folder 'my.yaml'", "is a file"]),
        ("my.yaml/sweep", None, ["--folder 'my.yaml/sweep'", "is a file"]),
        ("mine", None, ["--folder 'mine'", "its sweep.yaml is not the record of a sweep", "another folder"]),
        ("torn", None, ["--folder 'torn/sweep.yaml'", "not YAML"]),
        ("there", "mine", ["--folder 'there'", "not in the study of --storage and --study", "give neither"]),
        ("shared", None, ["give --storage postgresql://user@host/database --study shared", "or another --folder"]),
        pytest.param(
            "locked/sweep", None, ["--folder 'locked/sweep'", "no access"],
            marks=pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root writes anywhere"),
        ),
    ],
)  # fmt: skip
def test_a_folder_that_is_no_sweeps_or_another_ones(folder, study, parts, other_sweep, tmp_path):
    for name in ("version_0", "mine", "torn", "shared"):
        (tmp_path / name).mkdir()
    (tmp_path / "version_0" / "config.yaml").touch()
    (tmp_path / "mine" / "sweep.yaml").write_text(GRID)
    (tmp_path / "torn" / "sweep.yaml").write_text("command: [a")
    (tmp_path / "locked").mkdir(mode=0o555)
    write_record(tmp_path / "shared", other_sweep, "shared", "postgresql://user@host/database", COMMAND)
    before = set(tmp_path.rglob("*"))
    assert_refused(parts, find_place, Path(folder), None, study)
    assert set(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("options", "devices", "gpus", "parts"),
    [
        (SweepOptions(gpus="7"), "auto", 2, ["--gpus 7: allowed are 0, 1"]),
        (SweepOptions(workers=3), "auto", 2, ["--workers 3: 2 GPUs with --per_gpu 1 have room for 2"]),
        (SweepOptions(workers=2), 2, 2, ["--trainer.devices 2", "leave out --workers and --gpus"]),
        (SweepOptions(gpus="0"), 2, 2, ["--trainer.devices 2", "leave out --workers and --gpus"]),
        (SweepOptions(gpus="7"), "auto", 0, ["--gpus 7: torch finds no GPU here; leave it out"]),
    ],
)
def test_gpus_and_workers_that_do_not_fit(options, devices, gpus, parts, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert_refused(parts, slots, options, devices)


def test_gpus_are_handed_out_in_turn(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert slots(SweepOptions(), "auto") == [None]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert slots(SweepOptions(per_gpu=2), "auto") == ["0", "1", "0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")  # which torch numbers from 0
    assert slots(SweepOptions(gpus="1,0", workers=1), "auto") == ["7"]
    assert slots(SweepOptions(), 2) == [None]  # each run takes several
