"""Asking `fit` about flags without a run: whether it takes them, what they set, and what it would train."""

from __future__ import annotations

import math
from argparse import ArgumentError
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import lightning as L
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from shvit_pl.command_line.config_files import with_found_configs
from shvit_pl.command_line.parser import option_names, shortened
from shvit_pl.command_line.quiet import quiet
from shvit_pl.designs.cost import cost
from shvit_pl.errors import UserError, one_line
from shvit_pl.fit.lightning_cli import ShvitCLI
from shvit_pl.fit.resume import training_settings
from shvit_pl.modules.metrics import validation_metrics

# what else changes a run from its beginning, or what is measured of it; a resumed run may change it
_OF_FRESH_RUNS = (
    "model.init_from",
    "model.use_ema",
    "trainer.callbacks",
    "trainer.check_val_every_n_epoch",
    "trainer.limit_val_batches",
    "trainer.val_check_interval",
)


@dataclass(frozen=True)
class Planned:
    """What a run would train.

    Attributes:
        params: Parameters of the network.
        macs: Multiply-accumulates for one image.
        image_size: Side of an image in pixels.
        trained: Images that all of its steps see.
        validated: Images that all of its validations see.
        metrics: What its validation logs.
    """

    params: int
    macs: int
    image_size: int
    trained: int
    validated: int
    metrics: tuple[str, ...]


class FitCheck(ShvitCLI):
    """The command line of `fit`, which only reads flags and opens data, weights and teacher."""

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """A parser that raises its errors."""
        return super().init_parser(**{**kwargs, "exit_on_error": False})

    def _check(self, config: Any, command: str) -> None:
        """As for `fit`; but runs are not pushed one by one to the same repository."""
        if config.push_to is not None:
            raise UserError(
                f"push_to {config.push_to!r}: the runs of a sweep are not pushed one by one. Leave it out, and push "
                "the best of them at the end: shvit-pl push SWEEP_FOLDER --repo-id USER/NAME."
            )
        super()._check(config, command)

    def before_instantiate_classes(self) -> None:
        """Nothing, until asked."""

    def instantiate_classes(self) -> None:
        """Nothing, until asked."""

    def _run_subcommand(self, subcommand: str) -> None:
        """Nothing."""

    def _set_seed(self) -> None:
        """Nothing."""

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Open what a run would open, instead of a trainer."""
        self._open_inputs()
        return None  # type: ignore[return-value]

    def settings(self, flags: Sequence[str]) -> dict[str, Any]:
        """What flags set, flat, of that which changes the course of a training; raises `UserError` for a mistake."""
        try:
            self.parse_arguments(self.parser, with_found_configs(["fit", *flags, "--ckpt_path=null"]))
            super().before_instantiate_classes()
        except ArgumentError as error:
            raise UserError(shortened(error.message or str(error), self.parser)) from error
        except MisconfigurationException as error:
            raise UserError(f"trainer: {one_line(error)}") from error
        fit = self.config.fit
        return training_settings(fit) | {name: fit[name] for name in _OF_FRESH_RUNS}

    def open(self, flags: Sequence[str]) -> Planned:
        """Open data, weights and teacher as a run with these flags would; raises `UserError` for a mistake."""
        self.settings(flags)
        vars(self).pop("config_dump", None)  # of the flags before, which Lightning would give to `save_hyperparameters`
        super().instantiate_classes()
        classes, image_size = len(self.model.class_names), self.datamodule.hparams.image_size
        costs = cost(self.model.design, classes, image_size)
        validated = self.config.fit.trainer.limit_val_batches != 0
        logged = validation_metrics(classes, averaged=self.model.ema_config.decay > 0) if validated else []
        return Planned(costs.params, costs.macs, image_size, *self._images(), tuple(logged))

    def _images(self) -> tuple[int, int]:
        """Images that a run trains on, and that it validates on, over all its epochs."""
        trainer, data = self.config.fit.trainer, self.config.fit.data
        rows = self.datamodule.rows("train") or 0
        whole = data.steps_per_epoch if data.streaming else rows // data.batch_size
        batches = _limited(whole, trainer.limit_train_batches)
        steps = batches * trainer.max_epochs if (trainer.max_epochs or 0) > 0 else math.inf
        if trainer.max_steps > 0:
            steps = min(steps, trainer.max_steps * trainer.accumulate_grad_batches)
        validations = steps / batches / (trainer.check_val_every_n_epoch or 1)
        images = self.datamodule.rows("validate") or 0
        validated = min(images, data.batch_size * _limited(images, trainer.limit_val_batches))
        return int(steps * data.batch_size), int(validations * validated)

    def flags(self) -> set[str]:
        """All flags of `fit`."""
        return option_names(self.parser)


def _limited(batches: int, limit: int | float | None) -> int:
    """Batches under one of the trainer's limits: a number of them, or a share."""
    if limit is None:
        return batches
    return max(1, min(batches, limit) if isinstance(limit, int) else int(limit * batches))


def fit_check() -> FitCheck:
    """Make one; building the parser takes a second or two."""
    quiet()
    return FitCheck(["fit"])
