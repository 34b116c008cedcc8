"""Writing into a run's folder: by one process at a time, TensorBoard and `metrics.csv`."""

import os
from pathlib import Path

import lightning as L
from lightning.fabric.loggers import TensorBoardLogger as FabricTensorBoardLogger
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from shvit_pl.errors import UserError
from shvit_pl.files import read_rows
from shvit_pl.runs.folder import CONFIG, METRICS

try:
    from fcntl import LOCK_EX, LOCK_NB, lockf
except ImportError:  # not on Windows
    lockf = None  # type: ignore[assignment]

_claimed: dict[str, int] = {}


@rank_zero_only
def claim(folder: Path, name: str = CONFIG, flag: str = "ckpt_path") -> None:
    """Keep a folder for this process, until its end; raises `UserError`, with the flag, where another one has it.

    The lock is on the file `name` in it, and to be claimed again once that has been written. Workers do not inherit it.
    """
    key, file = str(folder.absolute()), folder / name
    if lockf is None or not file.is_file():
        return
    if key not in _claimed:
        _claimed[key] = os.open(file, os.O_RDWR)
    try:
        lockf(_claimed[key], LOCK_EX | LOCK_NB)
    except (BlockingIOError, PermissionError) as error:
        release(folder)
        raise UserError(f"{flag}: a run in {str(folder)!r} is still running. Wait for it, or stop it.") from error
    except OSError:  # a file system without locks
        return


@rank_zero_only
def release(folder: Path) -> None:
    """Let others write into the folder."""
    descriptor = _claimed.pop(str(folder.absolute()), None)
    if descriptor is not None:
        os.close(descriptor)


class RunTensorBoardLogger(TensorBoardLogger):
    """TensorBoard without `hparams.yaml`: `config.yaml` holds everything."""

    @rank_zero_only
    def save(self) -> None:
        """Write what is pending."""
        FabricTensorBoardLogger.save(self)


def run_loggers(root: str, name: str) -> list[Logger]:
    """Return TensorBoard and CSV loggers in the next free folder `<root>/<name>/version_<k>`."""
    tensorboard = RunTensorBoardLogger(root, name=name, default_hp_metric=False)
    return [tensorboard, CSVLogger(root, name=name, version=tensorboard.version, flush_logs_every_n_steps=1)]


def resumed_loggers(folder: Path, step: int) -> list[Logger]:
    """Return TensorBoard and CSV loggers that go on in the folder of an interrupted run, from the checkpoint's step."""
    root, name, version = folder.parent.parent, folder.parent.name, folder.name
    metrics = CSVLogger(root, name=name, version=version, flush_logs_every_n_steps=1)
    _keep_rows(metrics, folder / METRICS, step)
    return [RunTensorBoardLogger(root, name=name, version=version, default_hp_metric=False), metrics]


@rank_zero_only
def _keep_rows(logger: CSVLogger, path: Path, step: int) -> None:
    """Take over the rows before `step`: Lightning's writer would begin an empty file."""
    rows = [row for row in read_rows(path) if (row.get("step") or "").isdecimal()] if path.is_file() else []
    logger.experiment.metrics = [row for row in rows if int(row["step"]) < step]  # the writer deletes the old file
    logger.save()


def run_folder(trainer: L.Trainer) -> Path | None:
    """Return the folder of a trainer's run. Unlike `trainer.log_dir`, it may be called on one rank alone."""
    logger = next((logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)), None)
    return Path(logger.log_dir) if logger is not None else None
