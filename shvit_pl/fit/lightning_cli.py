"""LightningCLI with a task's module and data: `fit`, `validate`, `test`, `predict` and `cache-teacher`."""

import os
import shlex
from collections.abc import Sequence
from dataclasses import fields, replace
from inspect import signature
from pathlib import Path
from pickle import PicklingError
from signal import SIGTERM
from typing import Any, get_type_hints

import lightning as L
import torch
from jsonargparse import Namespace
from lightning.fabric.plugins import CheckpointIO, TorchCheckpointIO
from lightning.pytorch.accelerators import Accelerator
from lightning.pytorch.callbacks import ModelSummary, ProgressBar, RichModelSummary, RichProgressBar, TQDMProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.strategies import Strategy
from lightning.pytorch.utilities.exceptions import MisconfigurationException, SIGTERMException
from rich.filesize import decimal

from shvit_pl.callbacks import checkpoints, console, ending, inference, robustness, summary, throughput
from shvit_pl.command_line.class_paths import import_from_working_directory
from shvit_pl.command_line.parser import parse_flags
from shvit_pl.command_line.quiet import hide_bars, quiet
from shvit_pl.data.base import DataModule
from shvit_pl.data.sources import joined_path
from shvit_pl.deploy.measuring import is_out_of_memory, num_threads
from shvit_pl.display import say
from shvit_pl.errors import UserError, causes, error_prefix, first_line, one_line, refuse
from shvit_pl.files import check_writable, replacing
from shvit_pl.fit import finding, measurements, options, resume, users_parts
from shvit_pl.fit.tasks import find_task
from shvit_pl.models.weights import LAST_RUN, read_checkpoint
from shvit_pl.modules.base import TrainedModule
from shvit_pl.modules.distillation import DistillationModule
from shvit_pl.runs.folder import run_of, started_in
from shvit_pl.runs.writing import claim, release, resumed_loggers, run_loggers
from shvit_pl.teachers import cache
from shvit_pl.teachers.teacher import Teacher

_DRAWN = (RichModelSummary, RichProgressBar, TQDMProgressBar)  # boxes and bars, of which --plain has none


