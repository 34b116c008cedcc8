"""Images per second of training."""

from __future__ import annotations

import time
from typing import Any, TypeVar

import lightning as L

_Callback = TypeVar("_Callback", bound=L.Callback)


class Throughput(L.Callback):
    """Counts the images and the seconds of training steps: loading is in, validation and the very first step are not.

    Attributes:
        images: Images counted so far, over all devices.
        seconds: Seconds that they took.
    """

    def __init__(self) -> None:
        self.images = 0
        self.seconds = 0.0
        self._since: float | None = None
        self._warm = False

    @property
    def images_per_second(self) -> float:
        """Mean over the run so far; 0 before the second step."""
        return self.images / self.seconds if self.seconds else 0.0

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        self._since = time.perf_counter()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count one step."""
        now = time.perf_counter()
        if self._warm and self._since is not None:
            self.images += len(batch["image"]) * trainer.world_size
            self.seconds += now - self._since
        self._since, self._warm = now, True

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop the clock."""
        self._since = None

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock again, for validation in the middle of an epoch."""
        self._since = time.perf_counter()


def find_callback(trainer: L.Trainer, kind: type[_Callback]) -> _Callback | None:
    """The trainer's callback of this class, if there is one."""
    return next((callback for callback in trainer.callbacks if isinstance(callback, kind)), None)  # type: ignore[attr-defined]
