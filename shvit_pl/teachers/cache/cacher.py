"""Asking a teacher for its answers to all views, under Lightning's `predict`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import datasets
import lightning as L
import numpy as np
from timm.data import Mixup
from torch import Tensor
from torch.utils.data import DataLoader

from shvit_pl.data.datamodule import HFImageDataModule
from shvit_pl.data.loaders import Batch
from shvit_pl.data.mixing import decode_mix
from shvit_pl.data.views import Columns, Views
from shvit_pl.teachers.cache.answers import pack
from shvit_pl.teachers.cache.folder import missing, write
from shvit_pl.teachers.cache.manifest import Manifest, Shard


class TeacherCacher(L.LightningModule):
    """Writes what is missing of a cache: `trainer.predict(cacher, return_predictions=False)`.

    Several processes share out the shards by their numbers, and do not wait for each other.

    Args:
        answer: The teacher: from mixed, normalised images `(B, 3, S, S)` on the device to logits `(B, classes)`. A
            module is moved to the device.
        data: After `setup("fit")`.
        mixup: The run's, but for two classes and without label smoothing; None mixes nothing.
        folder: Of the cache.
        manifest: As `begin` returned it.
    """

    def __init__(
        self,
        answer: Callable[[Tensor], Tensor],
        data: HFImageDataModule,
        mixup: Mixup | None,
        folder: str | Path,
        manifest: Manifest,
    ) -> None:
        super().__init__()
        self.allow_zero_length_dataloader_with_multiple_devices = True  # more processes than shards are fine
        self.answer = answer
        self.data = data
        self.folder, self.manifest = Path(folder), manifest
        rows, config = data.chosen.by_stage["train"], data.config
        self.views = Views(len(rows), config.repeats, config.side, mixup, manifest.views)
        self._by_first_slot: dict[int, Shard] = {}
        self._shard: Shard | None = None
        self._parts: list[Columns] = []

    def predict_dataloader(self) -> DataLoader[Batch]:
        """The slots of the shards that are missing, in their order."""
        datasets.disable_progress_bars()  # one for every shard, across Lightning's
        self.data.trainer = self.trainer  # it chooses workers by the device
        shards = missing(self.folder, self.manifest)
        self._by_first_slot = {shard.slots.start: shard for shard in shards}
        return self.data.views_dataloader(self.views, {shard.number: shard.slots for shard in shards})

    def on_before_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """As in training."""
        self.data.broken["train"].count(batch["broken"])
        return self.data.on_before_batch_transfer(batch, dataloader_idx)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """As in training."""
        return self.data.on_after_batch_transfer(batch, dataloader_idx)

    def predict_step(self, batch: Batch, batch_idx: int) -> int:
        """Ask the teacher, and write a shard with its last batch; returns the number of answers."""
        logits = self.answer(batch["image"])
        drawn = {"row": batch["row"].cpu().numpy(), "key": batch["draw"].cpu().numpy()}
        lam, box = decode_mix(batch["mix"].cpu().numpy())
        answers = pack(logits, self.manifest.top_k, self.manifest.tau)
        self._keep(int(batch["slot"][0]), {**drawn, "lam": lam, "box": box, **answers})
        return len(logits)

    def _keep(self, first: int, columns: Columns) -> None:
        """Collect the answers to the slots from `first` on; the loader's batches end where shards end."""
        if first in self._by_first_slot:
            self._shard, self._parts = self._by_first_slot[first], []
        self._parts.append(columns)
        assert self._shard is not None
        if sum(len(part["row"]) for part in self._parts) == len(self._shard.slots):
            whole = {name: np.concatenate([part[name] for part in self._parts]) for name in columns}
            write(self.folder, self._shard, whole, self.manifest.classes)
