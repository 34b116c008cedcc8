"""`fit`, `validate`, `test` and `predict`: LightningCLI with one fixed module and one data module."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from signal import SIGTERM
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities.exceptions import MisconfigurationException, SIGTERMException

from shvit_pl.callbacks.checkpoints import checkpoints
from shvit_pl.callbacks.figures import RunFigures
from shvit_pl.callbacks.finite_loss import FiniteLoss
from shvit_pl.callbacks.inference import PredictionWriter, PublishedAccuracy
from shvit_pl.callbacks.measuring import DataWait, Throughput
from shvit_pl.callbacks.progress import RunProgress
from shvit_pl.callbacks.report import RunReport
from shvit_pl.callbacks.run_identity import LastValidation, OwnFolder, Requeue, RunSettings, StepSeed
from shvit_pl.callbacks.summary import RunHparams, RunSummary
from shvit_pl.command_line.checks import check_writable
from shvit_pl.command_line.config_files import with_found_configs
from shvit_pl.command_line.quiet import quiet
from shvit_pl.data.config import DATASET_SETTINGS
from shvit_pl.data.datamodule import HFImageDataModule
from shvit_pl.deploy.measuring import is_out_of_memory
from shvit_pl.deploy.optimize_callback import OptimizedNetwork
from shvit_pl.designs.config import resolve_design
from shvit_pl.errors import UserError, one_line
from shvit_pl.fit.options import Parser, add_flags, check_flags, check_monitors, expand_home, run_name
from shvit_pl.fit.resume import (
    find_last,
    refuse_changes,
    refuse_done,
    set_defaults,
    settings_of_weights,
    training_settings,
)
from shvit_pl.fit.trainer import SaveFitConfig, Trainer
from shvit_pl.hub.push_callback import PushToHub, check_push
from shvit_pl.models.checkpoint import LAST_RUN, read_checkpoint
from shvit_pl.modules.distillation import make_module
from shvit_pl.modules.metrics import validation_metrics
from shvit_pl.runs.claim import claim
from shvit_pl.runs.folder import interrupted_run
from shvit_pl.runs.loggers import resumed_loggers, run_loggers


class ShvitCLI(LightningCLI):
    """LightningCLI with this package's module, data, run folder, callbacks and errors; runs at once.

    Args:
        args: The command's name, and its flags.
    """

    lightning_command = ""  # by which a command of ours is done, where it is not of the same name
    checkpoint: dict[str, Any] | None = None
    trained_on: str | None = None  # the dataset of the weights that are measured, where it is known

    def __init__(self, args: Sequence[str]) -> None:
        self.name, *flags = args
        self.lightning_command = self.lightning_command or self.name
        self.command = shlex.join(["shvit-pl", *args])
        super().__init__(
            make_module,
            HFImageDataModule,
            trainer_class=Trainer,
            save_config_callback=SaveFitConfig,
            save_config_kwargs={"overwrite": True},
            seed_everything_default=0,
            auto_configure_optimizers=False,
            args=with_found_configs([self.lightning_command, *flags]),
        )

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """The chosen command alone: a parser for each of the four would take four times as long to build."""
        return {self.lightning_command: LightningCLI.subcommands()[self.lightning_command]}

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """Parsers whose errors are one line."""
        parser = Parser(**{**kwargs, "prog": kwargs.get("prog") or "shvit-pl"})
        parser.command = f"shvit-pl {self.name}"
        parser.add_argument("-c", "--config", action="config", help="a YAML file; several are layered, later ones win")
        return parser

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Flags beside model, data and trainer."""
        add_flags(parser)

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse; what a checkpoint says of model and data are the defaults of everything but fit."""
        super().parse_arguments(parser, args)
        command = self.config["subcommand"]
        config = self.config[command]
        self._check(config, command)
        expand_home(config)
        if command == "fit" and config.ckpt_path == LAST_RUN:
            config.ckpt_path = find_last(os.path.join(config.trainer.default_root_dir, run_name(config)))
        if config.ckpt_path is None and command == "fit":
            return
        known: dict[str, Any] | None
        if config.ckpt_path is None and config.model.init_from is not None:
            known = settings_of_weights(config.model.init_from, command)
        else:
            known = self.checkpoint = read_checkpoint(config.ckpt_path)
        if known is not None and command != "fit":
            self.trained_on = known["data"].get("path", "")
            self._parse_again(known, parser, args)

    def _check(self, config: Any, command: str) -> None:
        """Refuse what is impossible before anything is opened."""
        check_flags(config, command)
        if command == "fit":
            check_push(config.push_to, config.push_public, config.trainer)

    def before_instantiate_classes(self) -> None:
        """Settle what depends on other settings, and compare a resumed run's settings with the interrupted one's."""
        config = self.config[self.config["subcommand"]]
        if config.data.image_size == "auto":
            config.data.image_size = resolve_design(config.model.design.name).image_size
        if self.config["subcommand"] == "fit" and self.checkpoint:
            saved = self.checkpoint["callbacks"].get(RunSettings.__name__, {}).get("settings")
            if saved is not None:
                refuse_changes(saved, training_settings(config), allowed=config.allow_changes)

    def _parse_again(self, settings: Mapping[str, Any], parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse again, with settings of a checkpoint as defaults, but not those of a dataset that is not used."""
        command_parser = self._subcommand_parsers[self.config["subcommand"]]
        own = {f"data.{key}": command_parser.get_default(f"data.{key}") for key in DATASET_SETTINGS}
        set_defaults(command_parser, settings, of_checkpoint=self.checkpoint is not None)
        super().parse_arguments(parser, args)
        if self.config[self.config["subcommand"]].data.path != settings["data"].get("path"):
            command_parser.set_defaults(own)
            super().parse_arguments(parser, args)

    def _parse_ckpt_path(self) -> None:
        """Nothing: Lightning would let a checkpoint override the flags (see `parse_arguments`)."""

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """The trainer with the run folder's loggers and this package's callbacks, once all inputs are in order."""
        config = self.config_init[self.subcommand]
        self._open_inputs()
        if config.trainer.logger in (None, True):
            kwargs["logger"] = self._loggers(config)
        if self.subcommand == "predict" and config.trainer.devices == "auto":
            kwargs["devices"] = 1  # one file, one writer
        self.trainer_defaults = {"callbacks": self._callbacks(config)}
        try:
            return super().instantiate_trainer(**kwargs)
        except (MisconfigurationException, ValueError, TypeError, OSError, RuntimeError, ImportError) as error:
            raise UserError(f"trainer: {one_line(error)}") from error

    def _open_inputs(self) -> None:
        """Open the data and the initial weights, so that a mistake in them leaves no run folder."""
        config = self.config_init[self.subcommand]
        check_writable("trainer.default_root_dir", config.trainer.default_root_dir)
        self.model.check_image_size(self.datamodule.hparams.image_size)
        if self.subcommand == "fit" and not self.checkpoint:
            self.model.check_initial_weights()
        if self.checkpoint:
            self.model.expect(
                self.checkpoint["model"], averaged=self.subcommand != "fit" and self.model.hparams.use_ema
            )
        if self.trained_on is not None:
            self.datamodule.held_out = self.datamodule.hparams.path == self.trained_on
        self.datamodule.setup(str(self.subcommand))
        if self.subcommand != "fit":
            print(f"{self.datamodule.hparams.path}: {self.datamodule.split_note}")
        self.model.use_data(self.datamodule, str(self.subcommand))
        if self.subcommand == "fit":
            self._prepare_training(config)
        elif not self.checkpoint:
            self.model.take_weights()
            print(f"weights only, no run is resumed: {self.model.init_note}")

    def _prepare_training(self, config: Any) -> None:
        """Refuse a training that can't go on or be watched as asked, or take the initial weights."""
        logged = validation_metrics(len(self.model.class_names), averaged=self.model.ema_config.decay > 0)
        check_monitors(config.monitor, config.trainer.callbacks, logged)
        if self.checkpoint:
            refuse_done(config.ckpt_path, self.checkpoint["loops"], config.trainer.max_epochs)
        else:
            self.model.load_initial_weights()

    def _loggers(self, config: Any) -> list[Logger] | bool:
        if self.subcommand != "fit" or config.trainer.fast_dev_run:
            return False
        root, name = config.trainer.default_root_dir, run_name(self.config[self.subcommand])
        if self.checkpoint and (folder := interrupted_run(config.ckpt_path)):
            claim(folder)
            return resumed_loggers(folder, self.checkpoint["step"])
        return run_loggers(root, name)

    def _callbacks(self, config: Any) -> list[Callback]:
        if self.subcommand == "fit":
            return fit_callbacks(config, training_settings(self.config["fit"]), self.command)
        weights = self.model.hparams.init_from if not self.checkpoint else None
        return other_callbacks(config, str(self.subcommand), weights)


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


