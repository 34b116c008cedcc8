"""A user's mistakes with `shvit-pl push`: one line, exit code 2, and nothing is sent."""

import json
import re
import shutil

import pytest

from shvit_pl.cli import main
from shvit_pl.errors import UserError
from shvit_pl.push import PushOptions
from shvit_pl.runs.finished_run import FinishedRun
from tests.hub.runs import edit

REPO = ("--repo_id", "user/digits")


@pytest.fixture
def run(ended, tmp_path):
    return shutil.copytree(ended, tmp_path / "runs" / "tiny" / "version_0")


def message(capsys, *args):
    capsys.readouterr()
    assert main(["push", *map(str, args)]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert len(err) < 450
    return err


def refused(folder, words, **options):
    with pytest.raises(UserError, match=re.escape(words)):
        FinishedRun.open(folder, **options)


def test_folders_that_are_no_finished_run(run, capsys):
    refused(run / "nowhere", "no such folder")
    refused(run / "figures", "no run folder")
    assert f"give {run}" in message(capsys, run.parent, *REPO, "--dry-run")
    (run / "summary.json").unlink()
    refused(run, "this run has not ended")


@pytest.mark.parametrize("name", ["summary.json", "config.yaml"])
def test_a_file_of_the_run_that_is_damaged(name, run):
    (run / name).write_text("{")
    refused(run, "config.yaml or summary.json is damaged")


def test_checkpoints_and_averages_that_are_not_there(run, capsys):
    whole = (run / "checkpoints/best.ckpt").read_bytes()
    (run / "checkpoints/best.ckpt").write_bytes(whole[: len(whole) // 2])
    assert "not a whole checkpoint" in message(capsys, run, *REPO, "--dry-run")
    shutil.rmtree(run / "checkpoints")
    refused(run, "no checkpoint")
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("decay: 0.9\n", "decay: 0.0\n"))
    refused(run, "no averaged weights", weights="ema")


@pytest.mark.parametrize("names", [["README.md"], ["config.yaml", "summary.json", "metrics.csv"]])
def test_a_dry_run_replaces_nothing_that_it_did_not_write(names, run, tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    for name in names:
        (tmp_path / "mine" / name).write_text("mine")
    assert "it holds other files" in message(capsys, run, *REPO, "--dry-run", f"--output={tmp_path / 'mine'}")
    assert {path.read_text() for path in (tmp_path / "mine").iterdir()} == {"mine"}


@pytest.mark.parametrize(
    ("flags", "words"),
    [((), "repo_id"), ((*REPO, "--weights", "emma"), "allowed are raw, ema"), ((*REPO, "--privat"), "no such flag")],
)
def test_flags(flags, words, capsys):
    assert words in message(capsys, "run", *flags)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"repo_id": "digits"}, "use user/name"),
        ({"repo_id": "user/-digits"}, "not a repository name"),
        ({"repo_id": "user/digits/s1"}, "not a repository name"),
        ({"repo_id": "hf-hub:user/digits@v2"}, "give user/digits, and --revision v2"),
        ({"repo_id": "https://huggingface.co/user/digits"}, "give user/digits."),
        *(({"revision": name}, "not a branch name") for name in ("my branch", "refs/pr/1", "v2/", "HEAD", "a..b")),
        ({"output": "there"}, "belongs to --dry_run"),
    ],
)
def test_options(options, words):
    with pytest.raises(UserError, match=re.escape(words)):
        PushOptions(**{"folder": "run", "repo_id": "user/digits", **options})


def test_a_summary_without_the_commit_of_its_dataset_is_read(run):
    dataset = json.loads((run / "summary.json").read_text())["dataset"]
    edit(run / "summary.json", dataset={key: value for key, value in dataset.items() if key != "commit"})
    assert main(["push", str(run), *REPO, "--dry-run"]) == 0
