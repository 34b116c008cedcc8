"""The progress of a run: one bar for all of it, and one line per epoch."""

import time
from datetime import timedelta
from math import inf
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ProgressBar
from rich.console import Console
from rich.progress import Progress, TaskID, TextColumn

from shvit_pl.callbacks.throughput import Throughput, find_callback
from shvit_pl.display.terminal import new_progress


def epochs_done(trainer: L.Trainer) -> float:
    """Return the epochs done so far: 1.5 in the middle of the second."""
    progress = trainer.fit_loop.epoch_loop.batch_progress.current
    return trainer.current_epoch + min(1.0, progress.ready / max(1, trainer.num_training_batches))


def epoch_of(trainer: L.Trainer, done: float) -> str:
    """Return ` 2/10` after the second of ten epochs, `1.5/10` within it; without `/10` in a run by steps."""
    shown = f"{round(done, 2):>3g}"
    return f"{shown}/{trainer.max_epochs}" if (trainer.max_epochs or 0) > 0 else shown


_SHOWN = ("train/loss", "val/loss", "val/acc1", "val/acc1_ema")
_SECONDS = 60.0  # between two lines where there is no bar


class RunProgress(ProgressBar):
    """A bar with images/s and the time left on a terminal, else a line a minute; a line per epoch everywhere.

    Args:
        plain: No bar, not even on a terminal.
    """

    def __init__(self, plain: bool = False) -> None:
        super().__init__()
        self.plain = plain
        self.console = Console(no_color=plain, highlight=False, soft_wrap=True)
        self._enabled = True
        self._total = self._first = self._shown = 0.0  # batches of the run, the first of this session, and seconds
        self._began: float | None = None
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def disable(self) -> None:
        """Stay silent, on all ranks but the first."""
        self._enabled = False

    def enable(self) -> None:
        """Show output."""
        self._enabled = True

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Print above the bar."""
        if self._enabled:
            self.console.print(*args, **kwargs)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin the bar of the whole run, where a resumed run goes on."""
        epochs, steps = trainer.max_epochs or -1, trainer.max_steps
        of_epochs = trainer.num_training_batches * epochs if epochs > 0 else inf
        of_steps = steps * trainer.accumulate_grad_batches if steps > 0 else inf
        done = trainer.fit_loop.epoch_loop.total_batch_idx + 1
        self._total, self._first, self._began = min(of_epochs, of_steps), done + 1, None
        self._begin("train", self._total, done)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        """Advance the bar; without one, print a line a minute, with the time left."""
        self._advance(_rate(trainer))
        now = time.monotonic()
        if self._began is None:  # after the first batch, which may compile
            self._began = self._shown = now
        if self._bar is not None or now - self._shown < _SECONDS:
            return
        self._shown = now
        done = trainer.fit_loop.epoch_loop.total_batch_idx + 1
        left = timedelta(seconds=round((now - self._began) / (done - self._first) * (self._total - done)))
        loss = trainer.callback_metrics.get("train/loss", torch.tensor(float("nan"))).item()
        epoch = epoch_of(trainer, trainer.current_epoch + 1)
        self.print(
            f"epoch {epoch}  batch {done}/{self._total:.0f}  train/loss {loss:.4f}  {_rate(trainer)}  {left} left"
        )

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print a line per epoch."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            metrics = {key: value.item() for key, value in trainer.callback_metrics.items()}
            shown = [f"{key} {metrics[key]:.4f}" for key in _SHOWN if key in metrics]
            self.print("  ".join([f"epoch {epoch_of(trainer, epochs_done(trainer))}", *shown, _rate(trainer)]))

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """End the bar."""
        self._end()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Leave the terminal as it was."""
        self._end()

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin the bar of `validate`."""
        if trainer.state.fn == "validate":
            self._begin("validate", sum(trainer.num_val_batches))

    def on_validation_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        """Advance by one batch."""
        if trainer.state.fn == "validate":
            self._advance()

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin the bar of `test`."""
        self._begin("test", sum(trainer.num_test_batches))

    def on_test_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        """Advance by one batch."""
        self._advance()

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin the bar of `predict`."""
        self._begin("predict", sum(trainer.num_predict_batches))

    def on_predict_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        """Advance by one batch."""
        self._advance()

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """End the bar."""
        self._end()

    def _begin(self, what: str, total: float, completed: int = 0) -> None:
        if self.plain or not (self._enabled and self.console.is_terminal):
            return
        self._bar = new_progress(self.console, TextColumn("{task.fields[rate]}"))
        self._task = self._bar.add_task(what, total=total, completed=completed, rate="")
        self._bar.start()

    def _advance(self, rate: str = "") -> None:
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, advance=1, rate=rate)

    def _end(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _rate(trainer: L.Trainer) -> str:
    throughput = find_callback(trainer, Throughput)
    return f"{throughput.images_per_second:.0f} images/s" if throughput and throughput.seconds else ""