class ShvitCLI(LightningCLI):
    """LightningCLI with a task's module, data and callbacks, and this package's run folder and errors.

    Making one of a command's name and flags makes module and data; `run` opens the data and runs the command.
    """

    command = ""  # the trainer's method, where it isn't called as the command is
    checkpoint: dict[str, Any] | None = None
    extended_at: float | None = None  # epochs of the ended run that is trained on
    asked = ""  # the flag that stands for a checkpoint which no flag names
    trained_on: str | list[str] | None = None  # the dataset of the weights that are measured, where it is known
    asked_measures: Any = None  # beyond accuracy
    watching: list[L.Callback] | None = None  # in place of what a fit keeps
    named_split: str | None = None  # validation_split of the command line, not of the weights' run

    def __init__(self, args: Sequence[str]) -> None:
        self.name, *flags = args
        self.command = self.command or self.name
        self.command_line = shlex.join(["shvit-pl", *args])
        import_from_working_directory()
        flags = options.read_flags(flags)
        self.task = find_task(self.command, flags)
        super().__init__(
            TrainedModule,
            DataModule,
            parser_class=users_parts.FitParser,
            save_config_callback=SaveFitConfig,
            save_config_kwargs={"overwrite": True},
            parser_kwargs={"prog": f"shvit-pl {self.name}", "description": None, "exit_on_error": False},
            args=flags,
            run=False,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
        )

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the seed; Lightning's may be true or false, too."""
        parser.add_argument("--seed_everything", type=int, default=0, help="Seed of the run.")

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the flags of run, module and data, then the trainer's."""
        parser.add_class_arguments(self.task.options)
        skip = options.NOT_FLAGS & signature(getattr(L.Trainer, self.command)).parameters.keys()
        self.run_arguments: list[str] = parser.add_method_arguments(L.Trainer, self.command, skip=skip)
        self.task.add_flags(parser)
        own = {field.name: field.default for field in fields(options.TrainerOptions)}
        classes = {"strategy": Strategy, "accelerator": Accelerator}  # Lightning's annotations take any text for a name
        parser.add_class_arguments(L.Trainer, "trainer", instantiate=False, skip={*own, *classes})
        for flag, kind in classes.items():
            parser.add_argument(f"--trainer.{flag}", type=kind | str, default="auto")
        types = get_type_hints(options.TrainerOptions)
        for flag, default in own.items():
            parser.add_argument(f"--trainer.{flag}", type=types[flag], default=default)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse; the settings in a checkpoint are the defaults of every command but fit."""
        below = [self.task.dataset_configs] if self.command == "fit" else []
        self.config, mistakes = parse_flags(parser, args, *below)
        self.checkpoint = self.trained_on = self.extended_at = None
        last, found = self.config.ckpt_path == LAST_RUN, self.config.ckpt_path in (None, LAST_RUN)
        if self.name == "fit" and options.has_sections(self.config):
            options.expand_paths(self.config, self.name)
            given, args = args, resume.with_config_of_run(self.config, args, options.runs_folder(self.config))
            if args != list(given):
                if (task := find_task(self.command, args)) is not self.task:
                    raise UserError(f"task {self.task.name}: that run is of {task.name}; give --task {task.name}.")
                self.config, mistakes = parse_flags(parser, args, *below)
        self.options, self.model_config, self.data_config = options.check_flags(
            self.task, self.config, self.name, mistakes, args
        )
        self.named_split = self.data_config.validation_split
        if self.command != "fit":
            self._take_defaults(parser, args)
            self.model_config = self.task.model.from_dict(self.config.model.as_dict())
            self.data_config = self.task.data(**self.config.data.as_dict())
            refuse(self.task.check(self.model_config, self.config))
            return
        runs = options.runs_folder(self.config)
        self.config.ckpt_path = resume.find_checkpoint(self.config.ckpt_path, self.config.extend_to, runs)
        if self.config.ckpt_path is None and last:
            _show(f"no interrupted run with a checkpoint in {runs}: starting a new run")
        if self.config.ckpt_path is not None:
            if found and self.config.extend_to is not None:
                self.asked = f"extend_to {self.config.extend_to}: "
            with error_prefix(self.asked):
                self.checkpoint = read_checkpoint(self.config.ckpt_path)
                resume.refuse_moved(self.config, self.checkpoint, self.config.ckpt_path, resumed=True)
            self.extended_at = resume.extended_at(self.config, self.checkpoint, {arg.partition("=")[0] for arg in args})

    def _take_defaults(self, parser: LightningArgumentParser, args: Sequence[str]) -> None:
        """Parse again with the settings of a checkpoint as defaults, but not those of a dataset that is not used."""
        settings: dict[str, Any] | None
        if self.config.ckpt_path is None and self.config.model.init_from is not None:
            settings = resume.settings_of_weights(self.config.model.init_from, self.command)
        else:
            settings = self.checkpoint = read_checkpoint(self.config.ckpt_path)
        if settings is not None and (of := settings.get("task", self.task.name)) != self.task.name:
            flag = "ckpt_path" if self.checkpoint else "model.init_from"
            raise UserError(
                f"{flag}: the checkpoint is of the task {of}, and task is {self.task.name}; leave task out."
            )
        if settings is None:  # bare weights
            self.config, _ = parse_flags(parser, args, self.task.dataset_configs)
            return
        self.trained_on = path = settings["data"].get("path", "")
        weights = self.config.ckpt_path or self.config.model.init_from
        if isinstance(path, str) and path and (start := started_in(weights, path)):
            self.trained_on = str(start / path)
        own = {f"data.{key}": parser.get_default(f"data.{key}") for key in self.task.dataset_settings}
        resume.set_defaults(parser, settings, of_checkpoint=self.checkpoint is not None)
        self.config = parser.parse_args(args)
        if path:
            resume.refuse_moved(self.config, settings, weights, resumed=False)
        if not resume.is_same_data(self.config.data.path, self.trained_on):
            parser.set_defaults(own)
            self.config = parser.parse_args(args)
        options.expand_paths(self.config, self.command)

    def before_instantiate_classes(self) -> None:
        """Settle what depends on other settings, and compare a resumed run's settings with the interrupted one's."""
        self.data_config = self.task.settled(self.model_config, self.data_config)
        for name, value in vars(self.data_config).items():
            self.config.data[name] = value
        if self.command == "fit":
            self.parser.dump(self.config, skip_none=False)  # refuses what could not be written later
        if self.command == "fit" and self.checkpoint:
            saved = self.checkpoint["callbacks"].get(checkpoints.RunSettings.__name__, {}).get("settings")
            if saved is not None:
                now = resume.training_settings(self.config)
                if self.extended_at is not None:
                    saved = saved | {name: now[name] for name in resume.LENGTH}
                with error_prefix(self.asked):
                    resume.refuse_changes(saved, now, self.config.allow_changes, self.config.ckpt_path)
            _show(resume.note(self.config, self.extended_at))

    def instantiate_classes(self) -> None:
        """Make module and data, and the parts of the trainer."""
        for flag in ("callbacks", "plugins"):  # what one alone raises would be lost
            if isinstance(self.config.trainer[flag], Namespace):
                self.config.trainer[flag] = [self.config.trainer[flag]]
        with users_parts.named_errors(None, None):
            self.config_init = self.parser.instantiate(self.config, instantiate_groups=False)
        self.model, self.datamodule = self.task.make_module(self.model_config), self.task.make_data(self.data_config)

    def run(self) -> None:
        """Open the data and run the command."""
        if self.options.find is not None:
            finding.find(self, self.options.find)
            return
        if self.command == "fit" and self.options.push_to is not None:
            options.check_push(self.options.push_to, self.config.trainer)
        self.trainer = self.instantiate_trainer()
        if self.trainer.world_size > 1 and self.config.ckpt_path and (folder := run_of(self.config.ckpt_path)):
            release(folder)  # the first of the processes claims it again: forked or spawned, it isn't this one
        arguments = {name: self.config_init[name] for name in self.run_arguments}
        if self.command in ("validate", "test"):
            arguments["verbose"] = False  # our callback prints the metrics
        with users_parts.named_errors(self.trainer, self.config_init.trainer):
            getattr(self.trainer, self.command)(self.model, datamodule=self.datamodule, **arguments)

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Make the trainer with the run folder's loggers and this package's callbacks, once all inputs are open."""
        config = self.config_init
        self.open_inputs()
        if config.trainer.logger is not False:
            added = [each for each in options.parts_of(config.trainer, "logger") if each is not True]
            kwargs["logger"] = [*self._loggers(config), *added] or False
        if self.command == "predict" and config.trainer.devices == "auto":
            kwargs["devices"] = 1  # one file, one writer
        plugins = kwargs["plugins"] = options.parts_of(config.trainer, "plugins")
        if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
            plugins.append(AtomicCheckpointIO())
        self.trainer_defaults = {"callbacks": self._callbacks(config)}
        try:
            return super().instantiate_trainer(**kwargs)
        except (MisconfigurationException, ValueError, TypeError, OSError, RuntimeError, ImportError) as error:
            raise UserError(f"trainer: {one_line(error)}") from error

    def open_inputs(self) -> None:
        """Open the data and the initial weights, so that a mistake in them leaves no run folder."""
        config, fits, model, data = self.config_init, self.command == "fit", self.model, self.datamodule
        check_writable("trainer.default_root_dir", config.trainer.default_root_dir)
        if fits and not self.checkpoint:
            model.check_initial_weights()
        if self.checkpoint:
            with error_prefix(self.asked):
                model.expect(self.checkpoint["model"], resumed=fits, averaged=not fits and config.model.use_ema)
        if self.options.calibrated:
            model.temperature = measurements.temperature_of(config.ckpt_path, config.model.use_ema)
            _show(f"logits are divided by the temperature {model.temperature:.4f}")
        if self.trained_on is not None:
            data.held_out = data.has_chosen = resume.is_same_data(data.config.path, self.trained_on)
        if self.command == "test" and self._is_other_data():
            data.held_out = data.has_chosen = False
        if not fits:
            data.known_classes = list(model.class_names or [])
        if self.command == "predict":
            data.broken_share = 1.0  # they are in the table, without a label
        elif self.options.strict:
            data.broken_share = 0.0
        with resume.relative_paths(config, None if fits else self.trained_on):
            data.setup(self.command)
        if not fits:
            parts = filter(None, (f"{joined_path(data.config.path)}: {data.chosen.note}", data.chosen.files))
            say("; ".join(parts))
        model.use_data(data, self.command)
        self.asked_measures = None if fits else measurements.measurements(self.options, data)
        if fits:
            logged = model.validation_metrics() if config.trainer.limit_val_batches != 0 else []
            options.check_monitors(self.options.monitor, options.parts_of(config.trainer, "callbacks"), logged)
            if self.checkpoint:
                resume.refuse_done(config.ckpt_path, self.checkpoint["loops"], config.trainer.max_epochs)
            else:
                model.load_initial_weights()
        elif not self.checkpoint:
            model.take_weights()
            say(f"weights only, no run is resumed: {model.init_note}")

    def _is_other_data(self) -> bool:
        """Return whether `test` was given a split, or images for weights whose training data are unknown."""
        data = self.datamodule.config
        if self.named_split is not None:
            return self.named_split != data.train_split or not self.datamodule.held_out
        return self.trained_on is None and data.path != self.task.embedded

    def _loggers(self, config: Namespace) -> list[L.pytorch.loggers.Logger]:
        if self.command != "fit" or config.trainer.fast_dev_run or self.watching is not None:
            return []
        if self.checkpoint and (folder := run_of(config.ckpt_path)):
            claim(folder)
            return resumed_loggers(folder, self.checkpoint["step"])
        return run_loggers(config.trainer.default_root_dir, options.run_name(self.config))

    def _callbacks(self, config: Namespace) -> list[L.Callback]:
        """Make the command's callbacks, in the order in which they are called."""
        chosen, trainer = self.options, config.trainer
        callbacks: list[L.Callback] = [throughput.Throughput()]
        added = options.parts_of(trainer, "callbacks")
        if chosen.plain:
            drawn = [each for each in added if isinstance(each, _DRAWN)]
            for each in drawn:
                _show(f"plain true: {type(each).__name__} is left out, as it draws")
            added = [each for each in added if each not in drawn]
            trainer.callbacks = added or None
            if trainer.enable_model_summary and not any(isinstance(each, ModelSummary) for each in added):
                callbacks.append(ModelSummary())  # Lightning's choice would draw
        if trainer.enable_progress_bar is not False and not any(isinstance(each, ProgressBar) for each in added):
            callbacks.append(console.RunProgress(plain=chosen.plain))
        if self.watching is not None:
            return [*callbacks[1:], *self.watching]
        if self.command != "fit":
            if chosen.optimize:
                callbacks.append(inference.OptimizedNetwork())
            if self.command == "predict":
                callbacks.append(self.task.writer(chosen))
            else:
                weights = config.ckpt_path or config.model.init_from
                output = chosen.output or "metrics.json"
                callbacks.append(inference.MetricsWriter(output, self.command_line, weights, chosen.plain))
                if self.asked_measures is not None:
                    callbacks.append(robustness.Robustness(self.asked_measures, weights, output, chosen.plain))
            if self.command == "validate" and not self.checkpoint:
                callbacks += self.task.measuring(config.model.init_from)
            return callbacks
        settings = resume.training_settings(self.config)
        callbacks += [
            checkpoints.StepSeed(),
            checkpoints.FiniteLoss(),
            checkpoints.RunSettings(settings, chosen.allow_changes),
        ]
        if self.extended_at is not None:
            callbacks.append(checkpoints.Extension())
        if names := measurements.corruption_names(chosen.corruptions):
            callbacks.append(robustness.CorruptedAtEnd(names, chosen.plain))
        callbacks.append(summary.RunSummary(self.command_line, chosen.monitor, settings, self.extended_at))
        if chosen.patience is not None:
            callbacks.append(ending.Patience(chosen.monitor, int(chosen.patience)))
        callbacks.append(ending.FitIntoTime())
        callbacks.append(self.task.figures())
        callbacks += [console.RunReport(chosen.plain), checkpoints.LastValidation()]
        callbacks += [checkpoints.Requeue(), checkpoints.OwnFolder()]
        if chosen.push_to is not None:  # once all others have written
            callbacks.append(summary.PushToHub(chosen.push_to, chosen.push_public))
        if trainer.enable_checkpointing is not False:
            monitor = chosen.monitor if trainer.limit_val_batches != 0 else None
            callbacks += checkpoints.checkpoints(monitor, chosen.checkpoint_every_n_steps)
        return callbacks


