"""A folder of a teacher's answers to views of the training images: opened for training, begun, and added to."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from datasets import Dataset, Features, List, Value, concatenate_datasets, load_from_disk

from shvit_pl.data.views import Columns, place_of
from shvit_pl.errors import UserError
from shvit_pl.teachers.cache.answers import index_type
from shvit_pl.teachers.cache.manifest import FLAG, Manifest, Shard, read_manifest


class TeacherCache:
    """Views with the teacher's answers to them, as `data.train_on` takes them (a `Replay`).

    Args:
        folder: Where it is.
        manifest: What it has to be.

    Attributes:
        manifest: What it is; the same but for the layout of its files and the note of the teacher's check.
        slots: Slots of a view.
        views: Number of views.

    Raises:
        UserError: when there is none, or it is of something else, or not whole.
    """

    def __init__(self, folder: str | Path, manifest: Manifest) -> None:
        folder = Path(folder)
        held = read_manifest(folder)
        _check_same(folder, held, manifest)
        left = len(missing(folder, held))
        if left:
            total = len(held.shards)
            raise UserError(
                f"{FLAG} {str(folder)!r}: it is not whole, {total - left} of {total} files are there. Run shvit-pl "
                "cache-teacher with the same settings to complete it."
            )
        self.manifest, self.slots, self.views = held, held.slots, held.views
        shards = [_open(folder, shard, held) for shard in held.shards]
        self._rows = concatenate_datasets(shards).with_format("arrow")

    def read(self, slots: Sequence[int]) -> Columns:
        """What is kept of these slots: `row`, `key`, `lam`, `box`, and for `dense` `indices`, `logits` and `tail`.

        Logits are given as the integers of their bits, see `Replay`.
        """
        table = self._rows[list(slots)]
        columns = {name: _to_numpy(table.column(name)) for name in table.column_names}
        return columns | {"logits": columns["logits"].view(np.int16), "tail": columns["tail"].view(np.int32)}


def begun(folder: str | Path, manifest: Manifest) -> Manifest | None:
    """The manifest of the same cache, whole or a part of it, in a folder; None for a folder that is empty or not there.

    Raises:
        UserError: when the folder holds anything else.
    """
    folder = Path(folder)
    if not folder.exists() or (folder.is_dir() and all(path.name.startswith(".") for path in folder.iterdir())):
        return None
    held = read_manifest(folder)
    _check_same(folder, held, manifest)
    return held


def begin(folder: str | Path, manifest: Manifest) -> Manifest:
    """Make the folder ready for answers; returns the cache's manifest, which says how it is laid out.

    Raises:
        UserError: as `begun`.
    """
    held = begun(folder, manifest)
    if held is None:
        manifest.save(Path(folder))
    return held or manifest


def missing(folder: str | Path, manifest: Manifest) -> list[Shard]:
    """The shards that are not there, or damaged."""
    return [shard for shard in manifest.shards if _open(Path(folder), shard, manifest) is None]


def _open(folder: Path, shard: Shard, manifest: Manifest) -> Dataset | None:
    """The rows of a shard; None where they are not there, can't be read, or are not those of its slots."""
    if not (folder / shard.name).is_dir():
        return None
    try:
        rows = load_from_disk(str(folder / shard.name))
        ends = [tuple(rows[place]["key"][1:]) for place in (0, -1)]
    except Exception:  # whatever reading a damaged file runs into
        return None
    asked = [place_of(shard.slots[place], manifest.slots) for place in (0, -1)]
    return rows if len(rows) == len(shard.slots) and ends == asked else None


def write(folder: str | Path, shard: Shard, columns: Columns, classes: int) -> None:
    """Write a shard's columns, whole or not at all.

    Args:
        folder: Of the cache.
        shard: Which.
        columns: Of its slots in their order, as `Views.read` and `pack` give them.
        classes: Number of classes.
    """
    whole, partial = Path(folder) / shard.name, Path(folder) / f"{shard.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)  # of an interrupted writer
    features = _features(columns["logits"].shape[1], classes)
    arrays = {name: _to_arrow(columns[name].astype(_dtype(feature))) for name, feature in features.items()}
    Dataset.from_dict(arrays, features=features).save_to_disk(str(partial))
    shutil.rmtree(whole, ignore_errors=True)  # a damaged one
    partial.rename(whole)


def _features(top_k: int, classes: int) -> Features:
    kinds = {"row": ("int32", 0), "key": ("int32", 3), "lam": ("float32", 0), "box": ("int16", 4)}
    kinds |= {"indices": (index_type(classes), top_k), "logits": ("float16", top_k), "tail": ("float32", 0)}
    return Features(
        {name: List(Value(dtype), length=length) if length else Value(dtype) for name, (dtype, length) in kinds.items()}
    )


def _dtype(feature: List | Value) -> str:
    return str(feature.feature.dtype if isinstance(feature, List) else feature.dtype)


def _to_arrow(array: np.ndarray) -> pa.Array:
    flat = pa.array(array.reshape(-1))
    return flat if array.ndim == 1 else pa.FixedSizeListArray.from_arrays(flat, array.shape[1])


def _to_numpy(column: pa.ChunkedArray) -> np.ndarray:
    array = column.combine_chunks()
    if pa.types.is_fixed_size_list(array.type):
        return np.array(array.flatten()).reshape(len(array), -1)
    return np.array(array)


def _check_same(folder: Path, there: Manifest, here: Manifest) -> None:
    if there.fingerprint != here.fingerprint:
        raise UserError(
            f"{FLAG} {str(folder)!r}: it holds answers of other settings ({there.differences(here)}). Set these as "
            "they were, or write another folder with shvit-pl cache-teacher."
        )
