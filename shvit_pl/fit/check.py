"""A check of `fit`'s flags without a run: what they set, and what a run would train."""

from __future__ import annotations

import math
from argparse import ArgumentError
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lightning.pytorch.utilities.exceptions import MisconfigurationException

from shvit_pl.command_line.parser import option_names, shortened
from shvit_pl.command_line.quiet import quiet
from shvit_pl.designs.cost import cost
from shvit_pl.errors import UserError, one_line
from shvit_pl.fit.lightning_cli import ShvitCLI
from shvit_pl.fit.options import FitOptions, read_flags
from shvit_pl.fit.resume import training_settings
from shvit_pl.modules.metrics import validation_metrics

# what else changes a run from its beginning, or what is measured of it; a resumed run may change it
_FRESH_RUN_SETTINGS = (
    "model.init_from",
    "model.use_ema",
    "trainer.callbacks",
    "trainer.check_val_every_n_epoch",
    "trainer.limit_val_batches",
    "trainer.val_check_interval",
)


@dataclass(frozen=True)
class Planned:
    """A run that was not started."""

    params: int
    """Parameters of the network."""
    macs: int
    """Multiply-accumulates per image."""
    image_size: int
    """Side of an image in pixels."""
    trained: int
    """Images that all of its steps see."""
    validated: int
    """Images that all of its validations see."""
    metrics: tuple[str, ...]
    """Names of what its validation logs."""


class FitCheck:
    """Tells what `fit` would do with flags; one parser, which takes a second to build, serves many."""

    def __init__(self) -> None:
        quiet()
        self._cli = ShvitCLI(["fit"], exit_on_error=False)

    @property
    def trainer(self) -> Any:
        """The trainer's settings, by the flags that were read last."""
        return self._cli.config.trainer

    @property
    def options(self) -> FitOptions:
        """The run's options, by the flags that were read last."""
        return self._cli.options

    def settings(self, flags: Sequence[str]) -> dict[str, Any]:
        """Return what flags set, flat, of that which changes the course of a training.

        Raises:
            UserError: for a mistake in the flags.
        """
        cli = self._cli
        try:
            cli.parse_arguments(cli.parser, read_flags([*flags, "--ckpt_path=null"]))
            _refuse_push(cli.options)
            cli.before_instantiate_classes()
        except ArgumentError as error:
            raise UserError(shortened(error.message or str(error), cli.parser)) from error
        except MisconfigurationException as error:
            raise UserError(f"trainer: {one_line(error)}") from error
        return training_settings(cli.config) | {name: cli.config[name] for name in _FRESH_RUN_SETTINGS}

    def open(self, flags: Sequence[str]) -> Planned:
        """Open data, weights and teacher as a run with these flags would.

        Raises:
            UserError: for a mistake in the flags, or in what they name.
        """
        self.settings(flags)
        cli = self._cli
        cli.instantiate_classes()
        cli.open_inputs()
        model, side = cli.model, cli.datamodule.config.side
        classes = len(model.class_names or ())
        costs = cost(model.design, classes, side)
        validated = self.trainer.limit_val_batches != 0
        logged = validation_metrics(classes, averaged=model.config.ema.decay > 0) if validated else []
        return Planned(costs.params, costs.macs, side, *self._images(), tuple(logged))

    def _images(self) -> tuple[int, int]:
        """Images that a run trains on, and that it validates on, over all its epochs."""
        trainer, data, module = self.trainer, self._cli.config.data, self._cli.datamodule
        rows = module.rows("train") or 0
        whole = data.steps_per_epoch if data.streaming else rows // data.batch_size
        batches = _limited(whole, trainer.limit_train_batches)
        steps = batches * trainer.max_epochs if (trainer.max_epochs or 0) > 0 else math.inf
        if trainer.max_steps > 0:
            steps = min(steps, trainer.max_steps * trainer.accumulate_grad_batches)
        validations = steps / batches / (trainer.check_val_every_n_epoch or 1)
        images = module.rows("validate") or 0
        validated = min(images, data.batch_size * _limited(images, trainer.limit_val_batches))
        return int(steps * data.batch_size), int(validations * validated)

    def flags(self) -> set[str]:
        """All flags of `fit`."""
        return option_names(self._cli.parser)


def _limited(batches: int, limit: int | float | None) -> int:
    """Batches under one of the trainer's limits: a number of them, or a share."""
    if limit is None:
        return batches
    return max(1, min(batches, limit) if isinstance(limit, int) else int(limit * batches))


def _refuse_push(options: FitOptions) -> None:
    if options.push_to is not None:
        raise UserError(
            f"push_to {options.push_to!r}: the runs of a sweep are not pushed one by one. Leave it out, and push "
            "the best of them at the end: shvit-pl push SWEEP_FOLDER --repo-id USER/NAME."
        )
    if options.push_public:
        raise UserError("push_public True: it belongs to --push_to user/name; leave it out.")
