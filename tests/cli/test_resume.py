"""A run that was stopped anywhere and resumed ends with the weights of the run that was not, bit for bit."""

import multiprocessing
import shutil

import pytest
import torch

from shvit_pl import ClassificationModule
from shvit_pl.callbacks.checkpoints import RunSettings
from shvit_pl.errors import UserError
from shvit_pl.modules.config import OptimConfig
from shvit_pl.modules.optim_and_ema import make_schedule
from shvit_pl.runs.folder import read_summary
from shvit_pl.runs.writing import claim
from tests.cli.runs import EVERYTHING, assert_same, content, fit, metrics, only_run, stopped, weights

FULL = pytest.mark.full
FLAGS = [*EVERYTHING, "--trainer.limit_train_batches=7", "--checkpoint_every_n_steps=2"]
FLAGS += ["--trainer.log_every_n_steps=1", "--trainer.limit_val_batches=2"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The run that nothing interrupts."""
    root = tmp_path_factory.mktemp("whole")
    assert fit(*FLAGS, f"--trainer.default_root_dir={root}") == 0
    return root / "tiny" / "version_0"


@pytest.mark.parametrize(
    ("epoch", "batch"),
    [(1, 4), pytest.param(1, 0, marks=pytest.mark.slow), *(pytest.param(*at, marks=FULL) for at in ((0, 5), (1, 6)))],
)
def test_a_run_stopped_at_any_step_resumes_exactly(epoch, batch, whole, tmp_path):
    stopped(epoch, batch, *FLAGS)
    assert_resumes_as(whole, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("epoch", [0, pytest.param(1, marks=FULL)])
def test_a_run_stopped_in_a_validation_makes_it_when_it_resumes(epoch, whole, tmp_path, monkeypatch):
    def stop(self):
        if self.trainer.current_epoch == epoch and not self.trainer.sanity_checking:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ClassificationModule, "on_validation_start", stop)
        assert fit(*FLAGS) == 130
    assert_resumes_as(whole, tmp_path)


def assert_resumes_as(whole, tmp_path):
    cut = only_run(tmp_path)
    assert not (cut / "summary.json").exists()
    assert fit(*FLAGS, "--ckpt_path=last") == 0
    assert only_run(tmp_path) == cut
    assert_same(weights(whole), weights(cut))
    assert_same(weights(whole, "best"), weights(cut, "best"))
    assert read_summary(cut)["metrics"] == read_summary(whole)["metrics"]
    for name in ("step", "train/lr", "train/loss_epoch", "val/acc1_ema"):
        assert metrics(cut, name) == metrics(whole, name)


@pytest.mark.parametrize(
    "rare",
    ["--trainer.check_val_every_n_epoch=2", pytest.param("--trainer.val_check_interval=3", marks=pytest.mark.slow)],
)
def test_the_last_checkpoint_is_the_last_epochs_however_rarely_it_is_validated(rare, tmp_path):
    assert fit(rare, "--trainer.max_epochs=3", "--trainer.limit_val_batches=1") == 0
    last = content(only_run(tmp_path))
    assert (last["epoch"], last["global_step"]) == (2, 12)
    assert content(only_run(tmp_path), "best")


CUT = ["--checkpoint_every_n_steps=1", "--trainer.limit_val_batches=1", "--ckpt_path=last"]


def hold(folder, held, released):
    claim(folder)
    held.set()
    released.wait()


@pytest.mark.slow
def test_last_is_the_newest_run_with_a_checkpoint_and_not_resumed_while_it_is_going_on(tmp_path, capsys):
    stopped(1, 1, *CUT)
    assert "starting a new run" in capsys.readouterr().out
    cut, processes = only_run(tmp_path), multiprocessing.get_context("fork")  # which need not import all of it again
    held, released = processes.Event(), processes.Event()
    other = processes.Process(target=hold, args=(cut, held, released))
    other.start()
    assert held.wait(60)
    assert fit(*CUT) == 2
    assert "is still running" in capsys.readouterr().err
    released.set()
    other.join()
    (cut.parent / "version_1").mkdir()
    (cut / "metrics.csv").write_text("a,b\n1,2\n")  # other columns than this run's
    assert fit(*CUT) == 0
    assert "resuming from runs/tiny/version_0/checkpoints/last.ckpt" in capsys.readouterr().out
    assert metrics(cut, "step")


WORSENING = ["--monitor=val/loss", "--checkpoint_every_n_steps=1"]


@pytest.mark.slow
def test_a_resumed_run_keeps_the_best_checkpoint_of_before_also_elsewhere(tmp_path, monkeypatch):
    def favor_the_last_classes(self):
        """Let the validation loss rise in every epoch after the first, whatever the processor rounds."""
        with torch.no_grad():
            bias = self.model.head.l.bias
            bias.add_(torch.linspace(0, 100 * self.trainer.current_epoch, len(bias)))

    monkeypatch.setattr(ClassificationModule, "on_validation_start", favor_the_last_classes)
    stopped(1, 2, *WORSENING)
    shutil.copytree("runs", "kept")
    (tmp_path / "runs").rename("moved")
    assert_best_is_of_the_first_epoch(tmp_path / "moved")  # while its old place is empty
    (tmp_path / "kept").rename("runs")
    assert_best_is_of_the_first_epoch(tmp_path / "runs")


def assert_best_is_of_the_first_epoch(root):
    """After the run in this folder was resumed."""
    assert fit(*WORSENING, f"--trainer.default_root_dir={root}", "--ckpt_path=last") == 0
    folder = root / "tiny" / "version_0"
    losses = list(map(float, metrics(folder, "val/loss")))
    assert min(losses) == losses[0] < losses[1], "this test needs a loss that rises"
    assert content(folder, "best")["epoch"] == 0
    assert read_summary(folder)["best_epoch"] == 1


def assert_follows_schedule(folder, interval, epochs, batches):
    schedule = make_schedule(OptimConfig(lr=8e-3, warmup_epochs=1, interval=interval), 16, epochs * batches, epochs)
    counts = [step if interval == "step" else step // batches for step in range(epochs * batches)]
    logged = list(map(float, metrics(folder, "train/lr")))
    assert logged == pytest.approx([schedule.peak * schedule(count) for count in counts])


@pytest.mark.slow
def test_the_rate_in_force_is_the_schedules_also_by_epochs_and_after_a_resume(whole, tmp_path):
    assert_follows_schedule(whole, "step", epochs=2, batches=7)  # resumed: above
    flags = ["--trainer.max_epochs=3", "--trainer.limit_train_batches=2", "--trainer.log_every_n_steps=1"]
    flags += ["--trainer.limit_val_batches=1", "--checkpoint_every_n_steps=1", "--model.optim.interval=epoch"]
    stopped(2, 1, *flags)
    assert fit(*flags, "--ckpt_path=last") == 0
    assert_follows_schedule(only_run(tmp_path), "epoch", epochs=3, batches=2)


@pytest.mark.slow
def test_what_was_changed_on_resuming_is_in_force_in_a_folder_of_its_own(short_run, tmp_path, capsys):
    last = shutil.copy(short_run / "checkpoints" / "last.ckpt", "last.ckpt")
    new = ["--model.optim.lr=0.001", "--model.optim.weight_decay=0.3", "--model.label_smoothing=0.3"]
    logged = ["--trainer.log_every_n_steps=1", *new]
    assert fit(f"--ckpt_path={last}", "--allow_changes=true", "--extend_to=3", *logged) == 0
    assert fit("--run_name=whole", "--trainer.max_epochs=3", *logged) == 0
    resumed, whole = only_run(tmp_path), tmp_path / "runs" / "whole" / "version_0"
    assert read_summary(resumed)["epochs_trained"] == 3
    assert metrics(resumed, "train/lr") == metrics(whole, "train/lr")[-4:]
    state, at_first = content(resumed), content(short_run)
    for checkpoint, decay in ((state, 0.3), (at_first, 0.025)):
        groups = checkpoint["optimizer_states"][0]["param_groups"]
        assert {group["weight_decay"] for group in groups} == {0.0, decay}
    assert state["hyper_parameters"]["label_smoothing"] == 0.3


def test_another_number_of_readers_of_a_stream_is_refused():
    settings = RunSettings({})
    settings.readers = 1
    with pytest.raises(UserError, match=r"data\.num_workers 1: the run read its stream by 2"):
        settings.load_state_dict({"settings": {}, "processes": 1, "readers": 2})
    settings.load_state_dict({"settings": {}, "processes": 1, "readers": 1})
