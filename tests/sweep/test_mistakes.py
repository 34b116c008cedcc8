"""Mistakes through the command: each is one short line, before anything starts, and leaves nothing.

Most are in plan/test_sweep_file, plan/test_checks and test_options, where they are found.
"""

import os
import re
from pathlib import Path

import pytest
import torch

from shvit_pl.cli import main
from shvit_pl.errors import UserError
from shvit_pl.sweep.engine.reading import find_place
from shvit_pl.sweep.engine.storage import open_storage
from shvit_pl.sweep.engine.sweep_study import SweepStudy
from shvit_pl.sweep.options import Options
from shvit_pl.sweep.plan.definition import Definition, write_record
from shvit_pl.sweep.start import slots
from tests.sweep.plan.test_sweep_file import BASE, GRID

LONGEST = 450  # characters of a message


def line_of(capsys, command="sweep"):
    """The one line on stderr; nothing has begun."""
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1, printed.err
    assert re.match(rf"shvit-pl {command}: error: ", printed.err)
    assert len(printed.err) < LONGEST, printed.err
    assert "sweep: " not in printed.out
    return printed.err


def everything(folder):
    return set(folder.rglob("*"))


def assert_refused(args, parts, capsys, folder):
    before = everything(folder)
    assert main(args) == 2
    line = line_of(capsys, args[0])
    assert all(part in line for part in parts), line
    assert everything(folder) == before


@pytest.fixture
def my_yaml(tmp_path):
    (tmp_path / "my.yaml").write_text(GRID)


@pytest.fixture
def other_sweep(tmp_path):
    """A folder that a sweep over other sizes has begun in."""
    definition = Definition("grid", {"patch_size 4": {"model.design.patch_size": 4}}, (0,), {"val/acc1": "max"}, {})
    (tmp_path / "there").mkdir()
    SweepStudy(open_storage(tmp_path / "there", None), "there", ["max"]).record(definition, "--folder 'there'")
    write_record(tmp_path / "there", definition, "there", None, ["shvit-pl", "sweep"])
    return definition


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        (["--config=wrong.yaml"], ["--config 'wrong.yaml': gird: no such key", "did you mean 'grid'"]),
        (["--config=stages.yaml"], ["model.design.stages 9", "give depth"]),
        (["--config=my.yaml", "--wokers=3"], ["--wokers", "did you mean '--workers'"]),
        (["--config=my.yaml", "--workers=0"], ["--workers 0", "from 1"]),
        (["--config=my.yaml", "--folder=there"], ["it holds another sweep (", "patch_size", "give another --folder"]),
        (["--config=my.yaml", "--folder=there", "--dry-run"], ["--folder 'there'", "another sweep ("]),
        (["--config=stages.yaml", "--folder=there"], ["it holds another sweep"]),  # before cells that can't run
        pytest.param(
            ["--config=my.yaml", "--folder=/proc/sweep"], ["--folder", "/proc"],
            marks=pytest.mark.skipif(not Path("/proc/self").exists(), reason="no folder that nobody can write into"),
        ),
        (["--config=there/sweep.yaml"], ["the record of a sweep", "it was started by: shvit-pl sweep"]),
    ],
    ids=lambda value: " ".join(value),
)  # fmt: skip
def test_a_mistake_is_one_line_and_leaves_nothing(flags, parts, my_yaml, other_sweep, capsys, tmp_path):
    (tmp_path / "wrong.yaml").write_text(f"{BASE}gird: {{data.batch_size: [8]}}\nseeds: [0]\n")
    (tmp_path / "stages.yaml").write_text(f"{BASE}grid: {{model.design.stages: [9]}}\n")
    args = ["sweep", "--model.design.name=tiny", "--data.num_workers=0", *flags]
    assert_refused(args, parts, capsys, tmp_path)


def test_a_password_is_in_no_message(my_yaml, capsys, monkeypatch):
    monkeypatch.setenv("PGPASSWORD", "another")  # and so it is what it was when this test has ended
    assert main(["sweep", "--config=my.yaml", "--storage=postgresql://nobody:secret@localhost:1/x"]) == 2
    line = line_of(capsys)
    assert "--storage postgresql://nobody@localhost:1/x" in line
    assert "secret" not in line
    assert os.environ["PGPASSWORD"] == "secret"  # where the runs find it


