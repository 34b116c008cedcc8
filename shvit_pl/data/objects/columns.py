"""Objects in a column: `metadata.jsonl` beside images, and datasets of parquet, of arrow or of the Hub."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset, Image

from shvit_pl.data.folders import SPLITS
from shvit_pl.data.objects.annotations import Annotations, Found, Source, size_of, stats_of
from shvit_pl.data.objects.config import BoxFormat, ObjectsConfig
from shvit_pl.data.objects.fields import ObjectFields
from shvit_pl.data.objects.image_places import ImagePlaces
from shvit_pl.data.opening import NAMES_OF_PATHS, open_source
from shvit_pl.data.splits import image_column
from shvit_pl.errors import UserError, first_line
from shvit_pl.files import as_text, from_text

_USUAL: dict[str, BoxFormat] = {
    **dict.fromkeys(("cppe-5", "rishitdagli/cppe-5"), "xywh"),
    "detection-datasets/coco": "xyxy",
}


def find_metadata(folder: Path, config: ObjectsConfig) -> Source | None:
    """Recognize `metadata.jsonl` beside images, in the folder or in those of its splits."""
    places = [("train", folder)] + [
        (SPLITS[place.name.lower()], place) for place in sorted(folder.iterdir()) if place.name.lower() in SPLITS
    ]
    files = {split: place / "metadata.jsonl" for split, place in places if (place / "metadata.jsonl").is_file()}
    if not files:
        return None
    stats = stats_of(str(place.absolute()) for place in (*files.values(), *(place for _, place in places)))
    return Source("a metadata.jsonl", stats, lambda: _read_metadata(folder, files, config))


def find_dataset(config: ObjectsConfig) -> Source:
    """Open a file or folder of parquet or arrow, or a dataset of the Hub; its images stay where they are."""
    opened = open_source(config)
    splits: dict[str, Dataset] = {SPLITS.get(name.lower(), name): rows for name, rows in opened.splits.items()}
    image = image_column(next(iter(splits.values())).features, config.image_column or _path_column(splits))
    stored = {split: _stored(rows, image) for split, rows in splits.items()}
    kept = {split: rows for split, rows in stored.items() if rows is not None}
    paths = {split: _paths(rows, image) for split, rows in splits.items() if split not in kept}
    stats = {split: stats_of(map(_absolute, own)) for split, own in paths.items()}
    stamp = [config.path, opened.commit, {split: rows._fingerprint for split, rows in splits.items()}, stats]

    def read() -> Found:
        return _read_dataset(splits, image, kept, paths, config, opened.files)

    return Source("a dataset", stamp, read, kept, opened.commit)


def _path_column(splits: Mapping[str, Dataset]) -> str | None:
    """Return the column of paths where none holds images."""
    features = next(iter(splits.values())).features
    if any(isinstance(feature, Image) for feature in features.values()):
        return None
    return next((name for name in NAMES_OF_PATHS if getattr(features.get(name), "dtype", "") == "string"), None)


def _stored(rows: Dataset, image: str) -> Dataset | None:
    """Return the column of images as `image`; None where it holds paths alone."""
    if getattr(rows.features[image], "dtype", "") in ("string", "large_string", "string_view"):
        return None
    column = rows.select_columns(image).cast_column(image, Image(decode=False))
    column = column if image == "image" else column.rename_column(image, "image")
    first = column[:20]["image"]
    paths_alone = all(entry is None or entry["bytes"] is None for entry in first)
    return None if paths_alone and any(entry is not None for entry in first) else column


# ---- rows


def _read_metadata(folder: Path, files: Mapping[str, Path], config: ObjectsConfig) -> Found:
    places = ImagePlaces(folder)
    found = Found({})
    tables = {split: _json_lines(file) for split, file in files.items()}
    if list(tables) == ["train"]:
        tables = _by_folder(tables["train"])
    columns = ObjectFields(tables, config)
    for split, rows in tables.items():
        base = files.get(split, files.get("train", folder)).parent
        annotations = found.splits[split] = Annotations(split, "line")
        image = config.image_column or next((name for name in NAMES_OF_PATHS if rows and name in rows[0]), None)
        if image is None or any(not isinstance(row.get(image), str) for row in rows):
            raise UserError(f"data.image_column: a line of {base / 'metadata.jsonl'} has no file_name. Add it.")
        ids = _image_ids(rows, [row[image] for row in rows], split)
        taken = dict[str, int]()
        for number, row in enumerate(rows):
            path = places.find(row[image], [base], split)
            if path is None:
                found.missing.append(row[image])
                continue
            if path in taken:
                raise UserError(
                    f"data.path: lines {taken[path] + 1} and {number + 1} of {base / 'metadata.jsonl'} are both of "
                    f"{row[image]!r}. Keep one, with all its objects."
                )
            taken[path] = number
            annotations.add_image(places.short(path), ids[number], size_of(row), path)
            columns.add(annotations, row)
    found.files = places.account()
    return found


def _json_lines(file: Path) -> list[dict[str, Any]]:
    rows = []
    for number, line in enumerate(file.read_text(encoding="utf-8-sig").splitlines(), 1):
        try:
            row = json.loads(line) if line.strip() else None
        except ValueError as error:
            raise UserError(f"data.path: line {number} of {file} is not JSON ({first_line(error)}).") from error
        if row is not None and not isinstance(row, dict):
            raise UserError(f"data.path: line {number} of {file} is not a JSON object, as {{...}}.")
        rows += [row] if row else []
    return rows


def _by_folder(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Divide the lines of one file by the folders of splits that all their images are in."""
    names = [str(row.get("file_name", "")).replace("\\", "/").split("/")[0].lower() for row in rows]
    splits = [SPLITS.get(name) for name in names]
    if None in splits:
        return {"train": rows}
    return {
        split: [row for row, own in zip(rows, splits, strict=True) if own == split]
        for split in dict.fromkeys(SPLITS.values())
        if split in splits
    }


