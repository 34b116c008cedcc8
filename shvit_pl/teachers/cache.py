"""A cache of a teacher's logits for views of the training images: its manifest, writing and opening."""

import json
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from importlib.metadata import version
from math import log
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from datasets import Dataset, Features, List, Value, concatenate_datasets, disable_progress_bars, load_from_disk
from timm.data import Mixup
from torch import Tensor

from shvit_pl.data import datamodule, splits, transforms
from shvit_pl.data.config import ROW_SETTINGS
from shvit_pl.data.views import Columns, Views, check_stored, place_of, slots_of_view
from shvit_pl.errors import UserError
from shvit_pl.files import remove, replacing, write_whole
from shvit_pl.teachers.config import DistillConfig

FLAG = "model.distill.cache"
NAME = "manifest.json"

# data settings that change the pixels, and libraries that may
_PREPARATION = ("image_size", "crop_pct", "exif_rotation", "intensity_range")
_AUGMENTATION = ("augment", "auto_augment", "color_jitter", "erasing", "repeats")
_LIBRARIES = ("shvit-pl", "torch", "torchvision", "timm", "pillow", "numpy")
_HASHED = 256e6  # bytes of images; hashing all of ImageNet at the start of every run would take as long as an epoch

_SLOT = 4 + 3 * 4 + 4 + 4 * 2 + 4  # bytes of row, key, lambda, rectangle and tail on the disk


class Shard(NamedTuple):
    """A folder of cached logits: its position among all, its name, and its slots, counted through all views."""

    number: int
    name: str
    slots: range


@dataclass(frozen=True)
class Manifest:
    """The description of a cache, written before its first shard."""

    settings: dict[str, Any]
    """Settings that the predictions depend on, by readable names; another value makes a cache stale."""
    classes: int
    slots: int
    """Slots of a view."""
    views: int
    top_k: int
    """Logits kept per image."""
    tau: float
    """Temperature at which the other logits keep their probability."""
    origin: dict[str, Any] = field(default_factory=dict)
    """Origin of the images; only explains why rows differ."""
    shard_slots: int = 50_000
    """Slots of a shard."""
    check: str = ""
    """The teacher's measured accuracy, in one line."""
    precision: str = ""
    """Precision that the teacher computes in."""

    @property
    def shards(self) -> list[Shard]:
        """All shards; none of them goes beyond its view."""
        starts = [(view, start) for view in range(self.views) for start in range(0, self.slots, self.shard_slots)]
        return [
            Shard(
                number,
                f"view-{view:03}-slot-{start:08}",
                range(view * self.slots + start, view * self.slots + min(start + self.shard_slots, self.slots)),
            )
            for number, (view, start) in enumerate(starts)
        ]

    def estimate(self) -> int:
        """Return the bytes of the whole cache's columns; its files take a few percent more."""
        logit = 2 + np.dtype(index_type(self.classes)).itemsize  # float16, and its class
        return self.views * self.slots * (_SLOT + self.top_k * logit)

    def differences(self, here: "Manifest") -> str:
        """Return how another manifest's settings differ, in words; empty where they don't."""
        settings, origin = json.loads(json.dumps([here.settings, here.origin]))  # read as this one was
        different = _changed(self.settings, settings)
        if "data.rows" in different:
            different |= _changed(self.origin, origin)
        return ", ".join(different.values())


def index_type(classes: int) -> str:
    """Return the integer type that numbers so many classes."""
    return "int16" if classes <= np.iinfo(np.int16).max + 1 else "int32"


def _changed(there: dict[str, Any], here: dict[str, Any]) -> dict[str, str]:
    texts = {}
    for name in {**there, **here}:
        before, now = there.get(name), here.get(name)
        if before != now:
            long = name == "data.rows" or len(f"{before}{now}") > 80
            texts[name] = f"another {name}" if long else f"{name} {before} in the cache, {now} now"
    return texts


