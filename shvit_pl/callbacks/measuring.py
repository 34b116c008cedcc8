"""The images per second of a training, its waits for data, and the most memory that it held."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any, TypeVar

import lightning as L
import torch

from shvit_pl.cores import cores_of_process
from shvit_pl.data.config import EMBEDDED, DataConfig

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


MUCH = 0.2  # of the time; above it, the run says what to change


class DataWait(L.Callback):
    """Logs the share of every epoch as `train/data_wait`; a run that waits much ends with what to change."""

    def __init__(self) -> None:
        self._epoch = -1
        self._before = (0.0, 0.0)

    def state_dict(self) -> dict[str, Any]:
        """State for checkpoints: the epoch that a resumed run goes on in, and where it began."""
        return {"epoch": self._epoch, "before": list(self._before)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on in that epoch."""
        self._epoch, self._before = state_dict["epoch"], tuple(state_dict["before"])

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Remember where the epoch begins."""
        throughput = find_callback(trainer, Throughput)
        if throughput is not None and trainer.current_epoch != self._epoch:
            self._epoch, self._before = trainer.current_epoch, (throughput.waited, throughput.seconds)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the epoch's share."""
        throughput = find_callback(trainer, Throughput)
        if throughput is None or throughput.seconds <= self._before[1]:
            return
        share = (throughput.waited - self._before[0]) / (throughput.seconds - self._before[1])
        pl_module.log("train/data_wait", share, sync_dist=True)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Say what would help, where it is much."""
        throughput = find_callback(trainer, Throughput)
        share = throughput.data_wait if throughput is not None else None
        if share is not None and share > MUCH and trainer.is_global_zero:
            config: DataConfig = trainer.datamodule.config  # type: ignore[attr-defined]
            loader: Any = trainer.train_dataloader
            print(advice(share, config, loader.num_workers, trainer.strategy.root_device.type, trainer.num_devices))


def advice(share: float, config: DataConfig, workers: int, device: str, devices: int = 1) -> str:
    """One line: what was waited, and what to change in this run's own settings.

    Args:
        share: Of the training's time, from 0 to 1.
        config: The data module's settings.
        workers: Processes that load, per device.
        device: cpu, cuda, ...
        devices: How many of them this machine trains on.
    """
    cores = cores_of_process() // devices or 1
    ways = _lighter(config, device)
    who = "the training" if device == "cpu" else "the device"
    if device == "cpu":
        where = f"Loading and training share {cores} core{'s' * (cores > 1)}, so more workers would not help much."
    elif workers < cores:
        where = f"Give --data.num_workers {cores} (now {workers}; there are {cores} cores per device)."
    else:
        where = f"All {cores} cores per device load already: give more cores, or less to do."
    others = f" Else: {'; '.join(ways)}." if ways else ""
    return f"data wait: {share:.0%} of the time {who} waited for images. {where}{others}"


def _lighter(config: DataConfig, device: str) -> list[str]:
    """What leaves the workers less to do."""
    ways = []
    if device != "cpu" and config.fits_device and config.augment_on == "workers":
        ways.append("--data.augment_on device")
    if config.auto_augment is not None:
        ways.append("--data.auto_augment null (another training)")
    if config.path != EMBEDDED:
        ways.append(f"store images no larger than about {2 * config.side} pixels a side")
    return ways


_STATUS = Path("/proc/self/status")


def reset_peak_memory(device: torch.device) -> None:
    """Forget what a GPU held before; the peak of a process can't be reset."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory(device: torch.device) -> tuple[float | None, str]:
    """Peak memory in MB (10**6 bytes), `None` where the system does not tell, and what it is the peak of."""
    if device.type == "cuda":
        return _megabytes(torch.cuda.max_memory_allocated(device)), "allocated on the GPU"
    resident = _peak_resident()
    return None if resident is None else _megabytes(resident), "resident in the process"


def _megabytes(number: int) -> float:
    return round(number / 1e6, 1)


def _peak_resident() -> int | None:
    """The process's peak resident set in bytes."""
    if _STATUS.is_file():  # on Linux, getrusage would begin with the peak of the process that started this one
        peaks = [line.split()[1] for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:")]
        return int(peaks[0]) * 1024 if peaks else None
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
