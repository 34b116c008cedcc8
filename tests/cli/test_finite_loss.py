"""The first loss that is not a finite number stops the run, and never reaches a checkpoint."""

import pytest
import torch
from lightning.pytorch.strategies import SingleDeviceStrategy

from shvit_pl import ClassificationModule
from shvit_pl.callbacks.finite_loss import _NO_STEP
from shvit_pl.modules.config import OptimConfig
from shvit_pl.modules.optim import make_schedule
from tests.cli.runs import fit

FLAGS = ["--trainer.limit_train_batches=8", "--trainer.log_every_n_steps=4", "--checkpoint_every_n_steps=1"]


@pytest.fixture
def loss_at(monkeypatch):
    """Make the loss of one step what is given; the weights are as good as before."""

    def patch(step, value):
        def training_step(self, batch, batch_idx):
            loss = original(self, batch, batch_idx)
            return loss * value if self.trainer.fit_loop.epoch_loop.total_batch_idx == step else loss

        original = ClassificationModule.training_step
        monkeypatch.setattr(ClassificationModule, "training_step", training_step)

    return patch


def saved(tmp_path):
    path = tmp_path / "runs" / "tiny" / "version_0" / "checkpoints" / "last.ckpt"
    return path, torch.load(path, weights_only=True)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("step", [2, 9])
def test_the_run_stops_and_names_step_rate_and_the_last_good_checkpoint(step, value, loss_at, tmp_path, capsys):
    loss_at(step, value)
    assert fit(*FLAGS) == 2
    path, checkpoint = saved(tmp_path)
    error = capsys.readouterr().err
    schedule = make_schedule(OptimConfig(lr=8e-3, warmup_epochs=1), 16, 16, 2.0)
    assert f"not a finite number at step {step} (learning rate {schedule.peak * schedule(step):.3g}" in error
    assert str(path.relative_to(tmp_path)) in error
    assert checkpoint["global_step"] == step  # the last whole step before
    assert all(tensor.isfinite().all() for tensor in checkpoint["state_dict"].values() if tensor.is_floating_point())
    assert not (path.parents[1] / "summary.json").exists()


def test_without_step_checkpoints_the_epochs_one_stays(loss_at, tmp_path, capsys):
    loss_at(11, float("nan"))
    assert fit(*FLAGS[:2]) == 2
    _, checkpoint = saved(tmp_path)
    assert checkpoint["global_step"] == 8
    assert "at step 11 " in capsys.readouterr().err


def test_the_first_of_several_bad_steps_is_named(loss_at, tmp_path, capsys):
    loss_at(5, float("nan"))  # all steps after it are as bad
    assert fit("--trainer.limit_train_batches=8", "--trainer.log_every_n_steps=8") == 2
    assert "at step 5 " in capsys.readouterr().err


def test_the_device_is_waited_for_every_log_every_n_steps_only(monkeypatch):
    reads = []
    original = SingleDeviceStrategy.reduce

    def reduce(self, tensor, *args, **kwargs):
        reads.append(tensor)
        return original(self, tensor, *args, **kwargs)

    monkeypatch.setattr(SingleDeviceStrategy, "reduce", reduce)
    assert fit(*FLAGS[:2], "--trainer.max_epochs=1", "--trainer.enable_checkpointing=false") == 0
    notes = [tensor for tensor in reads if tensor.item() == _NO_STEP]
    assert len(notes) == 2 + 2  # of 8 steps: two logs, and validation and the epoch's end


def test_in_16_bits_too_the_weights_that_are_saved_are_finite(tmp_path, capsys):
    assert fit("--model.optim.lr=1e9", "--trainer.precision=bf16-mixed", *FLAGS) == 2
    assert "precision bf16-mixed" in capsys.readouterr().err
    files = list((tmp_path / "runs").rglob("*.ckpt"))
    for file in files:
        state = torch.load(file, weights_only=True)["state_dict"]
        assert all(tensor.isfinite().all() for tensor in state.values() if tensor.is_floating_point())
