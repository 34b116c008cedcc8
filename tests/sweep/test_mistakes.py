"""The catalogue of users' mistakes with a sweep: each is one short line, before anything starts, and leaves nothing."""

import os
import re
from pathlib import Path

import pytest
import torch

from shvit_pl.cli import main
from shvit_pl.sweep.plan.definition import Definition
from shvit_pl.sweep.study.board import Board
from shvit_pl.sweep.study.folder import write_record
from shvit_pl.sweep.study.storage import open_storage
from tests.sweep.mistakes import BASE, FILES, FLAGS, GRID

LONGEST = 450  # characters of a message
ROOT = Path(__file__).parents[2]
QUICK = ["--model.design.name=tiny", "--data.num_workers=0"]


def sweep(*flags):
    return main(["sweep", *QUICK, *flags])


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


def assert_refused(flags, said, capsys, folder):
    before = everything(folder)
    assert sweep(*flags) == 2
    line = line_of(capsys)
    for text in said:
        assert text in line, line
    assert everything(folder) == before


@pytest.fixture
def configs(tmp_path):
    (tmp_path / "my.yaml").write_text(GRID)
    (tmp_path / "other.yaml").write_text(GRID)
    (tmp_path / "bad.yaml").write_text("data: {batchsize: 8}\n")
    (tmp_path / "low.yaml").write_text("model: {optim: {lr: 0}}\n")
    (tmp_path / "dev.yaml").write_text("trainer: {fast_dev_run: true}\n")
    (tmp_path / "nolog.yaml").write_text("trainer: {logger: false}\n")


@pytest.mark.parametrize("mistake", FILES)
def test_a_mistake_in_the_sweep_file(mistake, configs, capsys, tmp_path):
    text, said = FILES[mistake]
    (tmp_path / "my.yaml").write_text(text, encoding="utf-8", errors="surrogateescape")
    assert_refused(["--config=my.yaml"], said, capsys, tmp_path)


@pytest.mark.parametrize(("flags", "said"), FLAGS, ids=lambda value: value[0])
def test_a_mistake_in_a_flag(flags, said, configs, capsys, tmp_path):
    assert_refused(["--config=my.yaml", *flags], said, capsys, tmp_path)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ([], ["--config: no sweep file", "such as cli_configs/sweeps/macro.yaml"]),
        (["--config=s1.yaml"], ["--config 's1.yaml'", "no sweep file"]),
        (["--config=s1.yaml", "--config=data/digits.yaml"], ["'s1.yaml', 'data/digits.yaml'", "no sweep file"]),
        (["--config=sweeps/marco.yaml"], ["--config 'sweeps/marco.yaml'", "did you mean 'sweeps/macro.yaml'"]),
        (["--config=."], ["--config '.'", "a folder"]),
        (["--config="], ["--config ''", "no such file"]),
    ],
    ids=str,
)
def test_no_sweep_file(flags, said, capsys, tmp_path):
    assert_refused(flags, said, capsys, tmp_path)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there(configs, capsys, tmp_path):
    assert_refused(["--config=my.yaml", "--gpus=7"], ["--gpus 7", "no GPU here", "leave it out"], capsys, tmp_path)


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one core alone")
def test_workers_of_runs_that_take_several_devices(configs, capsys, tmp_path):
    said = ["--trainer.devices 2", "leave out --workers and --gpus"]
    assert_refused(["--config=my.yaml", "--trainer.devices=2", "--workers=2"], said, capsys, tmp_path)


@pytest.mark.parametrize("flags", [[], ["--dry-run"]], ids=str)
def test_a_folder_of_a_run(flags, configs, capsys, tmp_path):
    (tmp_path / "version_0").mkdir()
    (tmp_path / "version_0" / "config.yaml").touch()
    said = ["--folder 'version_0'", "a run's folder"]
    assert_refused(["--config=my.yaml", "--folder=version_0", *flags], said, capsys, tmp_path)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no folder that nobody can write into")