def plan(
    config: DistillConfig, teacher: dict[str, Any], mix: dict[str, Any], data: datamodule.HFImageDataModule
) -> Manifest:
    """Return the manifest of the cache that these settings need; raises `UserError` for what none can do.

    `teacher` is its identity as JSON (weights, input size, class map, ...), `mix` the settings of Mixup and CutMix, and
    `data` has been set up to fit.
    """
    check_stored(data.config)
    rows, classes = len(data.chosen.by_stage["train"]), len(data.class_names or ())
    top_k, tau = min(config.top_k, classes), 1.0 if config.objective == "hard" else config.tau
    settings = {
        **{f"teacher.{name}": value for name, value in teacher.items()},
        "model.distill.views": config.views,
        "model.distill.top_k": top_k,
        "model.distill.tau": tau,
        **{f"data.{name}": data.hparams[name] for name in (*_PREPARATION, *_AUGMENTATION)},
        **{f"model.mix.{name}": value for name, value in mix.items()},
        **{name: version(name).partition("+")[0] for name in _LIBRARIES},  # without the device it was built for
        "python": ".".join(platform.python_version_tuple()[:2]),
        "python's hash": hash((0, 1, 2)),  # seeds are hashes of keys
        "data.revision": data.config.revision,
        "data.classes": data.class_names,
        "data.rows": rows_hash(data.chosen),
    }
    origin = {**{f"data.{name}": data.hparams[name] for name in ROW_SETTINGS}, "training images": rows}
    slots = slots_of_view(rows, data.config.repeats)
    return Manifest(settings, classes, slots, config.views, top_k, tau, origin)


def rows_hash(chosen: splits.ChosenRows) -> str:
    """Return a hash of the training rows that is the same in every process, and wherever the data is kept.

    It covers all labels in their order, the size of every stored image, and the images' bytes: all of them up to
    256 MB, beyond that as many, evenly spaced.
    """
    rows, column = chosen.by_stage["train"], chosen.image_column
    assert chosen.label_column is not None, "training rows have labels"
    images = rows.data.column(column)  # also those that no row selects
    sizes = pc.fill_null(pc.binary_length(pc.struct_field(images, "bytes")), -1).to_numpy().astype(np.int64)
    if (sizes < 0).any():  # only the paths of files are stored
        paths = [path and Path(path) for path in pc.struct_field(images, "path").to_pylist()]
        files = [path.stat().st_size if path and path.is_file() else -1 for path in paths]
        sizes = np.where(sizes < 0, files, sizes)
    digest = sha256(splits.class_indices(rows, chosen.label_column).tobytes() + sizes.tobytes())
    hashed = min(len(rows), int(_HASHED / max(1.0, sizes.mean())))
    for index in np.linspace(0, len(rows) - 1, hashed).astype(int).tolist():
        image = rows[index][column] or {}
        path = Path(image.get("path") or "")
        digest.update(image.get("bytes") or (path.read_bytes() if path.is_file() else b""))
    return digest.hexdigest()


# ---- logits


