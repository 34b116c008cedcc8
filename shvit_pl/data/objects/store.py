"""Judged objects as Arrow files in the cache of datasets: written once, whole or not at all, and mapped into memory."""

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
from datasets import Dataset, Features, concatenate_datasets
from filelock import FileLock

from shvit_pl.data.objects.annotations import Annotations, Found, Source
from shvit_pl.data.objects.checks import Judged
from shvit_pl.data.objects.layout import FEATURES, Objects
from shvit_pl.files import remove

_RULES = 1  # raise it where the same files give other rows than before
_ABOUT = "about.json"
_BATCH = 1000  # rows of a part of a file


def written(key: Any, write: Callable[[Path], None]) -> Path:
    """Return the folder of a key; where there is none yet, it is made by `write`, by one process at a time.

    What a killed writer leaves is under another name, and removed by the next.
    """
    digest = sha256(json.dumps([_RULES, str(FEATURES), key], sort_keys=True, default=str).encode()).hexdigest()[:32]
    folder = Path(datasets.config.HF_DATASETS_CACHE) / "shvit_pl_objects" / digest
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        partial = folder.with_name(f"{digest}.partial")
        remove(partial)
        if not folder.is_dir():
            try:
                partial.mkdir()
                write(partial)
                partial.replace(folder)
            finally:
                remove(partial)
    return folder


def write_objects(folder: Path, found: Found, judged: Judged) -> None:
    """Write a file for each split, and what was found out."""
    for number, (split, annotations) in enumerate(found.splits.items()):
        table = _table(annotations, judged, judged.starts[split])
        with pa.OSFile(str(folder / f"{number}.arrow"), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
            stream.write_table(table, max_chunksize=_BATCH)
    about = {
        "splits": list(found.splits),
        "class_names": judged.classes.names,
        "category_ids": judged.classes.ids,
        "has_masks": judged.has_masks,
        "counts": judged.counts,
        "notes": judged.notes,
        "warnings": judged.warnings,
        "files": found.files,
    }
    (folder / _ABOUT).write_text(json.dumps(about))


def read_objects(folder: Path, source: Source) -> tuple[Objects, list[str]]:
    """Map a folder that was written; returns the objects, and warnings."""
    about = json.loads((folder / _ABOUT).read_text())
    splits: dict[str, Any] = {}
    for number, split in enumerate(about.pop("splits")):
        rows = Dataset.from_file(str(folder / f"{number}.arrow"))
        images = source.images.get(split)
        splits[split] = rows if images is None else concatenate_datasets([images, rows], axis=1)
    warnings = about.pop("warnings")
    return Objects(splits=splits, commit=source.commit, **about), warnings


def _table(annotations: Annotations, judged: Judged, start: int) -> pa.Table:
    """Return the rows of a split in the layout, without `image` where a dataset holds it."""
    images = len(annotations.names)
    rows = np.array(annotations.rows, np.int64)
    kept = np.flatnonzero(judged.kept[start : start + len(rows)])
    offsets = np.concatenate([[0], np.cumsum(np.bincount(rows[kept], minlength=images))]).astype(np.int32)
    place = kept + start
    runs, polygons = judged.masks.runs, judged.masks.polygons
    values: dict[str, Any] = {
        "bbox": pa.FixedSizeListArray.from_arrays(pa.array(judged.corners[place].astype(np.float32).ravel()), 4),
        "category": pa.array(judged.classes.indices[place]),
        "area": pa.array(judged.areas[place]),
        "iscrowd": pa.array(judged.crowds[place]),
        "polygons": pa.array(
            [polygons[index] if judged.has_masks else [] for index in place], pa.list_(pa.list_(pa.float32()))
        ),
        "rle": pa.array([runs[index] if judged.has_masks else "" for index in place], pa.string()),
    }
    features = FEATURES if annotations.stored is None else Features({k: v for k, v in FEATURES.items() if k != "image"})
    schema = features.arrow_schema
    kinds = schema.field("objects").type
    lists = [pa.ListArray.from_arrays(pa.array(offsets), values[kind.name]) for kind in kinds]
    sizes = np.array([size or (0, 0) for size in annotations.sizes], np.int32).reshape(-1, 2)
    columns: dict[str, Any] = {
        "image_id": pa.array([json.dumps(image_id) for image_id in annotations.image_ids], pa.string()),
        "width": pa.array(sizes[:, 0]),
        "height": pa.array(sizes[:, 1]),
        "rotate": pa.array(np.full(images, judged.turned)),
        "objects": pa.StructArray.from_arrays(lists, fields=list(kinds)),
    }
    if annotations.stored is None:
        kinds = schema.field("image").type
        parts = {"bytes": pa.nulls(images, pa.binary()), "path": pa.array(annotations.paths, pa.string())}
        columns["image"] = pa.StructArray.from_arrays([parts[kind.name] for kind in kinds], fields=list(kinds))
    return pa.Table.from_arrays([columns[name] for name in schema.names], schema=schema)