@pytest.mark.parametrize(
    ("args", "parts"),
    [
        ([], ["folder"]),
        (["--folder=none"], ["--folder 'none'", "not a sweep folder"]),
        (["--folder=."], ["--folder '.'", "not a sweep folder"]),
        (["--folder=there", "--strage=x"], ["--strage", "did you mean '--storage'"]),
        (["--folder=there", "--storage=nonsense"], ["--storage nonsense", "postgresql://"]),
        (["--folder=empty"], ["--folder 'empty'", "study 'empty'"]),
    ],
    ids=str,
)
def test_a_mistake_with_a_report(args, parts, other_sweep, capsys, tmp_path):
    (tmp_path / "empty").mkdir()
    write_record(tmp_path / "empty", other_sweep, "empty", None, ["shvit-pl", "sweep"])
    assert_refused(["report", *args], parts, capsys, tmp_path)


@pytest.mark.parametrize(
    ("storage", "parts"),
    [
        ("postgres://user@host/db", ["write postgresql://user@host/db"]),
        ("sqlite:///x", ["--storage sqlite:///x", "SQLite", "postgresql://"]),
        ("nonsense", ["--storage nonsense", "postgresql://"]),
        ("postgresql://nobody@localhost:1/x", ["--storage postgresql://nobody@localhost:1/x", "refused"]),
    ],
)
def test_a_storage_for_one_worker_or_that_is_not_there(storage, parts, tmp_path):
    with pytest.raises(UserError) as refused:
        open_storage(tmp_path, storage)
    assert all(part in str(refused.value) for part in parts)


@pytest.mark.parametrize(
    ("folder", "study", "parts"),
    [
        ("version_0", None, ["--folder 'version_0'", "a run's folder"]),
        ("my.yaml", None, ["--folder 'my.yaml'", "is a file"]),
        ("my.yaml/sweep", None, ["--folder 'my.yaml/sweep'", "is a file"]),
        ("mine", None, ["--folder 'mine'", "its sweep.yaml is not the record of a sweep", "another folder"]),
        ("there", "mine", ["--folder 'there'", "not in the study of --storage and --study", "give neither"]),
        ("shared", None, ["give --storage postgresql://user@host/database --study shared", "or another --folder"]),
        pytest.param(
            "locked/sweep", None, ["--folder 'locked/sweep'", "no access"],
            marks=pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root writes anywhere"),
        ),
    ],
)  # fmt: skip
def test_a_folder_that_is_no_sweeps_or_another_ones(folder, study, parts, my_yaml, other_sweep, tmp_path):
    for name in ("version_0", "mine", "shared"):
        (tmp_path / name).mkdir()
    (tmp_path / "version_0" / "config.yaml").touch()
    (tmp_path / "mine" / "sweep.yaml").write_text(GRID)
    (tmp_path / "locked").mkdir(mode=0o555)
    write_record(tmp_path / "shared", other_sweep, "shared", "postgresql://user@host/database", ["shvit-pl", "sweep"])
    before = everything(tmp_path)
    with pytest.raises(UserError) as refused:
        find_place(Path(folder), None, study)
    assert all(part in str(refused.value) for part in parts), refused.value
    assert everything(tmp_path) == before


@pytest.mark.parametrize(
    ("options", "devices", "parts"),
    [
        (Options(gpus="7"), "auto", ["--gpus 7: allowed are 0, 1"]),
        (Options(gpus="0,0"), "auto", ["--gpus 0,0: 0 is there twice", "--per_gpu 2"]),
        (Options(workers=3), "auto", ["--workers 3: 2 GPUs with --per_gpu 1 have room for 2"]),
        (Options(workers=2), 2, ["--trainer.devices 2", "leave out --workers and --gpus"]),
        (Options(gpus="0"), 2, ["--trainer.devices 2", "leave out --workers and --gpus"]),
    ],
)
def test_gpus_and_workers_that_do_not_fit(options, devices, parts, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(UserError) as refused:
        slots(options, devices)
    assert all(part in str(refused.value) for part in parts)


def test_gpus_are_handed_out_in_turn(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert slots(Options(per_gpu=2), "auto") == ["0", "1", "0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")  # which torch numbers from 0
    assert slots(Options(gpus="1,0", workers=1), "auto") == ["7"]
    assert slots(Options(), 2) == [None]  # each run takes several


def test_a_gpu_where_there_is_none(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(UserError, match="--gpus 7: torch finds no GPU here; leave it out"):
        slots(Options(gpus="7"), "auto")
    assert slots(Options(), "auto") == [None]
