"""Opening images with objects, whatever format they are in."""

import logging
from collections.abc import Sequence
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_only

from shvit_pl.data.config import EMBEDDED
from shvit_pl.data.folders import table_files
from shvit_pl.data.objects.annotations import Source
from shvit_pl.data.objects.checks import judge
from shvit_pl.data.objects.coco import find_coco, is_coco_file
from shvit_pl.data.objects.columns import find_dataset, find_metadata
from shvit_pl.data.objects.config import SCENES, ObjectsConfig
from shvit_pl.data.objects.fields import NoObjectsError
from shvit_pl.data.objects.layout import Objects
from shvit_pl.data.objects.store import read_objects, write_objects, written
from shvit_pl.data.objects.yolo import find_yolo
from shvit_pl.data.opening import check_cache
from shvit_pl.errors import UserError

_log = logging.getLogger(__name__)
_KEYS = ("objects_column", "bbox_key", "category_key", "mask_key", "image_column")
_SETTINGS = ("name", "revision", *_KEYS, "box_format", "crowd", "exif_rotation")  # on which rows depend
_FORMATS = (
    "COCO (annotations/instances_*.json), Roboflow (train/_annotations.coco.json), YOLO (data.yaml), images with "
    "metadata.jsonl, or parquet"
)


def open_objects(config: ObjectsConfig, known: Sequence[str] = ()) -> Objects:
    """Open all splits of the dataset `config.path`, check them, and map their rows into memory.

    The first opening writes the rows into the cache of datasets; later ones read them from there, unless files or
    settings have changed. Where all classes are `known`, they have their place there. Raises `UserError`.
    """
    source = _source(config)

    def write(folder: Path) -> None:
        found = source.read()
        write_objects(folder, found, judge(found, config, known))

    settings = {name: getattr(config, name) for name in _SETTINGS}
    try:
        folder = written([source.format, source.stamp, settings, list(known)], write)
        objects, warnings = read_objects(folder, source)
    except OSError as error:
        check_cache(error)
        raise
    for warning in warnings:
        _warn(warning)
    return objects


@rank_zero_only
def _warn(text: str) -> None:
    _log.warning(text)


def check_path(path: str) -> None:
    """Raise `UserError` for a path that leads nowhere, and for the digits that have no boxes."""
    is_path = not path or path.startswith((".", "/", "~")) or path.count("/") > 1
    if is_path and not (path and Path(path).expanduser().exists()):
        raise UserError(
            f"data.path {path!r}: no such file or folder. Give {SCENES} (embedded), a folder of {_FORMATS}, or a "
            "dataset of the Hub (USER/NAME)."
        )
    if path == EMBEDDED:
        raise UserError(f"data.path {path}: these images have no boxes. Give {SCENES}, which are scenes of them.")


def _source(config: ObjectsConfig) -> Source:
    """Return the dataset in its format; raises `UserError` where it has none that is known, or two."""
    check_path(config.path)
    path, location = config.path, Path(config.path).expanduser()
    if location.is_file() and is_coco_file(location):
        raise UserError(f"data.path {path!r}: a file of annotations. Give the folder that it and its images are in.")
    if location.exists():
        found = [find_yolo(location)]
        if location.is_dir():
            found += [find_coco(location), find_metadata(location, config)]
        sources = [source for source in found if source is not None]
        if len(sources) > 1:
            formats = " and ".join(source.format for source in sources)
            raise UserError(f"data.path {path!r}: it has annotations of {formats}. Leave one of them there.")
        if sources:
            _check_local(config, sources[0])
            return sources[0]
        if location.is_dir() and not _holds_rows(location):
            raise NoObjectsError(f"data.path {path!r}: no annotations in the folder. Give one of {_FORMATS}.")
    return find_dataset(config)


def _check_local(config: ObjectsConfig, source: Source) -> None:
    for flag in ("name", "revision"):
        if (value := getattr(config, flag)) is not None:
            raise UserError(f"data.{flag} {value!r}: only for datasets of the Hub, and {config.path!r} is a folder.")
    for flag in _KEYS if source.format in ("COCO", "YOLO") else ():
        if (value := getattr(config, flag)) is not None:
            raise UserError(
                f"data.{flag} {value!r}: for columns of a table; {source.format} has its own names. Leave it out."
            )


def _holds_rows(folder: Path) -> bool:
    marks = ("state.json", "dataset_dict.json")
    return any((folder / name).exists() for name in marks) or bool(table_files(folder)[0])