def _read_dataset(
    splits: Mapping[str, Dataset],
    image: str,
    stored: Mapping[str, Dataset],
    paths: Mapping[str, Sequence[str]],
    config: ObjectsConfig,
    files: str,
) -> Found:
    found = Found({}, files=files)
    if usual := _USUAL.get(config.path.lower()):
        found.usual, found.usual_of = usual, config.path
    tables: dict[str, list[dict[str, Any]]] = {}
    for split, rows in splits.items():
        names = [name for name in rows.column_names if name != image and not isinstance(rows.features[name], Image)]
        values = rows.select_columns(names)[:] if names else {}
        tables[split] = [dict(zip(names, row, strict=True)) for row in zip(*values.values(), strict=True)]
    columns = ObjectFields(tables, config)
    found.categories = columns.label_names(splits)
    for split, rows in splits.items():
        kept = stored[split].with_format("arrow") if split in stored else None
        annotations = found.splits[split] = Annotations(split, "row", stored=kept)
        own = paths.get(split)
        ids = _image_ids(tables[split], own or range(len(rows)), split)
        for number, row in enumerate(tables[split]):
            name = own[number] if own else ""
            path = _absolute(name) if own else ""
            if own and not from_text(path).exists():
                found.missing.append(name)
                continue
            annotations.add_image(name, ids[number], size_of(row), path)
            columns.add(annotations, row)
    return found


def _paths(rows: Dataset, image: str) -> list[str]:
    """Return the paths of images as they are written."""
    column = rows.cast_column(image, Image(decode=False)) if isinstance(rows.features[image], Image) else rows
    return [(entry["path"] if isinstance(entry, dict) else entry) or "" for entry in column[image]]


def _absolute(path: str) -> str:
    """Return a path as text; a relative one begins at the working folder."""
    return as_text(str(Path(path).expanduser().absolute()))


def _image_ids(rows: Sequence[Mapping[str, Any]], others: Sequence[Any], split: str) -> Sequence[Any]:
    """Return `image_id`, or other ones where a row has none; raises `UserError` where two rows have the same."""
    ids = [row.get("image_id") for row in rows]
    if None in ids:
        return others
    first = dict[str, int]()
    for number, each in enumerate(map(repr, ids)):
        if first.setdefault(each, number) != number:
            raise UserError(
                f"data.path: rows {first[each]} and {number} of {split} both have image_id {each}. Give each image one "
                "row, with all its objects and an id of its own, or leave the column out."
            )
    return ids
