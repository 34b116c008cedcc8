"""A network that is built once its classes are known, and begins with given weights: what all modules share."""

from abc import abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, fields
from typing import Any, ClassVar, Self

import lightning as L
import torch
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from shvit_pl.data.base import DataModule
from shvit_pl.designs.cost import Cost
from shvit_pl.errors import UserError, error_prefix, first_few
from shvit_pl.models import network_names, weights
from shvit_pl.modules import optim_and_ema as optim
from shvit_pl.modules.batch_norm import batch_norms
from shvit_pl.modules.batches import classes_of
from shvit_pl.modules.config import TrainingConfig
from shvit_pl.runs.folder import EMA

NO_AVERAGE = "model.use_ema true: the checkpoint has no averaged weights (model.ema.decay was 0); leave it out."


class BuiltModule(L.LightningModule):
    """A network `model`, once it is built, with its moving average `ema`.

    The network is built once the classes are known: from `class_names`, or from the data module at the start of a run.

    Args:
        config: All settings, of the kind `settings_type`; a checkpoint keeps them as plain values, so that it loads
            with `weights_only=True`.
        settings: Fields of the config instead, sections also as plain dicts.

    Raises:
        UserError: for an impossible design, before anything else happens.
    """

    task: ClassVar[str]
    settings_type: ClassVar[type[TrainingConfig]]
    least_classes: ClassVar[int] = 1
    headline: ClassVar[str]
    """The metric by which runs are compared."""
    config: Any
    model: Any
    ema: ModelEmaV3 | None
    init_note: str | None
    """Origin of the first weights, once they are loaded."""
    teacher_note: str | None
    """The teacher, once it is open."""
    few_steps: list[str]
    """The notes on too few steps of the checkpoint that was loaded last."""

    memory_format = torch.contiguous_format

    def __init__(self, config: TrainingConfig | None = None, **settings: Any) -> None:
        super().__init__()
        kind, name = self.settings_type, type(self).__name__
        if config is not None and not isinstance(config, kind):
            raise UserError(
                f"{name} {config!r}: allowed are a {kind.__name__}, and its fields by name: "
                f"{', '.join(each.name for each in fields(kind))}."
            )
        if config is not None and settings:
            raise UserError(f"{name}: give a config, or {first_few(list(settings))} alone, not both.")
        self.config = config or kind.from_dict(settings)
        optim.check_optimizer(self.config.optim)
        with error_prefix("model.design."):
            self.design = self.config.design.resolved
        self.class_names = self.config.class_names
        self.model = self.ema = self.init_note = self.teacher_note = None
        self.few_steps = []
        self.save_hyperparameters(asdict(self.config), logger=False)
        if self.class_names is not None:
            self.configure_model()

    # ---- what a task decides

    @abstractmethod
    def build(self, classes: int) -> Any:
        """Make the network for so many classes, and what measures it."""

    @abstractmethod
    def load(self, source: str) -> weights.LoadReport:
        """Load weights into the network; raises `UserError` when they are of another design."""

    @abstractmethod
    def validation_metrics(self) -> list[str]:
        """Return the names of what a validation logs."""

    @abstractmethod
    def reset_metrics(self) -> None:
        """Begin all metrics anew."""

    @abstractmethod
    def counted(self, batch: Any) -> Any:
        """Return the number of images of an evaluated batch that count."""

    @abstractmethod
    def cost(self, data: Any) -> Cost:
        """Return parameters, and MACs for an image of the data."""

    def facts(self, data: Any) -> dict[str, Any]:
        """Return what is known of the network, for `summary.json`."""
        costs = self.cost(data)
        design = {"name": self.config.design.name, **asdict(self.design)}
        return {"task": self.task, "design": design, "params": costs.params, "macs": costs.macs}

    def findings(self) -> dict[str, Any]:
        """Return what the last validation has found beyond its metrics, for `summary.json` and `metrics.json`."""
        return {}

    def result_rows(self, findings: dict[str, Any]) -> dict[str, str]:
        """Return the rows of a run's last table that are about these findings."""
        return {}

    @abstractmethod
    def table(self, facts: dict[str, Any]) -> dict[str, str]:
        """Return the rows of a run's table that are about the network, by what is known of the run."""

    def compiled(self) -> Any:
        """Return the part of the network that `compile` compiles."""
        return self.model

    def structure(self, config: Any) -> dict[str, Any]:
        """Return the settings on which the network's tensors depend, by their flags."""
        return {f"model.design.{name}": value for name, value in asdict(config.design.resolved).items()}

    # ---- classes and network

    def setup(self, stage: str) -> None:
        """Take the classes of the data that this run uses."""
        data = getattr(self.trainer, "datamodule", None)
        if isinstance(data, DataModule):
            self.use_data(data, stage)
        else:
            self.use_own_data(data, stage)

    def use_data(self, data: Any, stage: str) -> None:
        """Check that this model fits to data after its `setup`, and take the classes; raises `UserError` else."""
        if data.class_names is not None:
            asked = stage == "fit" and self.config.class_names is not None  # elsewhere, it may be a checkpoint's
            self._adopt_classes(data.class_names, f"data.path {data.config.path!r}", asked=asked)

    def use_own_data(self, data: Any, stage: str) -> None:
        """Take the classes that a user's own data module names, if there is one; raises `UserError` for others."""
        classes = classes_of(data)
        if classes is None or (stage == "predict" and self.class_names is not None):
            return
        if isinstance(classes, int):
            has_as_many = self.class_names is not None and len(self.class_names) == classes
            classes = list(self.class_names or ()) if has_as_many else [str(index) for index in range(classes)]
        asked = stage == "fit" and self.config.class_names is not None
        self._adopt_classes(classes, f"the data module {type(data).__name__}", asked=asked)

    def expect(self, hparams: dict[str, Any], resumed: bool = True, averaged: bool = False) -> None:
        """Take the classes in a checkpoint's settings; raises `UserError` when it does not fit to this model.

        It is `resumed`, or else only measured; with `averaged`, its averaged weights are wanted.
        """
        new_run = ", or start a new run with --model.init_from" if resumed else ""
        there = self.structure(self.settings_type.from_dict(hparams))
        here = self.structure(self.config)
        differences = [f"{key} is {there[key]} there and {here[key]} here" for key in here if here[key] != there[key]]
        if differences:
            raise UserError(
                f"ckpt_path: the checkpoint is of another network ({'; '.join(differences)}). "
                f"{'Give the same settings' if resumed else 'Leave them out'}{new_run}."
            )
        theirs, ours = hparams.get("ema", {}).get("decay", 0), self.config.ema.decay
        if averaged and not theirs:
            raise UserError(NO_AVERAGE)
        if bool(theirs) != bool(ours):
            holds = f"averaged weights (its decay was {theirs})" if theirs else "no averaged weights"
            raise UserError(
                f"model.ema.decay {ours}: the checkpoint holds {holds}. "
                f"{'Give the same decay' if resumed else 'Leave model.ema out'}{new_run}."
            )
        if not hparams["class_names"]:
            raise UserError("ckpt_path: the checkpoint has no class names. Give one written by shvit-pl fit.")
        self._adopt_classes(hparams["class_names"], "the checkpoint", asked=True)

    def _adopt_classes(self, class_names: list[str], source: str, asked: bool) -> None:
        """Take the classes of a source; those that were `asked` for by a flag must be the same."""
        if len(class_names) < self.least_classes:
            raise UserError(
                f"{source}: {self.task} needs {self.least_classes} classes or more, and there is "
                f"{first_few(class_names) or 'none'}. If the classes' folders are inside it, give that folder."
            )
        if self.class_names is None:
            self.class_names = self.hparams["class_names"] = class_names
        ours, theirs = (f"{len(names)} classes ({first_few(names)})" for names in (self.class_names, class_names))
        if list(class_names) != list(self.class_names):
            unknown = [name for name in class_names if name not in self.class_names]
            why = f"which lacks {first_few(unknown)}" if unknown else "in another order"
            raise UserError(
                f"model.class_names: it names {ours}, and {source} has {theirs}. Leave it out to take those."
                if asked
                else f"{source}: it has {theirs}, the model {ours}, {why}. Give the data that the model was trained "
                "on, or train another model with shvit-pl fit."
            )

    def configure_model(self) -> None:
        """Build the network and its average, once; then apply the device's memory format."""
        if self.model is None:
            if not self.class_names:
                raise UserError(
                    "model.class_names: neither a checkpoint nor the data names the classes. Give the module "
                    "class_names=['cat', 'dog'], or a data module that has class_names, classes or num_classes; to "
                    "predict, load a trained one with load_from_checkpoint."
                )
            self.model = self.build(len(self.class_names))
            self.ema = optim.make_average(self.config.ema, self.model)
            if self.config.compile:
                self.compiled().compile()  # in place, so that the keys of checkpoints stay clean
            self.train(self.training)
        self.apply_memory_format()

    # ---- first weights

    def check_initial_weights(self) -> None:
        """Raise `UserError` when `init_from` names nothing that can be its weights."""
        if self.config.init_from is not None:
            with error_prefix("model.init_from "):
                network_names.find_weights(self.config.init_from)

    def load_initial_weights(self) -> weights.LoadReport | None:
        """Load the weights of `init_from`, once; raises `UserError` when they are of another design."""
        source = self.config.init_from
        if source is None or self.init_note is not None:
            return None
        self.configure_model()
        with error_prefix("model.init_from "):
            try:
                report = self.load(source)
            except weights.NoAverageError as error:
                raise UserError(f"{error} Leave out model.use_ema.") from error
        self.init_note = str(report)
        self.train(self.training)  # which now may freeze BatchNorm
        if self.ema is not None:
            self.ema.set(self.model)
        return report

    def take_weights(self) -> None:
        """Load the weights of `init_from` to measure or predict; raises `UserError` where some remain fresh."""
        report = self.load_initial_weights()
        if report is not None and report.reinitialized:
            raise UserError(
                f"model.init_from {report.source!r}: it has no weights for these classes: fresh would be "
                f"{'; '.join(report.reinitialized)}. Give --data.path the data that it was trained for, or train on "
                "these with shvit-pl fit first."
            )
        source = network_names.find_weights(str(self.config.init_from)) if report is not None else None
        if source is not None and source.kind == "checkpoint":
            with suppress(UserError):  # another program's
                notes = weights.read_checkpoint(source.place)["few_steps"]
                self.few_steps = [note for note in notes if self.config.use_ema or EMA not in note]

    @property
    def evaluated(self) -> nn.Module:
        """The network, or with `use_ema` its average; raises `UserError` where there is none."""
        if not self.config.use_ema:
            return self.model
        if self.ema is None:
            raise UserError(NO_AVERAGE)
        return self.ema

    # ---- modes

    @property
    def freezes_bn(self) -> bool:
        """Whether BatchNorm keeps its running statistics: as asked, or with `auto` those of loaded weights."""
        return self.init_note is not None if self.config.freeze_bn == "auto" else bool(self.config.freeze_bn)

    def train(self, mode: bool = True) -> Self:
        """Set the mode; the average stays in evaluation mode, and so does BatchNorm under `freeze_bn`."""
        super().train(mode)
        if self.ema is not None:
            self.ema.eval()
        if self.freezes_bn:
            for norm in batch_norms(self):
                norm.eval()
        return self

    def apply_memory_format(self) -> None:
        """Put network and average into the memory format of the settings, or the device's fastest."""
        wanted, device = self.config.channels_last, ""
        if wanted == "auto":  # convolutions are faster channels-last on a CPU, and on a GPU's tensor cores
            with suppress(RuntimeError):  # a module without a trainer raises it
                device = self.trainer.strategy.root_device.type
            wanted = device == "cpu" or (device == "cuda" and "16" in str(self.trainer.precision))
        self.memory_format = torch.channels_last if wanted else torch.contiguous_format
        for network in (self.model, self.ema):
            if network is not None:
                network.to(memory_format=self.memory_format)

    def _prepared(self, images: Tensor) -> Tensor:
        return images.to(self.dtype).contiguous(memory_format=self.memory_format)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load tensors; raises `UserError` with the first problem for those of another model."""
        try:
            return super().load_state_dict(state_dict, strict=strict, assign=assign)
        except RuntimeError as error:
            problem = (str(error).splitlines()[1:] or [str(error)])[0].strip()[:150]
            raise UserError(
                f"ckpt_path: the checkpoint's tensors don't fit this model ({problem}). Give a checkpoint that "
                "shvit-pl fit has written for it."
            ) from error
