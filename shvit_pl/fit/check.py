"""A check of `fit`'s flags without a run: the settings, and the size of the run."""

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from lightning.pytorch.utilities.exceptions import MisconfigurationException

from shvit_pl.command_line.parser import option_names
from shvit_pl.command_line.quiet import quiet
from shvit_pl.errors import UserError, one_line
from shvit_pl.fit import lightning_cli, options, resume
from shvit_pl.fit.tasks import TASKS, find_task
from shvit_pl.modules.step_counts import StepCounts
from shvit_pl.runs.folder import CORRUPTED, EMA

# further settings that change a new run, or what is measured of it; a resumed run may change them
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
    """A run that is not started yet."""

    params: int
    """Parameters of the network."""
    macs: int
    """Multiply-accumulates per image."""
    image_size: int
    """Side of an image in pixels, the shorter one of a photograph."""
    trained: int
    """Images seen by all training steps."""
    validated: int
    """Images seen by all validations."""
    metrics: tuple[str, ...]
    """Names of the validation metrics."""


class FitCheck:
    """A check of what `fit` would do with flags of one task; one parser, which takes a second to build, serves many.

    `flags` are some by which the task is known.
    """

    def __init__(self, flags: Sequence[str] = ()) -> None:
        quiet()
        task = TASKS["classification"]
        with suppress(UserError):  # a mistake in flags comes with those that are read later
            task = find_task("fit", options.read_flags(flags))
        # has the settings by the flags that were read last
        self.cli = lightning_cli.ShvitCLI(["fit", f"--task={task.name}"])

    def flags(self) -> set[str]:
        """Return all flags of `fit`."""
        return option_names(self.cli.parser)

    def settings(self, flags: Sequence[str]) -> dict[str, Any]:
        """Return the flat settings that change the course of a training, by flags; raises `UserError` for mistakes."""
        cli = self.cli
        try:
            cli.parse_arguments(cli.parser, options.read_flags([*flags, "--ckpt_path=null"]))
            if cli.options.push_to is not None:
                raise UserError(
                    f"push_to {cli.options.push_to!r}: the runs of a sweep are not pushed one by one. Leave it out, "
                    "and push the best of them at the end: shvit-pl push SWEEP_FOLDER --repo-id USER/NAME."
                )
            cli.before_instantiate_classes()
        except MisconfigurationException as error:
            raise UserError(f"trainer: {one_line(error)}") from error
        names = _FRESH_RUN_SETTINGS if cli.options.corruptions is None else (*_FRESH_RUN_SETTINGS, "corruptions")
        return resume.training_settings(cli.config) | {name: cli.config[name] for name in names}

    def open(self, flags: Sequence[str]) -> Planned:
        """Open data, weights and teacher as a run with these flags would; raises `UserError` for mistakes in them."""
        self.settings(flags)
        cli = self.cli
        cli.instantiate_classes()
        cli.open_inputs()
        model, data, trainer = cli.model, cli.datamodule, cli.config.trainer
        costs, batch_size = model.cost(data), data.config.batch_size
        batches = _limited(data.batches_of_epoch, trainer.limit_train_batches)
        steps = batches * trainer.max_epochs if (trainer.max_epochs or 0) > 0 else math.inf
        if trainer.max_steps > 0:
            counts = StepCounts.by(
                options.parts_of(cli.config_init.trainer, "callbacks"), batches, trainer.accumulate_grad_batches
            )
            steps = min(steps, counts.batches_of(trainer.max_steps))
        validations = steps / batches / (trainer.check_val_every_n_epoch or 1)
        images = data.rows("validate") or 0
        validates = trainer.limit_val_batches != 0
        most = batch_size * _limited(math.ceil(images / batch_size), trainer.limit_val_batches) if validates else 0
        return Planned(
            costs.params,
            costs.macs,
            data.side,
            trained=int(steps * batch_size),
            validated=int(validations * min(images, most)),
            metrics=(*model.validation_metrics(), *_at_end(cli.options)) if validates else (),
        )


def _at_end(run: options.FitOptions) -> list[str]:
    """Return the names of what is measured once, at the end of a run."""
    return [f"{CORRUPTED}{EMA * run.monitor.endswith(EMA)}"] if run.corruptions is not None else []


def _limited(batches: int, limit: int | float | None) -> int:
    """Return the batches under one of the trainer's limits: a number of them, or a share."""
    if limit is None:
        return batches
    return max(1, min(batches, limit) if isinstance(limit, int) else int(limit * batches))