class CacheCLI(ShvitCLI):
    """A command with all flags of `fit` that writes the teacher's logits to `model.distill.cache`."""

    command = "fit"
    planned: cache.Manifest

    def run(self) -> None:
        """Run the teacher for the missing files."""
        self.trainer, model = self.instantiate_trainer(), self.model
        assert isinstance(model, DistillationModule)
        folder = Path(str(model.config.distill.cache))
        manifest = self.planned if model.teacher is None else self._begin(model, model.teacher, folder)
        try:
            if model.teacher is not None:
                mixup = model.make_mixup()
                cacher = cache.TeacherCacher(model.teacher.logits, self.datamodule, mixup, folder, manifest)
                self.trainer.predict(cacher, return_predictions=False)
        finally:
            files, left = len(manifest.shards), len(cache.missing(folder, manifest))
            unfinished = f"{files - left} of {files} files are there; run the same command again to continue"
            _show(unfinished if left else "complete: now train, with the same flags for shvit-pl fit")

    def _begin(self, model: DistillationModule, teacher: Teacher, folder: Path) -> cache.Manifest:
        """Measure the teacher, and prepare the folder."""
        model.measure_teacher(self.datamodule, self.trainer.strategy.root_device)
        check = str(model.teacher_check or "not checked")
        manifest = cache.begin(folder, replace(self.planned, check=check, precision=teacher.precision))
        if manifest.precision != teacher.precision:
            raise UserError(
                f"{cache.FLAG} {str(folder)!r}: it was begun in {manifest.precision}, and here the teacher computes in "
                f"{teacher.precision}. Complete it on a device as before, or write another folder."
            )
        claim(folder, cache.NAME, cache.FLAG)
        size = f"{manifest.views} views of {manifest.slots} images: {decimal(manifest.estimate())}"
        left = len(cache.missing(folder, manifest))
        _show(f"teacher: {model.teacher_note}")
        _show(f"{size} in {folder}; {left} of {len(manifest.shards)} files to write")
        epochs = self.config.trainer.max_epochs
        if 0 < (epochs or 0) < manifest.views:
            _show(f"note: {epochs} epochs read {epochs} of these views; --model.distill.views {epochs} would do")
        return manifest

    def open_inputs(self) -> None:
        """Open the data, and the teacher unless the folder is complete."""
        assert isinstance(self.model, DistillationModule)
        folder = str(self.model.config.distill.cache)
        check_writable(cache.FLAG, folder)
        self.datamodule.setup("fit")
        super(DistillationModule, self.model).use_data(self.datamodule, "fit")
        self.planned = self.model.planned_cache(self.datamodule)
        held = cache.begun(folder, self.planned)
        if held is None or cache.missing(folder, held):
            self.model.open_teacher(self.datamodule)
        else:
            self.planned = held

    def _loggers(self, config: Namespace) -> list[L.pytorch.loggers.Logger]:
        return []

    def _callbacks(self, config: Namespace) -> list[L.Callback]:
        return [console.RunProgress(plain=self.options.plain)]


