"""A user's mistakes with `shvit-pl push`: one line, exit code 2, and nothing is sent."""

import re
import shutil

import pytest

from shvit_pl.cli import main
from shvit_pl.errors import UserError
from shvit_pl.push import PushOptions
from shvit_pl.runs.folder import FinishedRun

REPO = ("--repo_id", "user/digits")


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


def test_folders_that_are_no_finished_run_and_damaged_files(own, capsys):
    refused(own / "nowhere", "no such folder")
    refused(own / "figures", "no run folder")
    assert f"give {own}" in message(capsys, own.parent, *REPO, "--dry-run")
    for name in ("summary.json", "config.yaml"):
        content = (own / name).read_text()
        (own / name).write_text("{")
        refused(own, "config.yaml or summary.json is damaged")
        (own / name).write_text(content)
    (own / "summary.json").unlink()
    refused(own, "this run has not ended")


def test_checkpoints_and_averages_that_are_not_there(own, capsys):
    whole = (own / "checkpoints/best.ckpt").read_bytes()
    (own / "checkpoints/best.ckpt").write_bytes(whole[: len(whole) // 2])
    assert "not a whole checkpoint" in message(capsys, own, *REPO, "--dry-run")
    config = own / "config.yaml"
    config.write_text(config.read_text().replace("decay: 0.9\n", "decay: 0.0\n"))
    refused(own, "no averaged weights", weights="ema")
    shutil.rmtree(own / "checkpoints")
    refused(own, "no checkpoint")


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
