"""A run that ends early says why, a schedule fits into the time of the run, and both are resumed exactly."""

from math import cos, pi
from types import SimpleNamespace

import pytest
from lightning.pytorch.callbacks import timer

from shvit_pl.callbacks.checkpoints import StepSeed
from shvit_pl.cli import main
from shvit_pl.runs.folder import read_summary
from tests.cli.runs import SCENES, assert_same, fit, metrics, only_run, stopped, weights

PATIENT = ["--patience=2", "--trainer.max_epochs=30", "--model.optim.lr=0.0005", "--trainer.limit_val_batches=1"]


def validations_until(values, patience):
    """How many validations there are until so many in a row were no better than the best before."""
    best, waited = -1.0, 0
    for number, value in enumerate(values, 1):
        best, waited = (value, 0) if value > best else (best, waited + 1)
        if waited == patience:
            return number
    return None


def test_a_run_stops_after_so_many_validations_without_a_better_one_and_resumes_with_its_count(tmp_path, capsys):
    assert fit(*PATIENT, "--run_name=whole") == 0
    printed = capsys.readouterr().out
    whole = tmp_path / "runs" / "whole" / "version_0"
    values = [float(value) for value in metrics(whole, "val/acc1")]
    summary = read_summary(whole)
    assert len(values) == validations_until(values, 2) == summary["epochs_trained"] < 30
    assert summary["stopped_by"] == "no better val/acc1 in 2 validations (patience)"
    assert f"after {len(values)}/30 epochs: no better val/acc1 in 2 validations (patience)" in " ".join(printed.split())
    assert summary["metrics"]["val/acc1"] == pytest.approx(max(values), abs=1e-6)
    stopped(len(values) - 1, 0, *PATIENT, "--run_name=cut")  # with one validation of two waited for
    cut = tmp_path / "runs" / "cut" / "version_0"
    assert main(["fit", f"--ckpt_path={cut}"]) == 0
    assert read_summary(cut)["epochs_trained"] == len(values)
    assert_same(weights(whole), weights(cut))
    assert main(["fit", f"--ckpt_path={cut}"]) == 2
    assert "its run has ended" in capsys.readouterr().err


@pytest.mark.slow
def test_a_detector_has_patience_too(tmp_path):
    assert main(["fit", *SCENES, "--trainer.max_epochs=12", "--patience=1", "--model.optim.lr=1e-9"]) == 0
    summary = read_summary(only_run(tmp_path))
    assert summary["stopped_by"] == "no better val/map in 1 validation (patience)"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--patience=0"], "patience 0: allowed are whole numbers from 1"),
        (["--patience=3", "--trainer.limit_val_batches=0"], "patience 3: trainer.limit_val_batches 0 leaves nothing"),
        (["--patience=3", "--trainer.check_val_every_n_epoch=3"], "patience 3: trainer.check_val_every_n_epoch 3"),
        (
            ["--patience=3", "--trainer.callbacks=EarlyStopping", "--trainer.callbacks.monitor=val/loss"],
            "patience 3: trainer.callbacks has an EarlyStopping too",
        ),
    ],
)
def test_patience_that_can_not_be_is_refused(flags, words, tmp_path, capsys):
    assert fit(*flags) == 2
    assert words in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.iterdir())


def test_other_commands_have_no_patience(capsys):
    for command in ("validate", "test", "predict", "cache-teacher"):
        assert main([command, "--ckpt_path=a.ckpt", "--patience=3"]) == 2
        assert "patience 3:" in capsys.readouterr().err


def test_patience_that_can_stop_nothing_is_told(capsys):
    assert fit("--patience=2", "--trainer.limit_val_batches=1") == 0
    assert "note: patience 2 stops nothing, as the run has 2 validations" in capsys.readouterr().out


@pytest.fixture
def clock(monkeypatch):
    """A clock of Lightning's timer that goes on by a second with each training batch, by two with each validation."""
    seconds, begins = [0.0], timer.Timer.on_validation_start

    def trained(self, *args):
        seconds[0] += 1.0

    def validated(self, trainer, pl_module):
        begins(self, trainer, pl_module)
        seconds[0] += 2.0

    monkeypatch.setattr(StepSeed, "on_train_batch_end", trained)
    monkeypatch.setattr(timer.Timer, "on_validation_start", validated)
    monkeypatch.setattr(timer, "time", SimpleNamespace(monotonic=lambda: seconds[0]))


TIMED = ["--trainer.max_epochs=20", "--trainer.log_every_n_steps=1", "--model.optim.warmup_epochs=0"]
TIMED += ["--model.optim.min_lr=0"]
TIMED += ["--trainer.limit_val_batches=1"]  # 80 steps, in epochs of 4


@pytest.mark.parametrize(
    ("seconds", "steps", "trained"),
    [
        # the first epoch took 4 s and 2 s: of the 54 s left, 3 s (5 %) and a validation are kept, and 49 / (1 + 2 / 4)
        # are 32 more
        (60, 36, 36),
        # a tenth is over after two batches: of the 18 s left, 1 s and a validation (a third of a batch's second, as it
        # isn't known yet) are kept, and 16.67 / (1 + 0.33 / 4) are 15 more; validations take longer, and time is over
        (20, 17, 14),
    ],
)
def test_the_schedule_ends_within_the_time_of_the_run(seconds, steps, trained, tmp_path, clock, capsys):
    assert fit(*TIMED, f"--trainer.max_time=00:00:00:{seconds}", "--run_name=timed") == 0
    run = tmp_path / "runs" / "timed" / "version_0"
    summary = read_summary(run)
    assert (summary["steps_trained"], summary["steps"]) == (trained, steps)
    what = f"shortened from 80 to {steps} steps, to end within trainer.max_time 0:0{seconds // 60}:{seconds % 60:02}"
    assert summary["shortened"] == what
    assert f"warning: the schedule is {what}" in capsys.readouterr().out
    assert summary["stopped_by"] == (
        None if trained == steps else "its time was over (trainer.max_time, or the duration of a Timer)"
    )
    rates = [float(rate) for rate in metrics(run, "train/lr")]
    peak, decided = rates[0], 4 if seconds == 60 else 2
    planned = [80] * decided + [steps] * (trained - decided)
    expected = [(1 + cos(pi * step / total)) / 2 for step, total in enumerate(planned)]
    assert [rate / peak for rate in rates] == pytest.approx(expected, rel=1e-4)


def test_a_resumed_run_keeps_the_shortened_length(tmp_path, clock):
    flags = [*TIMED, "--trainer.max_time=00:00:00:30"]
    assert fit(*flags, "--run_name=whole") == 0
    stopped(2, 0, *flags, "--run_name=cut")
    whole, cut = (tmp_path / "runs" / name / "version_0" for name in ("whole", "cut"))
    assert main(["fit", f"--ckpt_path={cut}"]) == 0
    assert read_summary(cut)["shortened"] == read_summary(whole)["shortened"]
    assert_same(weights(whole), weights(cut))
    assert metrics(whole, "train/lr") == metrics(cut, "train/lr")