_show = L.pytorch.utilities.rank_zero_only(say)


def run_as(kind: type[ShvitCLI], args: list[str]) -> None:
    """Run a command; raises `UserError` for a mistake of the user, also where Lightning or torch has found it."""
    quiet()
    try:
        cli = kind(args)
        if cli.options.plain:
            hide_bars()
        with num_threads(cli.options.threads):
            cli.run()
    except MisconfigurationException as error:  # Lightning's word for a user's mistake
        raise UserError(f"trainer: {one_line(error)}") from error
    except (ModuleNotFoundError, ValueError) as error:
        # jsonargparse wraps a missing package, of a logger for example
        cause = next((each for each in causes(error) if isinstance(each, ModuleNotFoundError)), None)
        if cause is None or isinstance(error, UserError):
            raise
        raise UserError(one_line(cause)) from error
    except SIGTERMException as error:
        raise SystemExit(128 + SIGTERM) from error
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(
            "data.batch_size: more than the device's memory holds. Lower it (--trainer.accumulate_grad_batches keeps "
            "the global batch) or the images' size, or set --model.grad_checkpointing true."
        ) from error


class AtomicCheckpointIO(TorchCheckpointIO):
    """Atomic writing in the checkpoint's folder; Lightning's goes through the system's temporary folder."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Write atomically; raises `UserError` when the disk is full, with the old file as it was."""
        path = Path(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            for leftover in path.parent.glob(".*.ckpt*"):  # a run that was killed while it wrote leaves one
                leftover.unlink()
            with replacing(path) as partial, partial.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
        except (PicklingError, TypeError, AttributeError):  # as pickle refuses, here a state that has changed
            checkpoints.check_states(checkpoint.get("callbacks", {}))
            raise
        except (OSError, RuntimeError) as error:  # torch wraps a full disk in a RuntimeError
            reason = getattr(error.__cause__ or error.__context__ or error, "strerror", None) or first_line(error)
            raise UserError(
                f"checkpoint {path}: can't be written ({reason}). An earlier one is as it was; make room or give "
                "another --trainer.default_root_dir."
            ) from error


class SaveFitConfig(SaveConfigCallback):
    """`config.yaml` in the folder of a fit; other commands leave no folder."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Do nothing yet: data and weights may still be refused."""

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save before the first step, so that the file makes the same run anew, also of one that was continued."""
        if trainer.loggers:
            self.config = self.config.clone()
            for name, value in resume.OF_THE_SESSION.items():
                self.config[name] = value
            super().setup(trainer, pl_module, "fit")