def test_a_folder_that_can_not_be_made(configs, capsys, tmp_path):
    assert_refused(["--config=my.yaml", "--folder=/proc/sweep"], ["/proc", "--folder"], capsys, tmp_path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root writes anywhere")
def test_a_folder_without_access(configs, capsys, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o555)
    said = ["--folder 'locked/sweep'", "no access"]
    assert_refused(["--config=my.yaml", "--folder=locked/sweep"], said, capsys, tmp_path)


def test_a_sweep_file_of_the_records_name_in_the_sweeps_folder(configs, capsys, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "my.yaml").rename(tmp_path / "mine" / "sweep.yaml")
    said = ["--folder 'mine'", "its sweep.yaml is not the record of a sweep", "another folder"]
    assert_refused(["--config=mine/sweep.yaml", "--folder=mine"], said, capsys, tmp_path)


def test_the_record_of_a_sweep_is_no_sweep_file(other_sweep, capsys, tmp_path):
    said = ["'there/sweep.yaml'", "the record of a sweep", "it was started by: shvit-pl sweep"]
    assert_refused(["--config=there/sweep.yaml"], said, capsys, tmp_path)


@pytest.fixture
def other_sweep(tmp_path):
    """A folder that a sweep over other sizes has begun in."""
    definition = Definition("grid", {"patch_size 4": {"model.design.patch_size": 4}}, (0,), {"val/acc1": "max"}, {})
    (tmp_path / "there").mkdir()
    Board(open_storage(tmp_path / "there", None), "there", ["max"]).record(definition, "--folder 'there'")
    write_record(tmp_path / "there", definition, "there", None, ["shvit-pl", "sweep"])
    return definition


@pytest.mark.parametrize("flags", [[], ["--dry-run"]], ids=str)
def test_a_folder_of_another_sweep(flags, other_sweep, configs, capsys, tmp_path):
    said = ["--folder 'there'", "another sweep (", "patch_size", "undo the change, or give another --folder"]
    assert_refused(["--config=my.yaml", "--folder=there", *flags], said, capsys, tmp_path)


def test_another_sweep_is_refused_before_cells_that_can_not_run(other_sweep, configs, capsys, tmp_path):
    (tmp_path / "my.yaml").write_text(f"{BASE}grid: {{model.design.stages: [9]}}\n")
    assert_refused(["--config=my.yaml", "--folder=there"], ["it holds another sweep"], capsys, tmp_path)


def test_a_password_is_in_no_message(configs, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("PGPASSWORD", "another")  # and so it is what it was when this test has ended
    sweep("--config=my.yaml", "--storage=postgresql://nobody:secret@localhost:1/x")
    line = line_of(capsys)
    assert "--storage postgresql://nobody@localhost:1/x" in line
    assert "secret" not in line
    assert os.environ["PGPASSWORD"] == "secret"  # where the runs find it


def test_a_folder_whose_study_is_another(other_sweep, configs, capsys, tmp_path):
    said = ["--folder 'there'", "another one than --storage and --study say", "give neither"]
    assert_refused(["--config=my.yaml", "--folder=there", "--study=mine"], said, capsys, tmp_path)


def test_a_folder_whose_study_is_in_a_database(other_sweep, configs, capsys, tmp_path):
    database = "postgresql://user@host/database"
    write_record(tmp_path / "there", other_sweep, "shared", database, ["shvit-pl", "sweep"])
    said = ["--folder 'there'", f"give --storage {database} --study shared", "or another --folder"]
    assert_refused(["--config=my.yaml", "--folder=there"], said, capsys, tmp_path)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ([], ["folder"]),
        (["--folder=none"], ["--folder 'none'", "no sweep's folder"]),
        (["--folder=."], ["--folder '.'", "no sweep's folder"]),
        (["--fodler=there"], ["fodler", "did you mean '--folder'"]),
        (["--folder=there", "--storage=nonsense"], ["--storage nonsense", "postgresql://"]),
        (["--folder=empty"], ["--folder 'empty'", "study 'empty'"]),
    ],
    ids=str,
)
def test_a_mistake_with_a_report(args, said, other_sweep, capsys, tmp_path):
    (tmp_path / "empty").mkdir()
    write_record(tmp_path / "empty", other_sweep, "empty", None, ["shvit-pl", "sweep"])
    before = everything(tmp_path)
    assert main(["report", *args]) == 2
    line = line_of(capsys, "report")
    for text in said:
        assert text in line
    assert everything(tmp_path) == before
