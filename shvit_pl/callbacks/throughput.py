"""The images per second of a training, and its waits for data."""

import time
from collections.abc import Sequence
from typing import Any, TypeVar

import lightning as L
import torch

from shvit_pl.compat import cores_of_process
from shvit_pl.data.base import DataModule
from shvit_pl.modules.batches import named_batch

_Callback = TypeVar("_Callback", bound=L.Callback)
_WARN_ABOVE = 0.2  # share of the time


class Throughput(L.Callback):
    """Images and seconds of training steps: with loading, without validation and the very first step.

    The share of an epoch that was waited for data is logged as `train/data_wait`; a run that waits much ends with
    advice.
    """

    images = 0
    """Images so far, over all devices."""
    seconds = 0.0
    """Seconds that they took."""
    waited = 0.0
    """Seconds of these in which the loop waited for a batch, and a GPU had nothing left to do."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._warm = False
        self._loading = self._wait = 0.0
        self._stepped: torch.cuda.Event | None = None
        self._epoch, self._images_before = -1, 0  # the counts when the epoch began
        self._waited_before = self._seconds_before = 0.0

    @property
    def images_per_second(self) -> float:
        """Mean over the run so far; 0 before the second step."""
        return self.images / self.seconds if self.seconds else 0.0

    @property
    def epoch_rate(self) -> float:
        """Images per second of this epoch so far; 0 before its first step that counts."""
        seconds = self.seconds - self._seconds_before
        return (self.images - self._images_before) / seconds if seconds else 0.0

    @property
    def data_wait(self) -> float | None:
        """Share of the time that was waited for data, from 0 to 1; None before the second step."""
        return self.waited / self.seconds if self.seconds else None

    def state_dict(self) -> dict[str, Any]:
        """Return the state for checkpoints: the figures include all sessions of a resumed run."""
        names = ("images", "seconds", "waited", "_epoch", "_images_before", "_waited_before", "_seconds_before")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        vars(self).update(state_dict)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        self._since = time.perf_counter()
        if trainer.current_epoch != self._epoch:  # else a resumed run goes on within it
            self._epoch, self._images_before = trainer.current_epoch, self.images
            self._waited_before, self._seconds_before = self.waited, self.seconds

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        """Take the time that the batch was waited for; a GPU that was busy all the while has lost nothing."""
        loading = getattr(trainer.train_dataloader, "waited", 0.0)
        # `query` does not wait
        busy = self._stepped is not None and not self._stepped.query()  # type: ignore[no-untyped-call]
        self._wait = 0.0 if busy else max(0.0, loading - self._loading)  # a new loader begins at 0
        self._loading = loading

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count one step."""
        now, images = time.perf_counter(), named_batch(batch)["image"]
        if self._warm and self._since is not None:
            self.images += len(images) * trainer.world_size
            self.seconds += now - self._since
            self.waited += self._wait
        self._since, self._warm = now, True
        if images.device.type == "cuda":
            self._stepped = self._stepped or torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._stepped.record()

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop the clock."""
        self._since = None

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock again, for validation in the middle of an epoch."""
        self._since = time.perf_counter()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the epoch's share."""
        if self.seconds > self._seconds_before:
            share = (self.waited - self._waited_before) / (self.seconds - self._seconds_before)
            pl_module.log("train/data_wait", share, sync_dist=True)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print advice where the run has waited much."""
        share = self.data_wait
        if share is not None and share > _WARN_ABOVE and trainer.is_global_zero:
            data: DataModule = trainer.datamodule  # type: ignore[attr-defined]
            loader: Any = trainer.train_dataloader
            device = trainer.strategy.root_device.type
            print(advice(share, data.lighter_ways(device), loader.num_workers, device, trainer.num_devices))


def find_callback(trainer: L.Trainer, kind: type[_Callback]) -> _Callback | None:
    """Return the trainer's callback of this class; None without one."""
    callbacks: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return next((callback for callback in callbacks if isinstance(callback, kind)), None)


def advice(share: float, lighter: Sequence[str], workers: int, device: str, devices: int = 1) -> str:
    """Return one line: the share of the time that was waited, and what to change in this run's own settings.

    `lighter` are ways to have less work, `workers` the processes that load, per device, and `devices` those of this
    machine that train.
    """
    cores = cores_of_process() // devices or 1
    who = "the training" if device == "cpu" else "the device"
    if device == "cpu":
        where = f"Loading and training share {cores} core{'s' * (cores > 1)}, so more workers would not help much."
    elif workers < cores:
        where = f"Give --data.num_workers {cores} (now {workers}; there are {cores} cores per device)."
    else:
        where = f"All {cores} cores per device are loading: use more cores, or reduce the work."
    others = f" Or: {'; '.join(lighter)}." if lighter else ""
    return f"data wait: {share:.2f} of the time {who} waited for images. {where}{others}"
