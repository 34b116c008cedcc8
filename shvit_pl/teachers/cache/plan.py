"""What the answers of a teacher depend on, in a form that can be compared and named."""

from __future__ import annotations

import platform
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
from datasets import Dataset

from shvit_pl.data.config import ROW_SETTINGS
from shvit_pl.data.datamodule import HFImageDataModule
from shvit_pl.data.rows import ChosenRows, class_indices
from shvit_pl.data.views import check_stored, slots_of_view
from shvit_pl.teachers.cache.manifest import Manifest
from shvit_pl.teachers.config import DistillConfig

_OF_IMAGES = (
    "image_size",
    "crop_pct",
    "augment",
    "auto_augment",
    "color_jitter",
    "erasing",
    "repeats",
    "exif_rotation",
)
_LIBRARIES = ("shvit-pl", "torch", "torchvision", "timm", "pillow", "numpy")
_LOOKED_AT = 256e6  # bytes of images


def plan(config: DistillConfig, teacher: dict[str, Any], mix: dict[str, Any], data: HFImageDataModule) -> Manifest:
    """The cache that these settings want.

    Args:
        config: Views, logits and temperature.
        teacher: What the answers depend on of the teacher (weights, input size, class map, precision, ...), as JSON.
        mix: The settings of Mixup and CutMix.
        data: After `setup("fit")`.

    Raises:
        UserError: for a stream.
    """
    check_stored(data.config)
    tau = 1.0 if config.objective == "hard" else config.tau
    rows, classes = len(data.chosen.by_stage["train"]), len(data.class_names or ())
    settings = {
        **{f"teacher.{name}": value for name, value in teacher.items()},
        "model.distill.views": config.views,
        "model.distill.top_k": min(config.top_k, classes),
        "model.distill.tau": tau,
        **{f"data.{name}": data.hparams[name] for name in _OF_IMAGES},
        **{f"model.mix.{name}": value for name, value in mix.items()},
        **{name: version(name).partition("+")[0] for name in _LIBRARIES},  # not for which device it was built
        "python": ".".join(platform.python_version_tuple()[:2]),
        "python's hash": hash((0, 1, 2)),  # of a key; seeds are made by it
        "data.revision": data.config.revision,
        "data.classes": data.class_names,
        "data.rows": rows_hash(data.chosen),
    }
    origin = {**{f"data.{name}": data.hparams[name] for name in ROW_SETTINGS}, "training images": rows}
    return Manifest(
        settings=settings,
        origin=origin,
        classes=classes,
        slots=slots_of_view(rows, data.config.repeats),
        views=config.views,
        top_k=min(config.top_k, classes),
        tau=tau,
    )


def rows_hash(chosen: ChosenRows) -> str:
    """A hash of the training rows that is the same in every process, and wherever the data is kept.

    It is of all labels in their order, of the size of every stored image, and of the images' bytes: of all of them up
    to 256 MB, beyond of as many, evenly spaced. Reading ImageNet at the start of every run would take as long as an
    epoch.
    """
    rows = chosen.by_stage["train"]
    assert chosen.label_column is not None, "of training rows there are labels"
    found = sha256(class_indices(rows, chosen.label_column).tobytes())
    sizes = _sizes(rows, chosen.image_column)
    found.update(sizes.tobytes())
    looked_at = min(len(rows), int(_LOOKED_AT / max(1.0, sizes.mean())))
    for index in np.linspace(0, len(rows) - 1, looked_at).astype(int).tolist():
        image = rows[index][chosen.image_column] or {}
        found.update(image.get("bytes") or _file(image.get("path")))
    return found.hexdigest()


def _sizes(rows: Dataset, column: str) -> Any:
    """Bytes of every stored image, also of those that no row selects; of the files' where only paths are stored."""
    images = rows.data.column(column)
    lengths = pc.fill_null(pc.binary_length(pc.struct_field(images, "bytes")), -1).to_numpy()
    if (lengths >= 0).all():
        return lengths.astype(np.int64)
    paths = pc.struct_field(images, "path").to_pylist()
    return np.array([_file_size(path) if size < 0 else size for path, size in zip(paths, lengths, strict=True)])


def _file_size(path: str | None) -> int:
    return Path(path).stat().st_size if path and Path(path).is_file() else -1


def _file(path: str | None) -> bytes:
    return Path(path).read_bytes() if path and Path(path).is_file() else b""
