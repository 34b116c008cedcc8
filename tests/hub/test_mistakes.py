"""A user's mistakes with `shvit-pl push`: one line, exit code 2, and nothing is sent."""

import shutil

import pytest

from shvit_pl.cli import main
from tests.hub.runs import edit

REPO = ("--repo-id", "user/digits")


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


def test_folders_that_are_no_ended_run(run, capsys):
    assert "no such folder" in message(capsys, "nowhere", *REPO, "--dry-run")
    assert f"give {run}" in message(capsys, run.parent, *REPO, "--dry-run")
    assert "no run folder" in message(capsys, run / "figures", *REPO, "--dry-run")
    (run / "summary.json").unlink()
    assert "this run has not ended" in message(capsys, run, *REPO, "--dry-run")


def test_a_run_without_checkpoints(run, capsys):
    shutil.rmtree(run / "checkpoints")
    assert "no checkpoint" in message(capsys, run, *REPO, "--dry-run")


def test_a_checkpoint_that_is_cut_short(run, capsys):
    whole = (run / "checkpoints/best.ckpt").read_bytes()
    (run / "checkpoints/best.ckpt").write_bytes(whole[: len(whole) // 2])
    assert "not a whole checkpoint" in message(capsys, run, *REPO, "--dry-run")


@pytest.mark.parametrize("name", ["summary.json", "config.yaml"])
def test_a_file_of_the_run_that_is_damaged(name, run, capsys):
    (run / name).write_text("{")
    assert "config.yaml or summary.json is damaged" in message(capsys, run, *REPO, "--dry-run")


@pytest.mark.parametrize("names", [["README.md"], ["config.yaml", "summary.json", "metrics.csv"]])
def test_a_dry_run_replaces_nothing_that_it_did_not_write(names, run, tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    for name in names:
        (tmp_path / "mine" / name).write_text("mine")
    assert "it holds other files" in message(capsys, run, *REPO, "--dry-run", f"--output={tmp_path / 'mine'}")
    assert {path.read_text() for path in (tmp_path / "mine").iterdir()} == {"mine"}


def test_averaged_weights_that_are_not_there(run, capsys):
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("decay: 0.9\n", "decay: 0.0\n"))
    assert "no averaged weights" in message(capsys, run, *REPO, "--weights", "ema", "--dry-run")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ((), "repo_id"),
        (("--repo-id", "digits"), "use user/name"),
        (("--repo-id", "user/-digits"), "not a repository name"),
        (("--repo-id", "user/digits/s1"), "not a repository name"),
        ((*REPO, "--weights", "emma"), "allowed are raw, ema"),
        ((*REPO, "--privat"), "no such flag"),
        *(
            ((*REPO, "--revision", name), "not a branch name")
            for name in ("my branch", "refs/pr/1", "v2/", "HEAD", "a..b")
        ),
        (("--repo-id", "hf-hub:user/digits@v2"), "give user/digits, and --revision v2"),
        (("--repo-id", "https://huggingface.co/user/digits"), "give user/digits."),
        ((*REPO, "--output", "there"), "belongs to --dry_run"),
    ],
)
def test_flags(flags, words, run, capsys):
    assert words in message(capsys, run, *flags)


def test_a_summary_of_an_older_version_is_read(run, capsys):
    """It does not say yet which commit of a dataset of the Hub was seen."""
    import json

    dataset = json.loads((run / "summary.json").read_text())["dataset"]
    edit(run / "summary.json", dataset={key: value for key, value in dataset.items() if key != "commit"})
    assert main(["push", str(run), *REPO, "--dry-run"]) == 0
