"""COCO's JSON: beside folders of images (`annotations/instances_*.json`), or in them (`_annotations.coco.json`)."""

import json
import re
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from shvit_pl.data.folders import SPLITS
from shvit_pl.data.objects.annotations import Annotations, Found, Source, size_of
from shvit_pl.data.objects.image_places import ImagePlaces
from shvit_pl.errors import UserError, first_line

_ROBOFLOW = "_annotations.coco.json"
_ALONE = ("result.json", "labels.json", "annotations.json")  # Label Studio, FiftyOne
_OTHER_TASKS = ("person_keypoints_", "captions_", "image_info_", "stuff_", "panoptic_")
_NOT_LISTED = "of an image that is not listed"


def is_coco_file(file: Path) -> bool:
    """Return whether a file is one of COCO's, and not of records."""
    with suppress(OSError, ValueError):
        return file.suffix.lower() == ".json" and "annotations" in json.loads(file.read_bytes())
    return False


def find_coco(folder: Path) -> Source | None:
    """Recognize COCO's or Roboflow's files in a folder; None where there are none."""
    folder = folder.parent if folder.name == "annotations" and any(folder.glob("instances_*.json")) else folder
    files = _files(folder)
    if not files:
        return None
    below = [place for place in (folder, *folder.iterdir(), *folder.glob("images/*")) if place.is_dir()]
    stats = [(str(file.absolute()), file.stat().st_size, file.stat().st_mtime_ns) for file in files.values()]
    times = sorted((str(place.absolute()), place.stat().st_mtime_ns) for place in below)
    return Source(["coco", list(files), stats, times], lambda: _read(folder, files))


def _files(folder: Path) -> dict[str, Path]:
    """Return the files of annotations by split."""
    places = [place for place in sorted(folder.iterdir()) if place.name.lower() in SPLITS]
    files = [(SPLITS[place.name.lower()], place / _ROBOFLOW) for place in places] + [("train", folder / _ROBOFLOW)]
    files = [(split, file) for split, file in files if file.is_file()]
    for pattern in ("annotations/instances_*.json", "annotations/*.json", *_ALONE):
        if not files:
            names = [file for file in sorted(folder.glob(pattern)) if not file.name.startswith(_OTHER_TASKS)]
            files = [(_split_of(file), file) for file in names]
    if len(files) == 1 and files[0][0] not in SPLITS.values():
        files = [("train", files[0][1])]
    by_split: dict[str, Path] = {}
    for split, file in files:
        if split in by_split:
            raise UserError(
                f"data.path {str(folder)!r}: {by_split[split].name} and {file.name} are both of the split {split}. "
                "Leave one of them there."
            )
        by_split[split] = file
    order = list(dict.fromkeys((*SPLITS.values(), *by_split)))
    return {split: by_split[split] for split in order if split in by_split}


def _split_of(file: Path) -> str:
    name = file.stem.removeprefix("instances_")
    words = [word for word in re.split(r"[\W\d_]+", name.lower()) if word in SPLITS]
    return SPLITS[words[0]] if words else name


def _read(folder: Path, files: Mapping[str, Path]) -> Found:
    places = ImagePlaces(folder)
    found = Found({}, {}, usual="xywh", usual_of="COCO's format", lost={_NOT_LISTED: []})
    for split, file in files.items():
        content = _content(file)
        _add_categories(found, content["categories"], file)
        found.splits[split] = _read_split(split, file, content, places, found)
    found.files = places.account()
    return found


def _content(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"data.path: {file} can't be read as JSON ({first_line(error)}).") from error
    for name in ("images", "annotations", "categories"):
        entries = content.get(name) if isinstance(content, dict) else None
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise UserError(f"data.path: {file} has no list of {name!r}, as COCO's files have. Export it anew as COCO.")
    return content


def _add_categories(found: Found, entries: list[dict[str, Any]], file: Path) -> None:
    assert found.categories is not None
    for entry in entries:
        number, name = _field(entry, "id", file), str(_field(entry, "name", file))
        if found.categories.setdefault(number, name) != name:
            raise UserError(
                f"data.path: category {number} is {found.categories[number]!r} in one file and {name!r} in {file}. "
                "Give all files the same categories."
            )


def _field(entry: dict[str, Any], name: str, file: Path) -> Any:
    """Return a number or a text; raises `UserError` for anything else."""
    if not isinstance(entry.get(name), int | float | str):
        raise UserError(
            f"data.path: {file} has an entry whose {name!r} is no number or text: {str(entry)[:80]}. Export it anew as "
            "COCO."
        )
    return entry[name]


def _read_split(split: str, file: Path, content: dict[str, Any], places: ImagePlaces, found: Found) -> Annotations:
    objects: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for entry in content["annotations"]:
        objects[str(_field(entry, "image_id", file))].append(entry)  # some write "7" in one place, and 7 in another
    year_or_split = file.stem.removeprefix("instances_")
    root = places.folder
    folders = [file.parent] if file.name == _ROBOFLOW else [root / year_or_split, root / "images" / year_or_split]
    folders += [place for place in sorted(root.iterdir()) if SPLITS.get(place.name.lower()) == split]
    folders += [root, root / "images", file.parent]
    annotations = Annotations(split)
    ids, taken = set[str](), dict[str, Any]()
    for entry in content["images"]:
        image_id, name = _field(entry, "id", file), str(_field(entry, "file_name", file))
        path = places.find(name, folders, split)
        if str(image_id) in ids or path in taken:
            what = (
                f"id {image_id}" if str(image_id) in ids else f"file {name!r} (ids {taken[str(path)]} and {image_id})"
            )
            raise UserError(f"data.path: two images of {file} have the {what}. Keep one of them.")
        ids.add(str(image_id))
        if path is None:
            found.missing.append(name)
            continue
        taken[path] = image_id
        annotations.add_image(places.short(path), image_id, size_of(entry), path)
        for each in objects.get(str(image_id), ()):
            masks = each.get("segmentation")
            annotations.add(each.get("bbox"), each.get("category_id"), each.get("area"), each.get("iscrowd", 0), masks)
    strays = [entry for image_id in objects.keys() - ids for entry in objects[image_id]]
    found.lost[_NOT_LISTED] += [f"{file.name}: annotation {entry.get('id')} of {entry['image_id']}" for entry in strays]
    return annotations
