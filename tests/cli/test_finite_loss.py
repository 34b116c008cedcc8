"""The first loss that is not a finite number stops the run, and never reaches a checkpoint."""

import pytest
from lightning.pytorch.strategies import SingleDeviceStrategy

from shvit_pl import ClassificationModule
from shvit_pl.callbacks.checkpoints import _NO_STEP
from shvit_pl.modules.config import OptimConfig
from shvit_pl.modules.optim_and_ema import make_schedule
from tests.cli.runs import content, fit, only_run

FLAGS = ["--trainer.limit_train_batches=8", "--trainer.log_every_n_steps=4", "--trainer.limit_val_batches=1"]


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


def assert_finite(checkpoint):
    tensors = [tensor for tensor in checkpoint["state_dict"].values() if tensor.is_floating_point()]
    assert all(tensor.isfinite().all() for tensor in tensors)


@pytest.mark.parametrize(
    ("step", "value", "flags", "good"),
    [(2, float("nan"), ["--checkpoint_every_n_steps=1"], 2), (9, float("inf"), [], 8)],
    ids=["checkpoints of steps", "of epochs"],
)
def test_the_run_stops_and_names_step_rate_and_the_last_good_checkpoint(
    step, value, flags, good, loss_at, tmp_path, capsys
):
    """All steps after that one are as bad: the first is named."""
    loss_at(step, value)
    assert fit(*FLAGS, *flags) == 2
    run, schedule = only_run(tmp_path), make_schedule(OptimConfig(lr=8e-3, warmup_epochs=1), 16, 16, 2.0)
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"not a finite number at step {step} (learning rate {schedule.peak * schedule(step):.3g}" in error
    assert f"{run.relative_to(tmp_path)}/checkpoints/last.ckpt" in error
    assert "Lower --model.optim.lr" in error
    assert content(run)["global_step"] == good
    assert_finite(content(run))
    assert not (run / "summary.json").exists()


def test_the_device_is_waited_for_every_log_every_n_steps_only(monkeypatch):
    reads, original = [], SingleDeviceStrategy.reduce

    def reduce(self, tensor, *args, **kwargs):
        reads.append(tensor)
        return original(self, tensor, *args, **kwargs)

    monkeypatch.setattr(SingleDeviceStrategy, "reduce", reduce)
    assert fit(*FLAGS, "--trainer.max_epochs=1", "--trainer.enable_checkpointing=false") == 0
    notes = [tensor for tensor in reads if tensor.item() == _NO_STEP]
    assert len(notes) == 2 + 2  # of 8 steps: two logs, and validation and the epoch's end


def test_in_16_bits_too_the_weights_that_are_saved_are_finite(tmp_path, capsys):
    flags = ["--trainer.precision=bf16-mixed", "--checkpoint_every_n_steps=1"]
    assert fit("--model.optim.lr=1e9", *flags, *FLAGS) == 2
    assert "precision bf16-mixed" in capsys.readouterr().err
    assert_finite(content(only_run(tmp_path)))
