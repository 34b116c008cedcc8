"""The tasks, of which a config's `task` names one: its settings, module, data, callbacks and writer of predictions.

What Lightning needs is imported where it is made, so that `--help` does without torch.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from jsonargparse import ArgumentParser, Namespace

from shvit_pl.command_line.config_files import read_config, shipped_configs
from shvit_pl.data import config as images
from shvit_pl.data.objects import config as objects
from shvit_pl.errors import UserError, collected, did_you_mean
from shvit_pl.fit import measurements
from shvit_pl.fit.options import DetectionOptions, FitOptions, TaskName
from shvit_pl.modules.config import ClassificationConfig, DetectionConfig, MixConfig, TrainingConfig
from shvit_pl.runs.folder import checkpoint_of_run

if TYPE_CHECKING:
    import lightning as L

    from shvit_pl.data.base import DataModule
    from shvit_pl.modules.base import TrainedModule


class Task(ABC):
    """A kind of training."""

    name: ClassVar[TaskName]
    """The name in configs."""
    options: ClassVar[type[FitOptions]]
    """The run's flags."""
    model: ClassVar[type[TrainingConfig]]
    """The module's settings."""
    data: ClassVar[type]
    """The data's settings."""
    embedded: ClassVar[str]
    """The embedded dataset."""
    dataset_settings: ClassVar[tuple[str, ...]]
    """The data's settings that hold for one dataset alone."""

    def add_flags(self, parser: ArgumentParser) -> None:
        """Add the flags of module and data."""
        parser.add_class_arguments(self.model, "model")
        parser.add_class_arguments(self.data, "data")

    def dataset_configs(self, config: Namespace) -> list[str]:
        """Return the config below all others, as a flag: the embedded data want other settings than photographs."""
        data = config.get("data")
        embedded = isinstance(data, Namespace) and data.path == self.embedded
        return [f"--config={shipped_configs() / 'data' / f'{self.embedded}.yaml'}"] if embedded else []

    def mistakes(self, config: Namespace, command: str) -> Iterator[str]:
        """Yield a message for each contradiction between the task's settings and others."""
        yield from ()

    def check(self, model: Any, config: Namespace) -> list[str]:
        """Return the mistakes that concern settings of module and data at once."""
        return []

    def settled(self, model: Any, data: Any) -> Any:
        """Return the data's settings with what depends on the module's."""
        return data

    @abstractmethod
    def make_module(self, config: Any) -> "TrainedModule":
        """Make the module."""

    @abstractmethod
    def make_data(self, config: Any) -> "DataModule":
        """Make the data module."""

    @abstractmethod
    def figures(self) -> "L.Callback":
        """Make the callback that draws the figures of a fit."""

    @abstractmethod
    def writer(self, options: Any) -> "L.Callback":
        """Make the callback that writes predictions."""

    def measuring(self, init_from: str) -> "list[L.Callback]":
        """Make the further callbacks of `validate` for weights without a run."""
        return []


class Classification(Task):
    """One class for each image."""

    name: ClassVar[TaskName] = "classification"
    options, model, data = FitOptions, ClassificationConfig, images.DataConfig
    embedded, dataset_settings = images.EMBEDDED, images.DATASET_SETTINGS

    def add_flags(self, parser: ArgumentParser) -> None:
        """Add the flags; from Python, the design isn't known where the data are made."""
        super().add_flags(parser)
        parser.set_defaults({"data.image_size": "auto"})

    def mistakes(self, config: Namespace, command: str) -> Iterator[str]:
        """Yield a message for each mistake in distillation and streaming."""
        model, trainer = config.model, config.trainer
        yield from measurements.mistakes(config, command)
        for name, kind in (("teacher", "NAME"), ("cache", "FOLDER")):
            if command == "cache-teacher" and model.distill[name] is None:
                yield f"model.distill.{name}: cache-teacher needs it; give --model.distill.{name} {kind}."
        if config.data.streaming and trainer.limit_train_batches is not None:
            limit = trainer.limit_train_batches
            yield f"trainer.limit_train_batches {limit}: leave it out; an epoch of a stream has --data.steps_per_epoch."

    def check(self, model: ClassificationConfig, config: Namespace) -> list[str]:
        """Return the mistakes in the sizes of batches and images."""
        mistakes = list[str]()
        with collected(mistakes):
            MixConfig(**config.model.mix.as_dict()).check_batch_size(config.data.batch_size)
        with collected(mistakes):
            model.check_image_size(config.data.image_size)
        with collected(mistakes):
            model.check_sampling(config.data)
        return mistakes

    def settled(self, model: ClassificationConfig, data: images.DataConfig) -> images.DataConfig:
        """Return the data's settings with the design's image size for `auto`."""
        return replace(data, image_size=model.design.resolved.image_size) if data.image_size == "auto" else data

    def make_module(self, config: ClassificationConfig) -> "TrainedModule":
        """Make the module, with a teacher if there is one."""
        from shvit_pl.modules.classification import ClassificationModule
        from shvit_pl.modules.distillation import DistillationModule

        return (ClassificationModule if config.distill.teacher is None else DistillationModule)(config)

    def make_data(self, config: images.DataConfig) -> "DataModule":
        """Make the data module."""
        from shvit_pl.data.datamodule import HFImageDataModule

        return HFImageDataModule(config)

    def figures(self) -> "L.Callback":
        """Make the figures: inputs, curves, confusion matrix."""
        from shvit_pl.callbacks.run_figures import RunFigures

        return RunFigures()

    def writer(self, options: FitOptions) -> "L.Callback":
        """Make the writer of predictions.csv."""
        from shvit_pl.callbacks.inference import PredictionWriter

        return PredictionWriter(options.output or "predictions.csv", options.strict)

    def measuring(self, init_from: str) -> "list[L.Callback]":
        """Make the comparison with published accuracy."""
        from shvit_pl.callbacks.inference import PublishedAccuracy

        return [PublishedAccuracy(init_from)]