def _missing_package(error: BaseException | None) -> ModuleNotFoundError | None:
    """What jsonargparse wrapped into its own words, if it is that a package is not installed."""
    while error is not None and not isinstance(error, ModuleNotFoundError):
        error = error.__cause__ or error.__context__
    return error


def run(args: list[str]) -> None:
    """Run one of LightningCLI's commands."""
    run_as(ShvitCLI, args)


def run_as(kind: type[ShvitCLI], args: list[str]) -> None:
    """Run a command as one of LightningCLI's.

    Args:
        kind: The command line.
        args: The command's name, and its flags.
    """
    quiet()
    try:
        kind(args)
    except MisconfigurationException as error:  # Lightning's word for a user's mistake
        raise UserError(f"trainer: {one_line(error)}") from error
    except (ModuleNotFoundError, ValueError) as error:
        missing = _missing_package(error)  # of a logger, for example
        if missing is None or isinstance(error, UserError):
            raise
        raise UserError(one_line(missing)) from error
    except SIGTERMException as error:
        raise SystemExit(128 + SIGTERM) from error
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(
            "data.batch_size: more than the device's memory holds. Lower it (--trainer.accumulate_grad_batches keeps "
            "the global batch) or data.image_size, or set --model.grad_checkpointing true."
        ) from error