def compress_logits(logits: Tensor, top_k: int, tau: float) -> Columns:
    """Keep the `top_k` largest logits of each image, of `(B, classes)`.

    They are kept as their distance from the largest: the softmax is the same, and half precision holds them however
    large they are. The others are kept as one logit, the same for each of them, that leaves them the probability at
    temperature `tau` that they had.

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


def expand_logits(compressed: dict[str, Tensor], classes: int) -> Tensor:
    """Return float32 logits `(B, classes)` of a batch's cached ones (`batch["teacher"]`).

    The kept logits are at their classes (less the largest, see `compress_logits`), and the others share the tail's
    probability.
    """
    logits, tail = compressed["logits"].view(torch.float16), compressed["tail"].view(torch.float32)
    return tail[:, None].repeat(1, classes).scatter(1, compressed["indices"].long(), logits.float())


# ---- opening


class TeacherCache:
    """Views with the teacher's logits for them, as `data.train_on` takes them (a `Replay`).

    Raises `UserError` when the folder has no cache of this manifest, or it is incomplete.
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
                f"{FLAG} {str(folder)!r}: it is incomplete, {len(whole)} of {len(shards)} files are there. Run "
                "shvit-pl cache-teacher with the same settings to complete it."
            )
        self.manifest, self.slots, self.views = held, held.slots, held.views
        self._rows = concatenate_datasets(whole).with_format("arrow")

    def read(self, slots: Sequence[int]) -> Columns:
        """Return these slots' `row`, `key`, `lam`, `box`, and for `expand_logits` `indices`, `logits` and `tail`.

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
    """Read the manifest in a folder; raises `UserError` where there is none, or one of other settings."""
    if not folder.is_dir():
        raise UserError(f"{FLAG} {str(folder)!r}: no such folder. Write it with shvit-pl cache-teacher.")
    try:
        held = Manifest(**json.loads((folder / NAME).read_text()))
    except FileNotFoundError as error:
        raise UserError(
            f"{FLAG} {str(folder)!r}: not a cache (it has no {NAME}). Give one that shvit-pl cache-teacher has written."
        ) from error
    except (ValueError, TypeError) as error:
        raise UserError(
            f"{FLAG} {str(folder)!r}: its {NAME} can't be read. Write the cache again with shvit-pl cache-teacher."
        ) from error
    if differences := held.differences(manifest):
        raise UserError(
            f"{FLAG} {str(folder)!r}: it was written with other settings ({differences}). Restore these, or write "
            "another cache with shvit-pl cache-teacher."
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
    """Prepare the folder for shards; returns the manifest with the layout of its files, and raises as `begun`."""
    held = begun(folder, manifest)
    if held is None:
        write_whole(Path(folder) / NAME, (json.dumps(asdict(manifest), indent=2) + "\n").encode())
    return held or manifest


class TeacherCacher(L.LightningModule):
    """Writes what is missing of a cache: `trainer.predict(cacher, return_predictions=False)`.

    Several processes share out the shards by their numbers, and do not wait for each other.

    Args:
        teacher_logits: From mixed, normalized images `(B, 3, S, S)` on the device to logits `(B, classes)`. A module is
            moved to the device.
        data: After `setup("fit")`.
        mixup: The run's; None mixes nothing.
        folder: Folder of the cache.
        manifest: As `begin` returned it.
    """

    def __init__(
        self,
        teacher_logits: Callable[[Tensor], Tensor],
        data: datamodule.HFImageDataModule,
        mixup: Mixup | None,
        folder: str | Path,
        manifest: Manifest,
    ) -> None:
        super().__init__()
        self.allow_zero_length_dataloader_with_multiple_devices = True  # more processes than shards are fine
        self.teacher_logits = teacher_logits
        self.data = data
        self.folder, self.manifest = Path(folder), manifest
        rows, config = data.chosen.by_stage["train"], data.config
        self.views = Views(len(rows), config.repeats, config.side, mixup, manifest.views)
        self._parts: list[Columns] = []  # batches of the shard that is being filled

    def predict_dataloader(self) -> torch.utils.data.DataLoader[transforms.Batch]:
        """Load the slots of the missing shards, in their order."""
        disable_progress_bars()  # one for every shard, across Lightning's
        self.data.trainer = self.trainer  # it chooses workers by the device
        shards = {shard.number: shard.slots for shard in missing(self.folder, self.manifest)}
        return self.data.views_dataloader(self.views, shards)

    def on_before_batch_transfer(self, batch: transforms.Batch, dataloader_idx: int) -> transforms.Batch:
        """Count broken images, and go on as in training."""
        self.data.broken["train"].count(batch["broken"])
        return self.data.on_before_batch_transfer(batch, dataloader_idx)

    def on_after_batch_transfer(self, batch: transforms.Batch, dataloader_idx: int) -> transforms.Batch:
        """Prepare images as in training."""
        return self.data.on_after_batch_transfer(batch, dataloader_idx)

    def predict_step(self, batch: transforms.Batch, batch_idx: int) -> int:
        """Run the teacher, and write a shard with its last batch; returns the number of images."""
        logits = self.teacher_logits(batch["image"])
        lam, box = transforms.decode_mix(batch["mix"].cpu().numpy())  # (B,), and (B, 4) of CutMix's rectangle
        columns = {"row": batch["row"].cpu().numpy(), "key": batch["draw"].cpu().numpy(), "lam": lam, "box": box}
        columns |= compress_logits(logits, self.manifest.top_k, self.manifest.tau)
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
        target = self.folder / shard.name
        for leftover in (target, *self.folder.glob(f".*_{shard.name}")):  # damaged, and of interrupted writers
            remove(leftover)
        with replacing(target) as partial:
            Dataset.from_dict(columns, features=Features(features)).save_to_disk(str(partial))