class Detection(Task):
    """Boxes of objects, and masks."""

    name: ClassVar[TaskName] = "detection"
    options, model, data = DetectionOptions, DetectionConfig, objects.ObjectsConfig
    embedded, dataset_settings = objects.SCENES, objects.DATASET_SETTINGS

    def mistakes(self, config: Namespace, command: str) -> Iterator[str]:
        """Yield a message for each flag that a detector can't have."""
        if command == "cache-teacher":
            yield "task detection: distillation is for classification; leave it out."
        if config.optimize:
            yield "optimize true: for networks that classify images; leave it out."
        yield from measurements.not_for_detectors(config)
        for name in ("draw", "score"):
            if config[name] is not None and command != "predict":
                yield f"{name} {config[name]}: for predict alone; leave it out."
        if config.score is not None and config.draw is None and command == "predict":
            yield f"score {config.score}: the least one that is drawn; give --draw FOLDER too. All are in the file."

    def make_module(self, config: DetectionConfig) -> "TrainedModule":
        """Make the module."""
        from shvit_pl.modules.detection import DetectionModule

        return DetectionModule(config)

    def make_data(self, config: objects.ObjectsConfig) -> "DataModule":
        """Make the data module."""
        from shvit_pl.data.objects.datamodule import ObjectsDataModule

        return ObjectsDataModule(config)

    def figures(self) -> "L.Callback":
        """Make the figures: inputs, detections, curves, precision over recall, AP of each class."""
        from shvit_pl.callbacks.detection_figures import DetectionFigures

        return DetectionFigures()

    def writer(self, options: DetectionOptions) -> "L.Callback":
        """Make the writer of predictions.json."""
        from shvit_pl.callbacks.detections import DetectionsWriter

        return DetectionsWriter(options.output or "predictions.json", options.strict, options.draw, options.score)


TASKS: dict[str, Task] = {task.name: task for task in (Classification(), Detection())}


def find_task(command: str, flags: Sequence[str], read: bool = True) -> Task:
    """Return the task that flags ask for, by `--task`, a config, or (if `read`) the weights of a run; else the first.

    Flags are those of `options.read_flags`. Raises `UserError` for an unknown one.
    """
    name = source = None
    for word, after in pairwise([*flags, ""]):
        flag, equals, value = word.partition("=")
        value = value if equals else "" if after.startswith("-") else after
        if flag == "--config" and value:
            name = read_config(value).get("task", name)
        elif flag == "--task":
            name = value
        elif (flag == "--ckpt_path" and Path(value).expanduser().exists()) or (
            flag == "--model.init_from" and command != "fit"
        ):
            source = value
    if name is None and source is not None and read:
        name = _task_of(source)
    if name is None:
        return next(iter(TASKS.values()))
    if str(name) not in TASKS:
        raise UserError(f"task {name!r}: no such task{did_you_mean(str(name), TASKS)}; there are {', '.join(TASKS)}.")
    return TASKS[str(name)]


def _task_of(source: str) -> str | None:
    """Return the task of a run's folder or checkpoint, or of a pushed detector; None for anything else.

    What can't be read is refused where it is used.
    """
    from shvit_pl.models.detection.detectors import is_detector
    from shvit_pl.models.weights import read_checkpoint

    path = Path(source).expanduser()
    file = checkpoint_of_run(path) if path.is_dir() else path
    try:
        if file is not None and file.is_file():
            return str(read_checkpoint(str(file))["task"])
        return "detection" if is_detector(source) else None
    except UserError:
        return None
