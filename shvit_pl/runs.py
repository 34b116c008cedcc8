"""What a run leaves behind: the run folder and its `summary.json`.

    <default_root_dir>/<name>/version_<k>/
        config.yaml  summary.json  metrics.csv  events.out.tfevents.*  figures/  checkpoints/{best,last}.ckpt
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.tensorboard import TensorBoardLogger as FabricTensorBoardLogger
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

SUMMARY = "summary.json"


class RunTensorBoardLogger(TensorBoardLogger):
    """TensorBoard without `hparams.yaml`: `config.yaml` holds everything."""

    @rank_zero_only
    def save(self) -> None:
        """Write what is pending."""
        FabricTensorBoardLogger.save(self)


def run_loggers(root: str, name: str) -> list[Logger]:
    """TensorBoard and CSV in the next free folder `<root>/<name>/version_<k>`."""
    tensorboard = RunTensorBoardLogger(root, name=name, default_hp_metric=False)
    return [tensorboard, CSVLogger(root, name=name, version=tensorboard.version)]


def write_summary(folder: Path, summary: dict[str, Any]) -> None:
    """Write `summary.json` at once: it is there whole, or not at all."""
    partial = folder / f".{SUMMARY}.{os.getpid()}"
    partial.write_text(json.dumps(summary, indent=2) + "\n")
    partial.replace(folder / SUMMARY)


def read_summary(folder: Path) -> dict[str, Any]:
    """Read the `summary.json` of a run that ended well."""
    summary: dict[str, Any] = json.loads((folder / SUMMARY).read_text())
    return summary
