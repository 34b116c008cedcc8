"""How the modules of all tasks are trained: optimizer, schedule, clipping, moving average, mean loss."""

from dataclasses import replace
from math import isfinite
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn

from shvit_pl.compat import unscales_in_step
from shvit_pl.designs.paper_results import paper_weight_decay
from shvit_pl.errors import UserError, one_line
from shvit_pl.modules import optim_and_ema as optim
from shvit_pl.modules.batch_norm import YoungStatistics
from shvit_pl.modules.batches import images_of_batch
from shvit_pl.modules.built import BuiltModule
from shvit_pl.modules.config import TrainingConfig
from shvit_pl.modules.step_counts import StepCounts

_GROUP_SETTINGS = ("initial_lr", "lr_scale", "weight_decay", "momentum", "betas", "eps", "fused", "foreach")
_LARGEST_SHARE = 0.1  # of the first weights in an average that is worth a look


class TrainedModule(BuiltModule):
    """A network and its moving average, and how they are trained.

    A `feature_projection` learns with the network, but has no average.
    """

    feature_projection: nn.Module | None
    schedule: optim.Schedule | None = None
    counts: StepCounts
    """Batches of each step, once the optimizer is made."""
    total_steps: int
    """Steps of the run."""
    epochs: int | None
    """Epochs of the run, with those that callbacks add."""
    added_epochs = 0
    """Epochs of the run that train nothing: StochasticWeightAveraging measures BatchNorm's statistics in one."""

    _statistics: YoungStatistics | None = None
    _summed_loss: Tensor | float = 0.0  # over the images of the epoch so far
    _images = 0
    _loss_epoch = -1  # the epoch that these are of

    def __init__(self, config: TrainingConfig | None = None, **settings: Any) -> None:
        super().__init__(config, **settings)
        self.feature_projection = None

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
            _set_rates(scheduler)
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
        self.train(self.training)
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

    def shorten(self, steps: int) -> None:
        """End the run after so many steps, and its schedule there."""
        assert self.schedule is not None
        epochs = self.counts.batches_of(steps) / self.counts.batches
        shorter = optim.make_schedule(self.config.optim, self.global_batch, steps, epochs)
        schedule = self.schedule = replace(shorter, peak=self.schedule.peak, shares=self.schedule.shares)
        self.trainer.fit_loop.epoch_loop.max_steps = self.total_steps = steps
        for config in self.trainer.lr_scheduler_configs:
            scheduler: Any = config.scheduler
            scheduler.lr_lambdas = [lambda count: schedule(count)] * len(scheduler.lr_lambdas)
            _set_rates(scheduler)

    def notes_on_few_steps(self) -> list[str]:
        """Return a line for each evaluation that stands on too few steps, with the next step."""
        notes, steps = [], self.trainer.global_step
        batches = self._statistics.few() if self._statistics is not None else None
        if batches is not None:
            notes.append(
                f"BatchNorm's statistics are of {batches} batch{'es' * (batches != 1)}, which is too few to judge the "
                "network by; train longer (--trainer.max_epochs), or in smaller batches (--data.batch_size)"
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


def _set_rates(scheduler: Any) -> None:
    """Give the optimizer the learning rates of the scheduler's step."""
    for group, factor in zip(scheduler.optimizer.param_groups, scheduler.lr_lambdas, strict=True):
        group["lr"] = group["initial_lr"] * factor(scheduler.last_epoch)
