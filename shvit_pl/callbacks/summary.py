"""The settings and results of a finished run: `summary.json`, TensorBoard's HPARAMS page, and a push to the Hub."""

import platform
import shlex
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightning as L
import torch

from shvit_pl.callbacks.ending import FitIntoTime, stopped_by
from shvit_pl.callbacks.throughput import Throughput, find_callback
from shvit_pl.data.base import DataModule
from shvit_pl.display import counted
from shvit_pl.errors import UserError, one_line, visible
from shvit_pl.models.network_names import find_weights
from shvit_pl.modules.base import TrainedModule
from shvit_pl.randomness import run_seed
from shvit_pl.runs.folder import BEST, CHECKPOINTS, FinishedRun, is_improved, run_of, write_summary
from shvit_pl.runs.writing import run_folder

_LIBRARIES = ("shvit-pl", "torch", "torchvision", "lightning", "timm", "torchmetrics", "datasets")


class RunSummary(L.Callback):
    """The validation metrics of the best epoch; at the end of a fit, `summary.json` and TensorBoard's hyperparameters.

    `command` is the command line, and `settings` are flat: TensorBoard shows them with metrics such as `best/val/acc1`.
    `extended_at` are the epochs of an ended run that is trained on.
    """

    best_epoch: float | None = None
    """Epochs done at the best validation: 2 after the second, 1.5 within it."""
    epochs = 0.0
    """Epochs done: 1.5 within the second."""
    has_trained = False
    """True once this session has trained a step."""
    improved = False
    """True if the last validation is the best so far."""
    wall_seconds = 0.0
    """Seconds of training and validation, over all sessions of a resumed run."""

    def __init__(self, command: str, monitor: str, settings: dict[str, Any], extended_at: float | None = None) -> None:
        self.command, self.monitor, self.settings = command, monitor, settings
        self.extended_at = [] if extended_at is None else [extended_at]
        self.best: dict[str, float] = {}
        self.few_steps: list[str] = []  # notes on the evaluation of the best epoch
        self.findings: dict[str, Any] = {}  # of that evaluation, beyond its metrics
        self._folder = ""
        self._since = time.perf_counter()

    def state_dict(self) -> dict[str, Any]:
        """Return the state for checkpoints."""
        names = ("best", "best_epoch", "few_steps", "findings", "extended_at", "epochs")
        return {**{name: getattr(self, name) for name in names}, "wall_seconds": self._elapsed()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the state of the interrupted run."""
        self.wall_seconds = state_dict["wall_seconds"]
        self.epochs = state_dict["epochs"]
        self.extended_at = [*state_dict["extended_at"], *self.extended_at]
        if (Path(self._folder) / CHECKPOINTS / BEST).is_file():  # a new folder has none yet
            self.best, self.best_epoch = state_dict["best"], state_dict["best_epoch"]
            self.few_steps, self.findings = state_dict["few_steps"], state_dict["findings"]

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Start the clock."""
        self._folder = str((run_folder(trainer) or Path()).absolute())
        self._since = time.perf_counter()

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin to watch the memory of a GPU; the peak of a process can't be reset."""
        if (device := trainer.strategy.root_device).type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        """Count, before a checkpoint is written."""
        self.has_trained = True
        self.epochs = round(epochs_done(trainer), 2)

    def on_validation_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Keep the metrics of the best epoch."""
        metrics = validation_metrics(trainer)
        measured = self.monitor in metrics and not trainer.sanity_checking
        self.improved = measured and is_improved(metrics, self.best, self.monitor)
        if self.improved:
            self.best, self.best_epoch = metrics, int(self.epochs) if self.epochs.is_integer() else self.epochs
            self.few_steps, self.findings = pl_module.notes_on_few_steps(), pl_module.findings()

    def on_fit_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Write the file, on the first rank of a run with a folder, and log the settings.

        Raises `UserError` for a run without a step, which is no result, unless it is an interrupted one's last session.
        """
        if not self.has_trained and (trainer.global_step == 0 or run_of(str(trainer.ckpt_path)) is None):
            raise UserError(f"no step was run: {stopped_by(trainer)}. Give it more or mend it, or leave it out.")
        if self.best_epoch is None:
            self.few_steps = pl_module.notes_on_few_steps()
        folder = run_folder(trainer)
        if folder is not None and trainer.is_global_zero:
            write_summary(folder, self._summary(trainer, pl_module))
        for logger in trainer.loggers:
            if isinstance(logger, L.pytorch.loggers.TensorBoardLogger):
                logger.log_hyperparams(self.settings, {f"best/{name}": value for name, value in self.best.items()})

    @staticmethod
    def broken_images(trainer: L.Trainer) -> int:
        """Return the number of images that this process could not decode."""
        data: DataModule = trainer.datamodule  # type: ignore[attr-defined]
        return sum(len(broken.reasons) for broken in data.broken.values())

    def _elapsed(self) -> float:
        return self.wall_seconds + time.perf_counter() - self._since

    def _summary(self, trainer: L.Trainer, module: TrainedModule) -> dict[str, Any]:
        throughput = find_callback(trainer, Throughput)
        best = f"{CHECKPOINTS}/{BEST}"
        peak, peak_of = peak_memory(trainer.strategy.root_device)
        return {
            **run_facts(trainer, module),
            "metrics": self.best,
            **self.findings,
            "monitor": self.monitor,
            "best_epoch": self.best_epoch,
            "few_steps": self.few_steps,
            "last_metrics": validation_metrics(trainer),
            "best_checkpoint": best if self.best and (Path(self._folder) / best).is_file() else None,
            "extended_at": self.extended_at,
            "stopped_by": stopped_by(trainer),
            "shortened": getattr(find_callback(trainer, FitIntoTime), "note", None),
            "epochs_trained": trainer.current_epoch,
            "steps_trained": min(trainer.global_step, module.total_steps)
            if module.added_epochs
            else trainer.global_step,
            "wall_seconds": round(self._elapsed(), 1),
            "broken_images": self.broken_images(trainer),
            "images_per_second": round(throughput.images_per_second, 1) or None if throughput else None,
            "data_wait": None if throughput is None or throughput.data_wait is None else round(throughput.data_wait, 4),
            "peak_memory_mb": peak,
            "peak_memory_of": peak_of,
            "versions": {"python": platform.python_version(), **{name: version(name) for name in _LIBRARIES}},
            "command": self.command,
        }


def validation_metrics(trainer: L.Trainer) -> dict[str, float]:
    """Return the metrics of the last validation."""
    return {key: value.item() for key, value in trainer.callback_metrics.items() if key.startswith("val/")}


def epochs_done(trainer: L.Trainer) -> float:
    """Return the epochs done so far: 1.5 in the middle of the second."""
    progress = trainer.fit_loop.epoch_loop.batch_progress
    done = 1.0 if progress.is_last_batch else progress.current.ready / max(1, trainer.num_training_batches)
    return trainer.current_epoch + min(1.0, done)


def run_facts(trainer: L.Trainer, module: TrainedModule) -> dict[str, Any]:
    """Return what is known of a run before its first step."""
    data: DataModule = trainer.datamodule  # type: ignore[attr-defined]
    device = trainer.strategy.root_device
    if device.type == "cuda":
        device_name = torch.cuda.get_device_name(device)
    else:
        device_name = f"{device.type} ({counted(torch.get_num_threads(), 'thread')})"
    return {
        **module.facts(data),
        "init": module.init_note or "randomly initialized",
        "init_repo": repo_of_weights(module.config.init_from),
        "teacher": module.teacher_note,
        "dataset": data.facts(),
        "classes": list(module.class_names or []),
        "epochs": module.epochs,
        "steps": module.total_steps,
        "global_batch": module.global_batch,
        "peak_lr": module.schedule.peak if module.schedule else None,
        "weight_decay": module.weight_decay,
        "precision": str(trainer.precision),
        "device": f"{trainer.world_size} x {device_name}",
        "seed": run_seed(),
    }


def repo_of_weights(init_from: str | None) -> str | None:
    """Return the Hub repo of the first weights, without its revision; None for others."""
    try:
        return init_from and find_weights(init_from).repo
    except UserError:  # a file that is gone, of a run that goes on
        return None


def peak_memory(device: torch.device) -> tuple[float | None, str]:
    """Return the peak memory in MB (10**6 bytes; None where the system has no count), and where it was held."""
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 1e6, 1), "allocated on the GPU"
    status, peak = Path("/proc/self/status"), None
    if status.is_file():  # on Linux, getrusage would begin with the peak of the process that started this one
        peaks = [line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
        peak = int(peaks[0]) * 1024 if peaks else None
    elif sys.platform != "win32":  # Windows has no such count
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return None if peak is None else round(peak / 1e6, 1), "resident in the process"


class PushToHub(L.Callback):
    """Push of the run to `user/name` once its summary and figures are written, on the first rank.

    A failure of the Hub does not fail the run: the message names the command that repeats the push.
    """

    def __init__(self, repo_id: str, public: bool = False) -> None:
        self.repo_id = repo_id
        self.public = public

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Push and print the address, or the reason for a failure and the command that repeats the push."""
        folder = run_folder(trainer)
        if folder is None or not trainer.is_global_zero:
            return
        from shvit_pl.hub.target import Target
        from shvit_pl.hub.upload import push

        try:
            push(FinishedRun.open(folder), Target(self.repo_id, public=self.public))
        except (UserError, OSError) as error:  # the Hub fails, or the disk is full
            again = ["shvit-pl", "push", str(folder), "--repo-id", self.repo_id, *(["--public"] * self.public)]
            line = f"not pushed: {one_line(error)} The run is complete; push it with: {shlex.join(again)}"
            print(visible(line), file=sys.stderr)
