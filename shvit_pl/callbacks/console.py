"""Output of a run: one bar for all of it, a line per epoch, and tables at start and end."""

import shlex
import time
from datetime import timedelta
from math import ceil, inf
from pathlib import Path
from typing import Any

import lightning as L
import torch
from rich import box
from rich.progress import Progress, TaskID, TextColumn

from shvit_pl.callbacks.ending import stopped_by
from shvit_pl.callbacks.summary import RunSummary, epochs_done, run_facts
from shvit_pl.callbacks.throughput import Throughput, find_callback
from shvit_pl.data.base import DataModule
from shvit_pl.display import TextTable, counted, new_progress, plain_console, say
from shvit_pl.errors import first_names
from shvit_pl.modules.base import TrainedModule
from shvit_pl.modules.step_counts import StepCounts
from shvit_pl.runs.folder import CHECKPOINTS, LAST, checkpoint_of_run
from shvit_pl.runs.writing import run_folder


def epoch_of(trainer: L.Trainer, done: float) -> str:
    """Return ` 2/10` after the second of ten epochs, `1.5/10` within it; without `/10` in a run by steps."""
    shown = f"{round(done, 2):>3g}"
    epochs = getattr(trainer.lightning_module, "epochs", None) or trainer.max_epochs or 0
    return f"{shown}/{epochs}" if epochs > 0 else shown


_SHOWN = {"train/loss_epoch": "train/loss"} | {
    name: name for name in ("val/loss", "val/acc1", "val/acc1_ema", "val/map", "val/map_ema", "val/mask_map")
}
_SECONDS = 60.0  # between two lines where there is no bar


class RunProgress(L.pytorch.callbacks.ProgressBar):
    """A bar with images/s and the time left on a terminal, else or if `plain` a line a minute; and a line per epoch."""

    def __init__(self, plain: bool = False) -> None:
        super().__init__()
        self.plain = plain
        self.console = plain_console(no_color=plain, soft_wrap=True)
        self._enabled = True
        self._total = self._first = self._shown = 0.0  # batches of the run, the first of this session, and seconds
        self._steps = -1  # of the run
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
        done = trainer.fit_loop.epoch_loop.total_batch_idx + 1
        self._first, self._began = done + 1, None
        self._count(trainer)
        self._begin("train", self._total, done)

    def _count(self, trainer: L.Trainer) -> None:
        epochs, steps = trainer.max_epochs or -1, trainer.max_steps
        of_epochs = trainer.num_training_batches * epochs if epochs > 0 else inf
        of_steps = StepCounts.of(trainer).batches_of(steps) if steps > 0 else inf
        self._total, self._steps = min(of_epochs, of_steps), steps

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        """Advance the bar; without one, print a line a minute, with the time left."""
        if trainer.max_steps != self._steps:  # shortened
            self._count(trainer)
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
            summary = find_callback(trainer, RunSummary)
            watched = {} if summary is None else {summary.monitor: summary.monitor}
            shown = [f"{name} {metrics[key]:.4f}" for key, name in (_SHOWN | watched).items() if key in metrics]
            self.print("  ".join([f"epoch {epoch_of(trainer, epochs_done(trainer))}", *shown, _rate(trainer)]))

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any, **kwargs: Any) -> None:
        """End the bar."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    on_exception = teardown = on_train_end

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin the bar of `validate`, `test` or `predict`."""
        batches = {"validate": "num_val_batches", "test": "num_test_batches", "predict": "num_predict_batches"}
        if (command := trainer.state.fn) in batches:
            self._begin(command.value, sum(getattr(trainer, batches[command])))

    on_test_start = on_predict_start = on_validation_start

    def on_test_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any, **kwargs: Any) -> None:
        """Advance by one batch; the bar of a fit counts training batches only."""
        if trainer.state.fn != "fit":
            self._advance()

    on_validation_batch_end = on_predict_batch_end = on_test_batch_end

    def _begin(self, what: str, total: float, completed: int = 0) -> None:
        if self.plain or not (self._enabled and self.console.is_terminal):
            return
        self._total = total
        self._bar = new_progress(self.console, TextColumn("{task.fields[rate]}", markup=False))
        self._task = self._bar.add_task(what, total=total, completed=completed, rate="")
        self._bar.start()

    def _advance(self, rate: str = "") -> None:
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, advance=1, total=self._total, rate=rate)


def _rate(trainer: L.Trainer) -> str:
    throughput = find_callback(trainer, Throughput)
    return f"{throughput.epoch_rate:.0f} images/s" if throughput and throughput.epoch_rate else ""


