"""What the modules of all tasks share: classes, first weights, optimizer, schedule, clipping, average, mean loss."""

from abc import abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, fields, replace
from math import isfinite
from typing import Any, ClassVar, Self

import lightning as L
import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from shvit_pl.compat import unscales_in_step
from shvit_pl.data.base import DataModule
from shvit_pl.designs.cost import Cost
from shvit_pl.designs.paper_results import paper_weight_decay
from shvit_pl.errors import UserError, error_prefix, first_few, one_line
from shvit_pl.models import network_names, weights
from shvit_pl.modules import optim_and_ema as optim
from shvit_pl.modules.batch_norm import YoungStatistics, batch_norms
from shvit_pl.modules.batches import classes_of, images_of_batch
from shvit_pl.modules.config import TrainingConfig
from shvit_pl.modules.step_counts import StepCounts
from shvit_pl.runs.folder import EMA

NO_AVERAGE = "model.use_ema true: the checkpoint has no averaged weights (model.ema.decay was 0); leave it out."
_GROUP_SETTINGS = ("initial_lr", "lr_scale", "weight_decay", "momentum", "betas", "eps", "fused", "foreach")
_LARGEST_SHARE = 0.1  # of the first weights in an average that is worth a look


class TrainedModule(L.LightningModule):
    """A network `model`, once it is built, with its moving average `ema`, and how they are trained.

    The network is built once the classes are known: from `class_names`, or from the data module at the start of a run.
    A `feature_projection` learns with it, but has no average.

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
    feature_projection: nn.Module | None
    init_note: str | None
    """Origin of the first weights, once they are loaded."""
    teacher_note: str | None
    """The teacher, once it is open."""
    schedule: optim.Schedule | None = None
    counts: StepCounts
    """Batches of each step, once the optimizer is made."""
    total_steps: int
    """Steps of the run."""
    epochs: int | None
    """Epochs of the run, with those that callbacks add."""
    added_epochs = 0
    """Epochs of the run that train nothing: StochasticWeightAveraging measures BatchNorm's statistics in one."""

    few_steps: list[str]
    """The notes on too few steps of the checkpoint that was loaded last."""

    memory_format = torch.contiguous_format
    _statistics: YoungStatistics | None = None
    _summed_loss: Tensor | float = 0.0  # over the images of the epoch so far
    _images = 0
    _loss_epoch = -1  # the epoch that these are of

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
        self.model = self.ema = self.feature_projection = self.init_note = self.teacher_note = None
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
        """Return what the last validation has found beyond its metrics, for `summary.json`."""
        return {}

    @abstractmethod
    def table(self, facts: dict[str, Any]) -> dict[str, str]:
        """Return the rows of a run's table that are about the network, by what is known of the run."""

    def compiled(self) -> Any:
        """Return the part of the network that `compile` compiles."""
        return self.model

    def structure(self, config: Any) -> dict[str, Any]:
        """Return the flat settings on which the network's tensors depend."""
        return asdict(config.design.resolved)

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
                f"ckpt_path: the checkpoint is of another model.design ({'; '.join(differences)}). "
                f"{'Give the same design' if resumed else 'Leave model.design out'}{new_run}."
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
                f"{source}: classification needs two classes or more, and there is {first_few(class_names) or 'none'}. "
                "If the classes' folders are inside it, give that folder."
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
        if self.ema is not None:
            self.ema.set(self.model)
        return report

    def take_weights(self) -> None:
        """Load the weights of `init_from` to measure or predict; raises `UserError` without their classifier."""
        report = self.load_initial_weights()
        if report is not None and report.reinitialized:
            raise UserError(
                f"model.init_from {report.source!r}: its classifier is not for these classes "
                f"({'; '.join(report.reinitialized)}). Give --data.path the data that it was trained for, or train "
                "another classifier with shvit-pl fit."
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

    def on_fit_start(self) -> None:
        """Begin with the weights of `init_from`, and count the epochs that callbacks have added as they began."""
        if self.epochs is not None and self.trainer.max_epochs is not None:
            self.added_epochs = self.trainer.max_epochs - self.epochs
        self.epochs = self.trainer.max_epochs
        if not self.trainer.ckpt_path:
            self._forget_loss()
            self.load_initial_weights()

    def on_train_start(self) -> None:
        """Apply this run's optimizer settings: a checkpoint brings back those that it was saved with."""
        for group, settings in zip(self.trainer.optimizers[0].param_groups, self._group_settings, strict=True):
            group.update(settings)
        optim.place_steps(self.trainer.optimizers[0])
        for config in self.trainer.lr_scheduler_configs:
            scheduler: Any = config.scheduler  # its state holds the peaks of the run that was saved
            scheduler.base_lrs = [settings["initial_lr"] for settings in self._group_settings]
            for group, factor in zip(scheduler.optimizer.param_groups, scheduler.lr_lambdas, strict=True):
                group["lr"] = group["initial_lr"] * factor(scheduler.last_epoch)
        self._statistics = YoungStatistics(self.model)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Remember BatchNorm's statistics before the forward pass, as long as they are young."""
        if self._statistics is not None:
            self._statistics.before_batch()

    def on_after_backward(self) -> None:
        """Correct BatchNorm's statistics, which the backward pass wants as they were."""
        if self._statistics is not None:
            self._statistics.after_batch()

    def on_validation_epoch_start(self) -> None:
        """Give callbacks the epoch's mean training loss so far: `train/loss` is a single batch's."""
        if self.trainer.state.fn == "fit" and not self.trainer.sanity_checking:
            self._log_mean_loss(logger=False)  # theirs is the whole epoch's

    def on_validation_start(self) -> None:
        """Begin all metrics anew, with tensors that a later fit can update: Lightning's are of inference mode.

        Raises `UserError` for several loaders, as there is one metric of each name.
        """
        loaders = self.trainer.test_dataloaders if self.trainer.testing else self.trainer.val_dataloaders
        if isinstance(loaders, list | tuple | dict) and len(loaders) > 1:
            raise UserError(
                f"dataloaders: validate and test measure one loader, and there are {len(loaders)}. Give one of a "
                "torch.utils.data.ConcatDataset, or measure them one after the other."
            )
        with torch.inference_mode(False):
            self.reset_metrics()

    on_test_start = on_validation_start

    def on_train_epoch_end(self) -> None:
        """Log the epoch's mean training loss."""
        self._log_mean_loss()

    def _log_mean_loss(self, logger: bool | None = None) -> None:
        if self._images and self._loss_epoch == self.current_epoch:
            self.log("train/loss_epoch", self._summed_loss / self._images, logger=logger, sync_dist=True)

    def _add_loss(self, loss: Tensor, images: int) -> None:
        if self._loss_epoch != self.current_epoch:
            self._forget_loss()
        self._summed_loss = self._summed_loss + loss.detach() * images
        self._images += images

    def _forget_loss(self) -> None:
        self._summed_loss, self._images, self._loss_epoch = 0.0, 0, self.current_epoch

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the training loss of the epoch so far, the first weights' origin, and whether the steps are too few."""
        checkpoint["task"], checkpoint["init_note"] = self.task, self.init_note
        checkpoint["summed_loss"] = float(self._summed_loss), self._images, self._loss_epoch
        checkpoint["few_steps"] = self.few_steps if self._statistics is None else self.notes_on_few_steps()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with the training loss of the epoch, and take the first weights' origin and the notes."""
        self.init_note = checkpoint.get("init_note")
        self.few_steps = checkpoint.get("few_steps", [])
        self._summed_loss, self._images, self._loss_epoch = checkpoint.get("summed_loss", (0.0, 0, -1))

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip adaptively under `agc`, and as Lightning does."""
        if self.config.optim.agc > 0:
            if self._scaler is not None and unscales_in_step(optimizer):
                self._scaler.unscale_(optimizer)
            optim.clip_adaptively(self.model.parameters(), self.config.optim.agc)
        self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    @property
    def _scaler(self) -> Any:
        return getattr(self.trainer.precision_plugin, "scaler", None)

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: torch.optim.Optimizer | L.pytorch.core.optimizer.LightningOptimizer,
        optimizer_closure: Any = None,
    ) -> None:
        """Take one step, and update the average before any checkpoint of that step."""
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        # at the end of an epoch that trains nothing, Lightning counts a step that moves no weights
        measures = self.added_epochs > 0 and epoch >= (self.epochs or 0) - self.added_epochs
        if self.ema is not None and not measures:
            with self.trainer.profiler.profile("ema"):  # type: ignore[attr-defined]
                self.ema.update(self.model, step=self.trainer.global_step + 1)

    def configure_optimizers(self) -> L.pytorch.utilities.types.OptimizerLRScheduler:
        """Make the optimizer of the network, and its schedule."""
        config = self.config.optim
        try:
            self.trainer.fit_loop.setup_data()  # under max_steps, Lightning would count the batches later
            endless = not isfinite(self.trainer.estimated_stepping_batches)
        except (MisconfigurationException, ValueError) as error:  # limits and intervals that don't fit the data
            raise UserError(f"trainer: {one_line(error)}") from error
        if endless:
            raise UserError(
                "trainer.max_epochs -1: the learning rate schedule needs a length; give max_epochs or max_steps."
            )
        if not isfinite(self.trainer.num_training_batches):
            raise UserError(
                "trainer.limit_train_batches: the training loader has no length; give the batches of an epoch."
            )
        self.counts, self.epochs = StepCounts.of(self.trainer), self.trainer.max_epochs
        steps = self.total_steps = self.counts.of_run(self.trainer)
        epochs, shares = self.counts.batches_of(steps) / self.counts.batches, self.counts.shares(steps, config.interval)
        self.schedule = replace(optim.make_schedule(config, self.global_batch, steps, epochs), shares=shares)
        fused = self._scaler is None or not self.trainer.gradient_clip_val  # Lightning clips no fused one in 16 bits
        optimizer, scheduler = optim.make_optimizer(
            self.model, config, self.schedule, self.weight_decay, self.feature_projection, fused=fused
        )
        self._group_settings = [
            {key: group[key] for key in _GROUP_SETTINGS if key in group} for group in optimizer.param_groups
        ]
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": config.interval}}

    def notes_on_few_steps(self) -> list[str]:
        """Return a line for each evaluation that stands on too few steps, with the next step."""
        notes, steps = [], self.trainer.global_step
        batches = self._statistics.few() if self._statistics is not None else None
        if batches is not None:
            notes.append(
                f"BatchNorm's statistics are of {batches} batches, which is too few to judge the network by; train "
                "longer (--trainer.max_epochs), or in smaller batches (--data.batch_size)"
            )
        kept = 1.0  # the share of the first weights in the average
        for step in range(1, steps + 1):
            kept *= self.ema.get_decay(step + 1) if self.ema is not None else 0.0
            if kept < _LARGEST_SHARE:
                return notes
        if self.ema is not None and steps > 0:
            notes.append(
                f"the averaged weights are still {kept:.0%} those of the start (model.ema.decay "
                f"{self.config.ema.decay}, {steps} steps), so {self.headline}_ema says little; train longer, or give "
                f"--model.ema.decay {max(0.5, 1 - 5 / steps):.3g}"
            )
        return notes

    @property
    def weight_decay(self) -> float:
        """Weight decay in force."""
        value = self.config.optim.weight_decay
        return paper_weight_decay(self.config.design.name) if value == "auto" else float(value)

    @property
    def global_batches(self) -> tuple[int, int]:
        """Least and most images of a step, over all devices and accumulated batches."""
        loader: Any = self.trainer.train_dataloader
        batch = images_of_batch(loader) * self.trainer.world_size
        least, most = self.counts.least(self.total_steps), max(self.counts.per_steps(self.total_steps))
        return int(batch * least), int(batch * most)

    @property
    def global_batch(self) -> int:
        """Images per optimizer step, the most where it changes: the rate is scaled by them."""
        return self.global_batches[1]

    def _lr(self) -> Tensor:
        """Return the learning rate as a tensor on the CPU: logging a number would wait for a copy to the device."""
        return torch.tensor(float(self.trainer.optimizers[0].param_groups[0]["lr"]))
