"""A study that was stopped goes on where it was, and ends as if it had not been."""

import json
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from shvit_pl.deploy.images import RealImages
from tests.analysis.heads.studies import files, heads

SAME = ["--ablation_images=12", "--images=10"]


@contextmanager
def pressing_ctrl_c(batches):
    """When so many batches have been worked on; a shell's background jobs would ignore it."""
    load, left = RealImages.batches, batches
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def loaded(self, rows, size, workers=0):
        nonlocal left
        for batch in load(self, rows, size, workers):
            if left == 0:
                signal.raise_signal(signal.SIGINT)
            left -= 1
            yield batch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RealImages, "batches", loaded)
        yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("batches", [1, 4])  # of 3 that are compared and 3 that are measured
def test_a_stopped_study_ends_as_one_that_was_not(multi_head_run, batches, capsys):
    assert heads(multi_head_run, "--output=whole", *SAME) == 0
    with pressing_ctrl_c(batches):
        assert heads(multi_head_run, *SAME) == 130
    assert files() == ["found.pt", "heads_study.json"]
    assert f"{min(batches, 3)} of 3 batches compared, {max(batches - 3, 0)} of 3 measured" in capsys.readouterr().err
    with pressing_ctrl_c(6 - batches):  # no more are worked on
        assert heads(multi_head_run, *SAME) == 0
    assert "going on: " in capsys.readouterr().out
    for name in ("heads.csv", "layers.csv"):
        assert Path("heads", name).read_bytes() == Path("whole", name).read_bytes()
    assert files() == files("whole")


def test_the_same_command_again_measures_nothing_anew(multi_head_run):
    assert heads(multi_head_run) == 0
    before = Path("heads/heads.csv").read_bytes()
    Path("heads/heads.csv").unlink()
    with pressing_ctrl_c(0):
        assert heads(multi_head_run) == 0
    assert Path("heads/heads.csv").read_bytes() == before
    assert files().count("events") == 1


def test_other_settings_are_refused_with_the_difference(multi_head_run, capsys):
    assert heads(multi_head_run) == 0
    before = {name: Path("heads", name).read_bytes() for name in ("heads.csv", "heads_study.json", "found.pt")}
    capsys.readouterr()
    assert heads(multi_head_run, "--vectorise=query") == 2
    assert "vectorise was map and is query. Give a new folder, or --overwrite" in capsys.readouterr().err
    assert before == {name: Path("heads", name).read_bytes() for name in before}
    assert heads(multi_head_run, "--vectorise=query", "--overwrite") == 0
    assert json.loads(Path("heads/heads_study.json").read_text())["vectorise"] == "query"
    assert Path("heads/heads.csv").read_bytes() != before["heads.csv"]


def test_a_folder_of_others_is_left_alone(multi_head_run, capsys):
    Path("heads").mkdir()
    Path("heads/mine.txt").write_text("mine")
    assert heads(multi_head_run, "--overwrite") == 2
    assert "--output 'heads': it holds other files; give a new folder." in capsys.readouterr().err
    assert files() == ["mine.txt"]


def test_damaged_results_are_named(multi_head_run, capsys):
    assert heads(multi_head_run) == 0
    Path("heads/found.pt").write_bytes(b"nothing")
    assert heads(multi_head_run) == 2
    assert "its found.pt is damaged" in capsys.readouterr().err


_HOLDS = """
import fcntl
file = open("heads/heads_study.json", "r+")
fcntl.lockf(file, fcntl.LOCK_EX)
print("held", flush=True)
input()
"""


def test_the_folder_of_a_study_that_is_going_on_is_refused(multi_head_run, capsys):
    assert heads(multi_head_run) == 0
    capsys.readouterr()
    with subprocess.Popen([sys.executable, "-c", _HOLDS], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        assert heads(multi_head_run, "--overwrite", "--vectorise=query") == 2
        assert "--output: a run in 'heads' is still going on" in capsys.readouterr().err
        other.communicate(b"\n")
    assert heads(multi_head_run) == 0


def test_files_of_others_that_are_named_alike_are_left_alone(multi_head_run, capsys):
    Path("heads/figures").mkdir(parents=True)
    mine = [Path("heads/settings.json"), Path("heads/figures/mine.png")]
    for path in mine:
        path.write_text("{}")
    assert heads(multi_head_run, "--overwrite") == 2
    assert "it holds other files" in capsys.readouterr().err
    assert all(path.read_text() == "{}" for path in mine)


def test_overwriting_a_study_keeps_what_is_not_of_it(multi_head_run):
    assert heads(multi_head_run) == 0
    Path("heads/figures/mine.png").write_text("mine")
    assert heads(multi_head_run, "--overwrite", "--vectorise=query") == 0
    assert Path("heads/figures/mine.png").read_text() == "mine"
