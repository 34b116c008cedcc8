"""Loggers of a run: TensorBoard and `metrics.csv`, in its run folder."""

from pathlib import Path

import lightning as L
from lightning.fabric.loggers.tensorboard import TensorBoardLogger as FabricTensorBoardLogger
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from shvit_pl.files import read_rows
from shvit_pl.runs.folder import METRICS


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
