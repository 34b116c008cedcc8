"""The callbacks of each command, in the order in which they are called."""

from __future__ import annotations

from typing import Any

from lightning.pytorch.callbacks import Callback

from shvit_pl.callbacks.checkpoints import checkpoints
from shvit_pl.callbacks.data_wait import DataWait
from shvit_pl.callbacks.figures import RunFigures
from shvit_pl.callbacks.finite_loss import FiniteLoss
from shvit_pl.callbacks.hparams import RunHparams
from shvit_pl.callbacks.last_validation import LastValidation
from shvit_pl.callbacks.own_folder import OwnFolder
from shvit_pl.callbacks.predictions import PredictionWriter
from shvit_pl.callbacks.progress import RunProgress
from shvit_pl.callbacks.published_accuracy import PublishedAccuracy
from shvit_pl.callbacks.report import RunReport
from shvit_pl.callbacks.requeue import Requeue
from shvit_pl.callbacks.run_settings import RunSettings
from shvit_pl.callbacks.step_seed import StepSeed
from shvit_pl.callbacks.summary import RunSummary
from shvit_pl.callbacks.throughput import Throughput
from shvit_pl.deploy.optimize_callback import OptimizedNetwork
from shvit_pl.hub.push_callback import PushToHub


def fit_callbacks(config: Any, settings: dict[str, Any], command: str) -> list[Callback]:
    """Those of a training.

    Args:
        config: Of `fit`.
        settings: What determines the course of the training, flat.
        command: The command line.
    """
    callbacks = [*_shown(config), DataWait(), StepSeed(), FiniteLoss()]
    callbacks += [RunSettings(settings, config.allow_changes), RunHparams(settings)]
    callbacks += [RunSummary(command, config.monitor), RunFigures(), RunReport(config.plain)]
    callbacks += [LastValidation(), Requeue(), OwnFolder()]
    if config.push_to is not None:  # once all others have written
        callbacks.append(PushToHub(config.push_to, config.push_public))
    if config.trainer.enable_checkpointing is not False:
        monitor = config.monitor if config.trainer.limit_val_batches != 0 else None
        callbacks += checkpoints(monitor, config.checkpoint_every_n_steps)
    return callbacks


def other_callbacks(config: Any, command: str, weights: str | None) -> list[Callback]:
    """Those of a command that trains nothing.

    Args:
        config: Of the command.
        command: validate, test or predict.
        weights: Where the weights come from, if not from a checkpoint.
    """
    callbacks = _shown(config)
    if config.optimize:
        callbacks.append(OptimizedNetwork())
    if command == "predict":
        callbacks.append(PredictionWriter(config.output))
    if command == "validate" and weights is not None:
        callbacks.append(PublishedAccuracy(weights))
    return callbacks


def _shown(config: Any) -> list[Callback]:
    callbacks: list[Callback] = [Throughput()]
    if config.trainer.enable_progress_bar is not False:
        callbacks.append(RunProgress(plain=config.plain))
    return callbacks
