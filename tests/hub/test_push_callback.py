"""`fit --push_to`: checked at the start, pushed at the end, and a failed push does not fail the run."""

import json
import shlex
import subprocess
import sys
from types import SimpleNamespace

import pytest
from jsonargparse import Namespace
from lightning.pytorch.utilities import rank_zero_only

from shvit_pl.callbacks.summary import PushToHub
from shvit_pl.cli import main
from shvit_pl.fit.options import check_push
from shvit_pl.runs.writing import RunTensorBoardLogger
from tests.cli.runs import QUICK as RUN
from tests.cli.runs import fit, needs_two_cores, only_run
from tests.refusals import refused

QUICK = ("--trainer.max_epochs=1", "--trainer.limit_train_batches=2", "--trainer.limit_val_batches=2")
TO = "--push_to=user/digits"


def logger_of(run):
    return RunTensorBoardLogger(run.parent.parent, name=run.parent.name, version=run.name)


def test_the_finished_run_is_pushed_with_all_that_it_wrote(hub, tmp_path, capsys):
    assert fit(*QUICK, TO) == 0
    repo, run = hub.repo("user/digits"), only_run(tmp_path)
    assert repo.private
    assert {"model.safetensors", "README.md", "figures/curves.png", "figures/confusion_matrix.png"} < set(repo.files)
    assert repo.files["metrics.csv"] == (run / "metrics.csv").read_bytes()
    assert json.loads(repo.files["summary.json"]) == json.loads((run / "summary.json").read_text())
    assert "hf-hub:user/digits" in capsys.readouterr().out


def test_a_hub_that_fails_keeps_the_run_and_names_the_command_that_pushes_it(run, hub, capsys):
    hub.fail(500, "/commit/", times=99)
    trainer = SimpleNamespace(loggers=[logger_of(run)], is_global_zero=True)
    PushToHub("user/digits", public=True).on_fit_end(trainer, None)  # raises nothing, so the fit ends well
    err = capsys.readouterr().err
    command = next(line for line in err.splitlines() if "not pushed" in line).split("push it with: ")[1]
    hub.faults.clear()
    assert main(shlex.split(command)[1:]) == 0
    assert "model.safetensors" in hub.repo("user/digits").files
    assert not hub.repo("user/digits").private


@pytest.mark.parametrize(
    ("repo_id", "trainer", "words"),
    [
        ("digits", {}, "use user/name"),
        ("user/digits", {"logger": False}, "nothing to push"),
        ("user/digits", {"enable_checkpointing": False}, "nothing to push"),
        ("user/digits", {"fast_dev_run": True}, "nothing to push"),
    ],
)
def test_what_could_not_be_pushed_is_refused(repo_id, trainer, words):
    flags = Namespace(**{"logger": None, "enable_checkpointing": None, "fast_dev_run": False, **trainer})
    with refused(words):
        check_push(repo_id, flags)


def test_the_token_is_checked_before_the_data_is_opened(hub, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    assert fit(TO, "--data.path=nowhere/at/all") == 2
    err = capsys.readouterr().err
    assert "hf auth login" in err
    assert err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_a_process_that_is_not_the_first_asks_and_pushes_nothing(run, hub, monkeypatch):
    trainer = SimpleNamespace(loggers=[logger_of(run)], is_global_zero=False)
    PushToHub("user/digits").on_fit_end(trainer, None)
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    check_push("user/digits", Namespace(logger=None, enable_checkpointing=None, fast_dev_run=False))
    assert hub.requests == []


@needs_two_cores
@pytest.mark.full
def test_of_two_processes_one_pushes(hub, tmp_path):
    two = ("--trainer.accelerator=cpu", "--trainer.devices=2", "--trainer.strategy=ddp")
    command = [sys.executable, "-m", "shvit_pl.cli", "fit", *RUN, *QUICK, *two, TO]
    done = subprocess.run(command, env=hub.environment(), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    asked = [f"{request.method} {request.path}" for request in hub.requests]
    assert len([each for each in asked if "/commit/" in each]) == 1
    assert len([each for each in asked if "whoami" in each]) == 1
    assert len(hub.repo("user/digits").history()) == 2
