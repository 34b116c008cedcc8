"""How much of the training's time goes into waiting for images, and what would help."""

from __future__ import annotations

from typing import Any

import lightning as L

from shvit_pl.callbacks.throughput import Throughput, find_callback
from shvit_pl.cores import cores_of_process
from shvit_pl.data.config import EMBEDDED, DataConfig

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
