"""Images per second of training, and how much of its time it waits for them."""

from __future__ import annotations

import time
from typing import Any, TypeVar

import lightning as L
import torch

_Callback = TypeVar("_Callback", bound=L.Callback)


class Throughput(L.Callback):
    """Counts the images and the seconds of training steps: loading is in, validation and the very first step are not.

    Attributes:
        images: Images counted so far, over all devices.
        seconds: Seconds that they took.
        waited: Of these, those in which the loop waited for a batch, and a GPU had nothing left to do.
    """

    def __init__(self) -> None:
        self.images = 0
        self.seconds = 0.0
        self.waited = 0.0
        self._since: float | None = None
        self._warm = False
        self._loading = self._wait = 0.0
        self._stepped: torch.cuda.Event | None = None

    @property
    def images_per_second(self) -> float:
        """Mean over the run so far; 0 before the second step."""
        return self.images / self.seconds if self.seconds else 0.0

    @property
    def data_wait(self) -> float | None:
        """Share of the time that was waited for data, from 0 to 1; None before the second step."""
        return self.waited / self.seconds if self.seconds else None

    def state_dict(self) -> dict[str, Any]:
        """State for checkpoints: the figures are of all sessions of a resumed run."""
        return {"images": self.images, "seconds": self.seconds, "waited": self.waited}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self.images, self.seconds, self.waited = (state_dict[key] for key in ("images", "seconds", "waited"))

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        self._since = time.perf_counter()

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Take how long the batch was waited for; a GPU that was busy all the while has lost nothing."""
        loading = getattr(trainer.train_dataloader, "waited", 0.0)
        busy = self._stepped is not None and not self._stepped.query()  # type: ignore[no-untyped-call]  # it does not wait
        self._wait, self._loading = 0.0 if busy else max(0.0, loading - self._loading), loading  # of a new loader

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count one step."""
        now = time.perf_counter()
        if self._warm and self._since is not None:
            self.images += len(batch["image"]) * trainer.world_size
            self.seconds += now - self._since
            self.waited += self._wait
        self._since, self._warm = now, True
        if batch["image"].device.type == "cuda":
            self._stepped = self._stepped or torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._stepped.record()

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop the clock."""
        self._since = None

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock again, for validation in the middle of an epoch."""
        self._since = time.perf_counter()


def find_callback(trainer: L.Trainer, kind: type[_Callback]) -> _Callback | None:
    """The trainer's callback of this class, if there is one."""
    return next((callback for callback in trainer.callbacks if isinstance(callback, kind)), None)  # type: ignore[attr-defined]