class RunReport(L.Callback):
    """Tables, or `plain` lines for log files, of what a run is about to do, and of its result with the next steps."""

    def __init__(self, plain: bool = False) -> None:
        self.plain = plain

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Print the table at the start, and a warning of classes without images."""
        if not trainer.is_global_zero:
            return
        facts = run_facts(trainer, pl_module)
        show_table("run", _start_rows(facts, trainer, pl_module), self.plain)
        data: DataModule = trainer.datamodule  # type: ignore[attr-defined]
        counts = facts["dataset"][f"{data.counts}_per_class"] or []
        empty = [name for name, count in zip(facts["classes"], counts, strict=False) if count == 0]
        if empty:
            few = first_names(empty, 5)
            say(f"warning: {len(empty)} of {len(counts)} classes have no training {data.counts}: {few}")

    def on_fit_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Print the table at the end."""
        summary = find_callback(trainer, RunSummary)
        if trainer.is_global_zero and summary is not None:
            if not summary.has_trained:
                longer = f"--ckpt_path {run_folder(trainer)} --extend_to {2 * ceil(summary.epochs)}"
                say(f"nothing was left to train, only the results to write; train the run on with {longer}")
            show_table("result", _end_rows(trainer, pl_module, summary), self.plain)
            if trainer.global_step > 0:
                show_notes(summary.few_steps)
                if pl_module.added_epochs and trainer.current_epoch < (pl_module.epochs or 0):
                    say("note: the run ended before the epoch that measures the averaged weights, so none are kept")
            written = checkpoint_of_run(run_folder(trainer) or Path())
            if written is not None:
                say(f"use it: shvit-pl predict --data.path IMAGES --ckpt_path {shlex.quote(str(written))}")

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Print how to go on, where there is a checkpoint."""
        last = (run_folder(trainer) or Path()) / CHECKPOINTS / LAST
        if trainer.is_global_zero and last.is_file():
            say(f"the run stopped; resume it: the same command with --ckpt_path {shlex.quote(str(last))}")


def show_table(title: str, rows: dict[str, str], plain: bool) -> None:
    """Print a table of names and values, or `plain` lines."""
    if plain:
        say(*(f"{title}: {name or 'note'}: {value}" for name, value in rows.items()))
        return
    table = TextTable(box=box.SIMPLE, show_header=False, title=title, title_justify="left", title_style="bold")
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, value)
    plain_console().print(table, soft_wrap=True)


def show_notes(notes: list[str]) -> None:
    """Print a line for each note."""
    for note in notes:
        say(f"note: {note}")


def _start_rows(facts: dict[str, Any], trainer: L.Trainer, module: TrainedModule) -> dict[str, str]:
    data: DataModule = trainer.datamodule  # type: ignore[attr-defined]
    length = counted(facts["steps"], "step")
    if (facts["epochs"] or 0) > 0:
        length = f"{counted(facts['epochs'], 'epoch')}, {length}"
    least, most = module.global_batches
    images_per_step = f"{most}" if least == most else f"{least} to {most}"
    extra = " (the last epoch trains nothing: it measures the averaged weights)" if module.added_epochs else ""
    rate, schedule = module.config.optim.name, module.schedule
    if schedule is not None:
        rate += f", peak lr {schedule.peak:.2g}, {counted(schedule.warmup, f'warm-up {schedule.interval}')}"
        rate += " (a fifth of the run, which is shorter than warmup_epochs)" if schedule.warmup_shrunk else ""
    return {
        **module.table(facts),
        "weights": facts["init"] if trainer.ckpt_path is None else f"from {trainer.ckpt_path}",
        **({"teacher": facts["teacher"]} if facts["teacher"] else {}),
        **data.table(facts["dataset"]),
        "schedule": f"{length} of {images_per_step} images{extra}; {rate}",
        "device": f"{facts['device']}, {facts['precision']}, seed {facts['seed']}",
        "folder": str(run_folder(trainer) or "none"),
    }


def _end_rows(trainer: L.Trainer, module: TrainedModule, summary: RunSummary) -> dict[str, str]:
    throughput = find_callback(trainer, Throughput)
    rows = {name: f"{value:.4f}" for name, value in summary.best.items()}
    rows |= module.result_rows(summary.findings)
    if summary.best_epoch is None:
        rows[summary.monitor] = "not measured: there was no validation, so there is no best.ckpt"
    else:
        rows["best epoch"] = epoch_of(trainer, summary.best_epoch).strip()
    if (reason := stopped_by(trainer)) is not None:
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        rows["stopped"] = (
            f"after {epoch_of(trainer, summary.epochs).strip()} epochs: {reason}; learning rate {rate:.2g}"
        )
    if summary.broken_images(trainer):
        rows["broken images"] = f"{summary.broken_images(trainer)}, skipped; see the warnings"
    if throughput is not None and summary.has_trained and throughput.images:
        rows["speed"] = f"{throughput.images_per_second:.0f} images/s in training"
    if throughput is not None and throughput.data_wait is not None:
        rows["data wait"] = f"{throughput.data_wait:.2f} of the time"
    rows["folder"] = str(run_folder(trainer) or "none")
    if not trainer.checkpoint_callbacks:
        rows["weights"] = "not kept (trainer.enable_checkpointing false)"
    return rows
