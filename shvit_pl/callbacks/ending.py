"""When a run ends before its planned length: early stopping, and a schedule that fits into the time that it has."""

from datetime import timedelta
from math import inf
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import EarlyStopping, Timer
from lightning.pytorch.callbacks.early_stopping import EarlyStoppingReason

from shvit_pl.callbacks.throughput import find_callback
from shvit_pl.display import counted, say
from shvit_pl.runs.folder import better

_USED = 0.95  # of the time: a step or a validation may take longer than those before
_LOOK = 0.1  # of the time after which the rate is known well enough, where the first epoch takes longer
_FORWARD = 1 / 3  # of a training step's time is its forward pass, which is all that a validation does


class Patience(EarlyStopping):
    """Lightning's early stopping on the metric that selects `best.ckpt`, counted in validations."""

    def __init__(self, monitor: str, patience: int) -> None:
        super().__init__(monitor, mode=better(monitor), patience=patience, check_on_train_epoch_end=False)

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Say if there are too few validations for it to stop anything."""
        every = trainer.check_val_every_n_epoch or 1
        validations = (pl_module.epochs or 0) // every
        if trainer.val_check_interval == 1.0 and 0 < validations <= self.patience and trainer.is_global_zero:
            say(f"note: patience {self.patience} stops nothing, as the run has {counted(validations, 'validation')}")


class FitIntoTime(L.Callback):
    """Shorten the schedule once so that it ends within `trainer.max_time`, by what the run's first epoch has taken.

    Lightning's timer would cut the run off in the middle of its schedule, at a high learning rate. The time is planned
    to 95 %. A resumed run keeps the length.
    """

    note: str | None = None
    """What was planned and what it became."""

    def __init__(self) -> None:
        self._steps: int | None = None  # of the run, once known; 0 where the time suffices
        self._first: tuple[float, int] | None = None  # seconds and batches at the end of this session's first batch
        self._validations: list[float] = []  # seconds of those since then

    def state_dict(self) -> dict[str, Any]:
        """Return the state for checkpoints."""
        return {"steps": self._steps, "note": self.note}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the state of the interrupted run."""
        self._steps, self.note = state_dict["steps"], state_dict["note"]

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Shorten a resumed run's schedule again."""
        if self._steps:
            pl_module.shorten(self._steps)

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Decide, once the first epoch or a tenth of the time is over."""
        timer = find_callback(trainer, Timer)
        if self._steps is not None or self._first is None or timer is None or timer.time_remaining() is None:
            return
        elapsed, left, done = timer.time_elapsed(), timer.time_remaining() or 0.0, _batches_begun(trainer) - 1
        seconds, batches = elapsed - self._first[0] - sum(self._validations), done - self._first[1]
        if batches < 1 or (batch_idx > 0 and elapsed < _LOOK * (elapsed + left)):
            return
        per_batch = seconds / batches
        every = (trainer.val_check_batch or inf) * (trainer.check_val_every_n_epoch or 1)  # batches between validations
        per_validation = float(sum(trainer.num_val_batches)) * per_batch * _FORWARD
        if self._validations:
            per_validation = max(self._validations)
        usable = left - (1 - _USED) * (elapsed + left) - per_validation  # one more at the end
        more = int(usable / (per_batch + per_validation / every))
        steps = max(trainer.global_step + 1, pl_module.counts.step_of(done + max(0, more)))
        self._steps = int(trainer.strategy.broadcast(steps if steps < pl_module.total_steps else 0))
        if self._steps:
            total, planned = timedelta(seconds=round(elapsed + left)), pl_module.total_steps
            self.note = f"shortened from {planned} to {counted(steps, 'step')}, to end within trainer.max_time {total}"
            pl_module.shorten(self._steps)
            if trainer.is_global_zero:
                say(f"warning: the schedule is {self.note}")

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *args: Any) -> None:
        """Begin to measure after the session's first batch, which may compile."""
        timer = find_callback(trainer, Timer)
        if self._first is None and timer is not None:
            self._first = timer.time_elapsed(), _batches_begun(trainer)

    def on_validation_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Begin to measure a validation."""
        if self._first is not None and (timer := find_callback(trainer, Timer)) is not None:
            self._validations.append(-timer.time_elapsed())

    def on_validation_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """End it."""
        if self._first is not None and (timer := find_callback(trainer, Timer)) is not None:
            self._validations[-1] += timer.time_elapsed()


def _batches_begun(trainer: L.Trainer) -> int:
    return trainer.fit_loop.epoch_loop.total_batch_idx + 1


def stopped_by(trainer: L.Trainer) -> str | None:
    """Return why a run ended before its steps were done; None where they are, and where it isn't known."""
    module: Any = trainer.lightning_module
    if trainer.global_step >= module.total_steps or trainer.current_epoch >= (module.epochs or float("inf")):
        return None
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    for each in callbacks:
        if isinstance(each, EarlyStopping) and each.stopping_reason is EarlyStoppingReason.PATIENCE_EXHAUSTED:
            flag = "patience" if isinstance(each, Patience) else "the patience of EarlyStopping"
            return f"no better {each.monitor} in {counted(each.patience, 'validation')} ({flag})"
        if isinstance(each, EarlyStopping) and each.stopping_reason_message:
            return each.stopping_reason_message
        left = each.time_remaining() if isinstance(each, Timer) else None
        if left is not None and left <= 0:
            return "its time was over (trainer.max_time, or the duration of a Timer)"
    own = [type(each).__name__ for each in callbacks if not type(each).__module__.startswith(("lightning", "shvit_pl"))]
    return f"{'trainer.callbacks ' + ' or '.join(own) if own else 'a callback'} stopped it (trainer.should_stop)"
