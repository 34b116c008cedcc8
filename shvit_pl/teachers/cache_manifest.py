"""The manifest of a cache of a teacher's answers: what the answers depend on, and how they are laid out in files."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.compute as pc

from shvit_pl.data.config import ROW_SETTINGS
from shvit_pl.data.datamodule import HFImageDataModule
from shvit_pl.data.rows import ChosenRows, class_indices
from shvit_pl.data.views import check_stored, slots_of_view
from shvit_pl.errors import UserError
from shvit_pl.files import replacing
from shvit_pl.teachers.config import DistillConfig

FLAG = "model.distill.cache"
NAME = "manifest.json"

# data settings that change the pixels, and libraries that may
_PREPARATION = ("image_size", "crop_pct", "exif_rotation")
_AUGMENTATION = ("augment", "auto_augment", "color_jitter", "erasing", "repeats")
_LIBRARIES = ("shvit-pl", "torch", "torchvision", "timm", "pillow", "numpy")
_HASHED = 256e6  # bytes of images; hashing all of ImageNet at the start of every run would take as long as an epoch

_SLOT = 4 + 3 * 4 + 4 + 4 * 2 + 4  # bytes of row, key, lambda, rectangle and tail on the disk


class Shard(NamedTuple):
    """A folder of answers: its position among all, its name, and its slots, counted through all views."""

    number: int
    name: str
    slots: range


@dataclass(frozen=True)
class Manifest:
    """The description of a cache, written before its first answer."""

    settings: dict[str, Any]
    """Settings that the predictions depend on, by readable names; another value makes a cache stale."""
    classes: int
    """Number of classes."""
    slots: int
    """Slots of a view."""
    views: int
    """Number of views."""
    top_k: int
    """Logits of an answer."""
    tau: float
    """Temperature at which the other logits keep their probability."""
    origin: dict[str, Any] = field(default_factory=dict)
    """Where the images came from; only explains why rows differ."""
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
        return self.views * self.slots * (_SLOT + min(self.top_k, self.classes) * logit)

    def save(self, folder: Path) -> None:
        """Write it into the folder, atomically."""
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / NAME) as partial:
            partial.write_text(json.dumps({**asdict(self), "sha256": _digest(asdict(self))}, indent=2) + "\n")

    def differences(self, here: Manifest) -> str:
        """Return how another manifest's settings differ, in words; empty where they don't."""
        settings, origin = json.loads(json.dumps([here.settings, here.origin]))  # as this one was read
        different = _differences(self.settings, settings)
        if "data.rows" in different:
            different |= _differences(self.origin, origin)
        return ", ".join(different.values())


def index_type(classes: int) -> str:
    """Return the integer type that numbers so many classes."""
    return "int16" if classes <= np.iinfo(np.int16).max + 1 else "int32"


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest in a folder; raises `UserError` where there is no folder, or no manifest in it."""
    if not folder.is_dir():
        raise UserError(f"{FLAG} {str(folder)!r}: no such folder. Write it with shvit-pl cache-teacher.")
    try:
        held = json.loads((folder / NAME).read_text())
        if held.pop("sha256") != _digest(held):
            raise ValueError("changed by hand")
        return Manifest(**held)
    except FileNotFoundError as error:
        raise UserError(
            f"{FLAG} {str(folder)!r}: this folder is no cache (there is no {NAME}). Give one that shvit-pl "
            "cache-teacher has written."
        ) from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(
            f"{FLAG} {str(folder)!r}: its {NAME} can't be read. Write the cache anew with shvit-pl cache-teacher."
        ) from error


def _digest(content: dict[str, Any]) -> str:
    return sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _differences(there: dict[str, Any], here: dict[str, Any]) -> dict[str, str]:
    texts = {}
    for name in {**there, **here}:
        before, now = there.get(name), here.get(name)
        if before != now:
            long = name == "data.rows" or len(f"{before}{now}") > 80
            texts[name] = f"other {name}" if long else f"{name} {before} there, {now} here"
    return texts


def plan(config: DistillConfig, teacher: dict[str, Any], mix: dict[str, Any], data: HFImageDataModule) -> Manifest:
    """Return the manifest of the cache that these settings need; raises `UserError` for a stream.

    Args:
        config: Views, logits and temperature.
        teacher: The teacher's identity (weights, input size, class map, precision, ...), as JSON.
        mix: The settings of Mixup and CutMix.
        data: After `setup("fit")`.
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


def rows_hash(chosen: ChosenRows) -> str:
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
    digest = sha256(class_indices(rows, chosen.label_column).tobytes() + sizes.tobytes())
    hashed = min(len(rows), int(_HASHED / max(1.0, sizes.mean())))
    for index in np.linspace(0, len(rows) - 1, hashed).astype(int).tolist():
        image = rows[index][column] or {}
        path = Path(image.get("path") or "")
        digest.update(image.get("bytes") or (path.read_bytes() if path.is_file() else b""))
    return digest.hexdigest()
