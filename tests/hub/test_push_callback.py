"""`fit --push_to`: asked at the start, pushed at the end, and never the end of a run that ended well."""

import json
import shlex
import subprocess
import sys

import pytest

from shvit_pl.cli import main
from tests.cli.runs import QUICK as RUN
from tests.cli.runs import fit
from tests.cli.two_processes import needs_two_cores

QUICK = ("--trainer.max_epochs=1", "--trainer.limit_train_batches=2", "--trainer.limit_val_batches=2")
TO = "--push_to=user/digits"


def test_the_ended_run_is_pushed_with_all_that_it_wrote(hub, tmp_path, capsys):
    assert fit(*QUICK, TO) == 0
    repo = hub.repo("user/digits")
    run = tmp_path / "runs/tiny/version_0"
    assert repo.private
    assert {"model.safetensors", "README.md", "figures/curves.png", "figures/confusion_matrix.png"} < set(repo.files)
    assert repo.files["metrics.csv"] == (run / "metrics.csv").read_bytes()
    assert json.loads(repo.files["summary.json"]) == json.loads((run / "summary.json").read_text())
    assert "hf-hub:user/digits" in capsys.readouterr().out


def test_a_hub_that_fails_keeps_the_run_and_names_the_command_that_pushes_it(hub, tmp_path, capsys):
    hub.fail(500, "/commit/", times=99)
    assert fit(*QUICK, TO, "--push_public=true") == 0
    err = capsys.readouterr().err
    command = next(line for line in err.splitlines() if "not pushed" in line).split("push it with: ")[1]
    assert (tmp_path / "runs/tiny/version_0/checkpoints/best.ckpt").is_file()
    hub.faults.clear()
    assert main(shlex.split(command)[1:]) == 0
    assert "model.safetensors" in hub.repo("user/digits").files
    assert not hub.repo("user/digits").private


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--push_to=digits",), "use user/name"),
        (("--push_to=other/digits",), "can't write"),
        (("--push_public=true",), "belongs to --push_to"),
        ((TO, "--trainer.logger=false"), "nothing to push"),
        ((TO, "--trainer.enable_checkpointing=false"), "nothing to push"),
        ((TO, "--trainer.fast_dev_run=true"), "nothing to push"),
    ],
)
def test_what_could_not_be_pushed_is_refused_before_the_data_is_opened(flags, words, hub, tmp_path, capsys):
    assert fit(*flags, "--data.path=nowhere/at/all") == 2
    err = capsys.readouterr().err
    assert words in err
    assert err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_a_token_is_asked_for_before_the_data_is_opened(hub, capsys, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", hub.account("user", write=False))
    assert fit(TO, "--data.path=nowhere/at/all") == 2
    assert "can only read" in capsys.readouterr().err
    monkeypatch.delenv("HF_TOKEN")
    assert fit(TO, "--data.path=nowhere/at/all") == 2
    assert "hf auth login" in capsys.readouterr().err


@needs_two_cores
@pytest.mark.slow
def test_of_two_processes_one_pushes(hub, tmp_path):
    two = ("--trainer.accelerator=cpu", "--trainer.devices=2", "--trainer.strategy=ddp")
    command = [sys.executable, "-m", "shvit_pl.cli", "fit", *RUN, *QUICK, *two, TO]
    done = subprocess.run(command, env=hub.environment(), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    asked = [f"{request.method} {request.path}" for request in hub.requests]
    assert len([each for each in asked if "/commit/" in each]) == 1
    assert len([each for each in asked if "whoami" in each]) == 1
    assert len(hub.repo("user/digits").history()) == 2
