"""A cache of a teacher's answers to views of the training images: begun, written, and opened for training."""

import shutil
from collections.abc import Callable, Sequence
from math import log
from pathlib import Path

import datasets
import lightning as L
import numpy as np
import pyarrow as pa
import torch
from datasets import Dataset, Features, List, Value, concatenate_datasets, load_from_disk
from timm.data import Mixup
from torch import Tensor
from torch.utils.data import DataLoader

from shvit_pl.data.datamodule import HFImageDataModule
from shvit_pl.data.loaders import Batch
from shvit_pl.data.mixing import decode_mix
from shvit_pl.data.views import Columns, Views, place_of
from shvit_pl.errors import UserError
from shvit_pl.teachers.cache_manifest import FLAG, Manifest, Shard, index_type, read_manifest

# ---- answers


def pack(logits: Tensor, top_k: int, tau: float) -> Columns:
    """Keep the largest logits of each answer.

    They are kept as their distance from the largest: the softmax is the same, and half precision holds them however
    large they are. The others are kept as one logit, the same for each of them, that leaves them the probability at
    temperature `tau` that they had.

    Args:
        logits: `(B, classes)`.
        top_k: Number to keep.
        tau: Temperature of the softmax.

    Returns:
        `indices` and float16 `logits` `(B, k)`, the largest first, and float32 `tail` `(B,)`; k is `top_k`, but all
        classes where there are no more. Raises `UserError` for logits that are not finite.
    """
    logits = logits.float()
    if not logits.isfinite().all():
        raise UserError(
            "model.distill.teacher: its logits are not finite. Try --model.distill.teacher_precision fp32, or another "
            "teacher."
        )
    distances = logits - logits.amax(1, keepdim=True)  # (B, C), at most 0
    values, indices = distances.sort(stable=True, dim=1, descending=True)
    kept, others = values[:, :top_k], values[:, top_k:]  # (B, k), (B, C - k)
    tail = logits.new_zeros(len(logits))
    if others.shape[1]:
        tail = tau * ((others / tau).logsumexp(1) - log(others.shape[1]))
    return {
        "indices": indices[:, : kept.shape[1]].cpu().numpy().astype(index_type(logits.shape[1])),
        "logits": kept.clamp(min=torch.finfo(torch.float16).min).half().cpu().numpy(),
        "tail": tail.cpu().numpy(),
    }


def dense(answers: dict[str, Tensor], classes: int) -> Tensor:
    """Return float32 logits `(B, classes)` of the answers in a batch (`batch["teacher"]`).

    The kept logits are at their classes (less the largest, see `pack`), and the others share the tail's probability.
    """
    logits, tail = answers["logits"].view(torch.float16), answers["tail"].view(torch.float32)
    return tail[:, None].repeat(1, classes).scatter(1, answers["indices"].long(), logits.float())


# ---- opening


class TeacherCache:
    """Views with the teacher's answers to them, as `data.train_on` takes them (a `Replay`).

    Args:
        folder: Folder of the cache.
        manifest: The cache that is needed.

    Raises:
        UserError: when there is none, or it is of other settings, or not whole.
    """

    manifest: Manifest
    """The manifest in the folder; the same but for the layout of its files and the note of the teacher's check."""
    slots: int
    views: int

    def __init__(self, folder: str | Path, manifest: Manifest) -> None:
        folder = Path(folder)
        held = _same_manifest(folder, manifest)
        shards = [_open(folder, shard, held) for shard in held.shards]
        whole = [rows for rows in shards if rows is not None]
        if len(whole) < len(shards):
            raise UserError(
                f"{FLAG} {str(folder)!r}: it is not whole, {len(whole)} of {len(shards)} files are there. Run shvit-pl "
                "cache-teacher with the same settings to complete it."
            )
        self.manifest, self.slots, self.views = held, held.slots, held.views
        self._rows = concatenate_datasets(whole).with_format("arrow")

    def read(self, slots: Sequence[int]) -> Columns:
        """Return these slots' `row`, `key`, `lam`, `box`, and for `dense` `indices`, `logits` and `tail`.

        Logits are given as the integers of their bits, see `Replay`.
        """
        table = self._rows[list(slots)]
        columns = {}
        for name in table.column_names:
            array = table.column(name).combine_chunks()
            lists = pa.types.is_fixed_size_list(array.type)
            columns[name] = np.array(array.flatten()).reshape(len(array), -1) if lists else np.array(array)
        return columns | {"logits": columns["logits"].view(np.int16), "tail": columns["tail"].view(np.int32)}


