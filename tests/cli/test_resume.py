"""A run that was stopped anywhere and resumed ends with the weights of the run that was not, bit for bit."""

import csv
import multiprocessing
import shutil
import signal
import subprocess
import sys
import time
from contextlib import redirect_stdout
from io import StringIO

import pytest
import torch

from shvit_pl import ClassificationModule
from shvit_pl.runs.claim import claim
from shvit_pl.runs.folder import read_summary
from tests.cli.runs import EVERYTHING, QUICK, assert_same, fit, logged_steps, stop_at, weights

FLAGS = [*EVERYTHING, "--trainer.limit_train_batches=7", "--trainer.max_epochs=3", "--checkpoint_every_n_steps=2"]

SLOW, FULL = pytest.mark.slow, pytest.mark.full


def stop_in_validation(monkeypatch, epoch):
    """Let the run end as if by Ctrl-C when an epoch's last step is done, and its validation is not."""

    def stop(self):
        if self.trainer.current_epoch == epoch and not self.trainer.sanity_checking:
            raise KeyboardInterrupt

    monkeypatch.setattr(ClassificationModule, "on_validation_start", stop)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The run that nothing interrupts."""
    root = tmp_path_factory.mktemp("whole")
    assert fit(*FLAGS, f"--trainer.default_root_dir={root}") == 0
    return root / "tiny" / "version_0"


@pytest.mark.parametrize(
    ("epoch", "batch"),
    [
        (1, 4),
        pytest.param(0, 5, marks=SLOW),
        pytest.param(1, 0, marks=SLOW),
        pytest.param(1, 1, marks=FULL),
        pytest.param(2, 6, marks=FULL),
    ],
)
def test_a_run_stopped_at_any_step_resumes_exactly(epoch, batch, whole, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_at(patch, epoch, batch)
        fit(*FLAGS)
    assert_resumes_as(whole, tmp_path)


@pytest.mark.parametrize("epoch", [1, pytest.param(2, marks=FULL)])
def test_a_run_stopped_in_a_validation_makes_it_when_it_resumes(epoch, whole, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_in_validation(patch, epoch)
        fit(*FLAGS)
    assert_resumes_as(whole, tmp_path)


def assert_resumes_as(whole, tmp_path):
    cut = tmp_path / "runs" / "tiny" / "version_0"
    assert not (cut / "summary.json").exists()
    assert fit(*FLAGS, "--ckpt_path=last") == 0
    assert_same(weights(whole), weights(cut))
    assert_same(weights(whole, "best"), weights(cut, "best"))
    assert read_summary(cut)["metrics"] == read_summary(whole)["metrics"]
    assert logged_steps(cut) == logged_steps(whole)
    assert list((tmp_path / "runs" / "tiny").iterdir()) == [cut]


@pytest.mark.parametrize("rare", ["--trainer.check_val_every_n_epoch=2", "--trainer.val_check_interval=3"])
def test_the_last_checkpoint_is_the_last_epochs_however_rarely_it_is_validated(rare, tmp_path):
    assert fit(rare, "--trainer.max_epochs=3") == 0
    folder = tmp_path / "runs" / "tiny" / "version_0"
    last = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert (last["epoch"], last["global_step"]) == (2, 12)
    assert (folder / "checkpoints" / "best.ckpt").is_file()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=SLOW)])
def test_a_stopped_run_ends_with_its_own_exit_code_and_says_how_to_go_on(number, code, tmp_path):
    often = ["--checkpoint_every_n_steps=1", "--trainer.max_epochs=200", "--data.num_workers=1"]
    command = [sys.executable, "-m", "shvit_pl.cli", "fit", *QUICK, *often]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a job in the background ignores it
    )
    while not list(tmp_path.rglob("last.ckpt")):
        time.sleep(0.05)
        assert process.poll() is None
    process.send_signal(number)
    out, error = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Detected" not in error
    assert "goes on with --ckpt_path" in out


CUT = ["--checkpoint_every_n_steps=1", "--trainer.limit_val_batches=1", "--ckpt_path=last"]


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """What is left of a run that was to go on from nothing and was stopped in its second epoch; what it printed."""
    root, printed = tmp_path_factory.mktemp("stopped"), StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(printed):
        stop_at(patch, epoch=1, batch=1)
        assert fit(*CUT, f"--trainer.default_root_dir={root}") == 130
    return root, printed.getvalue()


@pytest.fixture
def cut(stopped, tmp_path):
    """A copy of the stopped run, where the next one looks for it."""
    shutil.copytree(stopped[0], tmp_path / "runs")
    return tmp_path / "runs" / "tiny" / "version_0"


def test_with_nothing_to_resume_a_run_begins_and_says_so(stopped):
    assert "a new one begins" in stopped[1]


def test_last_looks_past_a_run_without_a_checkpoint_and_says_what_it_takes(cut, capsys):
    (cut.parent / "version_1").mkdir()
    (cut / "metrics.csv").write_text("a,b\n1,2\n")  # other columns than this run's
    assert fit(*CUT) == 0
    assert "going on from runs/tiny/version_0/checkpoints/last.ckpt" in capsys.readouterr().out
    assert logged_steps(cut)


def hold(folder, held, released):
    claim(folder)
    held.set()
    released.wait()


def test_a_run_that_is_still_going_on_is_not_resumed(cut, capsys):
    processes = multiprocessing.get_context("fork")  # which need not import all of it again
    held, released = processes.Event(), processes.Event()
    other = processes.Process(target=hold, args=(cut, held, released))
    other.start()
    assert held.wait(60)
    assert fit(*CUT) == 2
    assert "is still going on" in capsys.readouterr().err
    released.set()
    other.join()
    assert fit(*CUT) == 0


def test_another_monitor_is_another_setting(cut, capsys):
    assert fit(*CUT, "--monitor=val/loss") == 2
    assert "monitor val/acc1 -> val/loss" in capsys.readouterr().err


WORSENING = ["--monitor=val/loss", "--checkpoint_every_n_steps=1"]


def worsen(monkeypatch):
    """Let the validation loss rise in every epoch after the first, whatever the processor rounds."""

    def favor_the_last_classes(self):
        with torch.no_grad():
            bias = self.model.head.l.bias
            bias.add_(torch.linspace(0, 100 * self.trainer.current_epoch, len(bias)))

    monkeypatch.setattr(ClassificationModule, "on_validation_start", favor_the_last_classes)


def test_a_resumed_run_keeps_the_best_checkpoint_of_before_also_elsewhere(tmp_path, monkeypatch):
    worsen(monkeypatch)
    with monkeypatch.context() as patch:
        stop_at(patch, epoch=1, batch=2)
        fit(*WORSENING)
    shutil.copytree("runs", "kept")
    (tmp_path / "runs").rename("moved")
    assert_best_is_of_the_first_epoch(tmp_path / "moved")  # while its old place is empty
    (tmp_path / "kept").rename("runs")
    assert_best_is_of_the_first_epoch(tmp_path / "runs")


def assert_best_is_of_the_first_epoch(root):
    """After the run in this folder was resumed."""
    assert fit(*WORSENING, f"--trainer.default_root_dir={root}", "--ckpt_path=last") == 0
    folder = root / "tiny" / "version_0"
    losses = [float(row["val/loss"]) for row in csv.DictReader((folder / "metrics.csv").open()) if row["val/loss"]]
    assert min(losses) == losses[0] < losses[1], "this test needs a loss that rises"
    best = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)
    assert best["epoch"] == read_summary(folder)["best_epoch"] == 0