def begun(folder: str | Path, manifest: Manifest) -> Manifest | None:
    """Return the manifest of the same cache, whole or in part, in a folder; None if it is empty or doesn't exist.

    Raises `UserError` when the folder holds anything else.
    """
    folder = Path(folder)
    if not folder.exists() or (folder.is_dir() and all(path.name.startswith(".") for path in folder.iterdir())):
        return None
    return _same_manifest(folder, manifest)


def _same_manifest(folder: Path, manifest: Manifest) -> Manifest:
    held = read_manifest(folder)
    if differences := held.differences(manifest):
        raise UserError(
            f"{FLAG} {str(folder)!r}: it holds answers of other settings ({differences}). Set these as they were, or "
            "write another folder with shvit-pl cache-teacher."
        )
    return held


def missing(folder: str | Path, manifest: Manifest) -> list[Shard]:
    """Return the shards that are not there, or damaged."""
    return [shard for shard in manifest.shards if _open(Path(folder), shard, manifest) is None]


def _open(folder: Path, shard: Shard, manifest: Manifest) -> Dataset | None:
    """Open the rows of a shard; None where they are not there, can't be read, or are not those of its slots."""
    if not (folder / shard.name).is_dir():
        return None
    try:
        rows = load_from_disk(str(folder / shard.name))
        ends = [tuple(rows[place]["key"][1:]) for place in (0, -1)]
    except Exception:  # whatever reading a damaged file runs into
        return None
    wanted = [place_of(shard.slots[place], manifest.slots) for place in (0, -1)]
    return rows if len(rows) == len(shard.slots) and ends == wanted else None


# ---- writing


def begin(folder: str | Path, manifest: Manifest) -> Manifest:
    """Prepare the folder for answers; returns the manifest with the layout of its files, and raises as `begun`."""
    held = begun(folder, manifest)
    if held is None:
        manifest.save(Path(folder))
    return held or manifest


class TeacherCacher(L.LightningModule):
    """Writes what is missing of a cache: `trainer.predict(cacher, return_predictions=False)`.

    Several processes share out the shards by their numbers, and do not wait for each other.

    Args:
        answer: The teacher: from mixed, normalized images `(B, 3, S, S)` on the device to logits `(B, classes)`. A
            module is moved to the device.
        data: After `setup("fit")`.
        mixup: The run's, but for two classes and without label smoothing; None mixes nothing.
        folder: Folder of the cache.
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
        self._parts: list[Columns] = []  # answers of the shard that is being filled

    def predict_dataloader(self) -> DataLoader[Batch]:
        """Load the slots of the missing shards, in their order."""
        datasets.disable_progress_bars()  # one for every shard, across Lightning's
        self.data.trainer = self.trainer  # it chooses workers by the device
        shards = {shard.number: shard.slots for shard in missing(self.folder, self.manifest)}
        return self.data.views_dataloader(self.views, shards)

    def on_before_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Count broken images, and go on as in training."""
        self.data.broken["train"].count(batch["broken"])
        return self.data.on_before_batch_transfer(batch, dataloader_idx)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Prepare images as in training."""
        return self.data.on_after_batch_transfer(batch, dataloader_idx)

    def predict_step(self, batch: Batch, batch_idx: int) -> int:
        """Ask the teacher, and write a shard with its last batch; returns the number of answers."""
        logits = self.answer(batch["image"])
        lam, box = decode_mix(batch["mix"].cpu().numpy())
        columns = {"row": batch["row"].cpu().numpy(), "key": batch["draw"].cpu().numpy(), "lam": lam, "box": box}
        columns |= pack(logits, self.manifest.top_k, self.manifest.tau)
        self._parts.append(columns)
        shard = next(shard for shard in self.manifest.shards if int(batch["slot"][-1]) in shard.slots)
        if sum(len(part["row"]) for part in self._parts) == len(shard.slots):  # batches end where shards do
            self._write(shard, {name: np.concatenate([part[name] for part in self._parts]) for name in columns})
            self._parts = []
        return len(logits)

    def _write(self, shard: Shard, columns: Columns) -> None:
        """Write a shard's columns, whole or not at all."""
        top_k = columns["logits"].shape[1]
        features = {
            "row": Value("int32"),
            "key": List(Value("int32"), length=3),
            "lam": Value("float32"),
            "box": List(Value("int16"), length=4),
            "indices": List(Value(index_type(self.manifest.classes)), length=top_k),
            "logits": List(Value("float16"), length=top_k),
            "tail": Value("float32"),
        }
        whole, partial = self.folder / shard.name, self.folder / f"{shard.name}.partial"
        shutil.rmtree(partial, ignore_errors=True)  # of an interrupted writer
        Dataset.from_dict(columns, features=Features(features)).save_to_disk(str(partial))
        shutil.rmtree(whole, ignore_errors=True)  # a damaged one
        partial.rename(whole)
