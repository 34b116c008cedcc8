"""Which column of a dataset holds objects, and which of its fields are boxes, classes, areas, crowds and masks."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from datasets import ClassLabel, Dataset

from shvit_pl.data.objects.annotations import Annotations
from shvit_pl.data.objects.config import ObjectsConfig
from shvit_pl.errors import UserError, did_you_mean

_BOXES = ("bbox", "bboxes", "boxes", "box")
_CATEGORIES = (
    *("category", "categories", "category_id", "category_ids", "label", "labels", "class", "classes"),
    *("class_id", "class_ids", "class_name", "name"),
)
_MASKS = ("segmentation", "segmentations", "masks", "mask", "polygons", "polygon", "rle")
_AREAS = ("area", "areas")
_CROWDS = ("iscrowd", "is_crowd", "crowd")


class ObjectFields:
    """The column of objects of all splits, and the names of its fields."""

    def __init__(self, tables: Mapping[str, Sequence[Mapping[str, Any]]], config: ObjectsConfig) -> None:
        rows = [row for table in tables.values() for row in table]
        there = list(dict.fromkeys(name for row in rows for name in row))
        holding = {name: keys for name in there if (keys := _box_keys(rows, name))}
        _check_boxes(rows, there, holding)
        column = self.column = _chosen("data.objects_column", config.objects_column, there, list(holding), "boxes")
        if column not in holding:
            raise UserError(
                f"data.objects_column {column!r}: it holds no boxes, lists of four numbers"
                + (f"; {', '.join(holding)} does." if holding else ".")
            )
        self.is_flat = holding[column] == [""]  # boxes, classes, ... are columns of their own
        fields = there if self.is_flat else _fields(rows, column)
        boxes = [column] if self.is_flat else holding[column]
        usual = [name for name in _BOXES if name in boxes] or boxes
        self.bbox = _chosen(
            "data.bbox_key", config.bbox_key, fields, usual[:1] if usual[0] in _BOXES else usual, "boxes"
        )
        named = [name for name in _CATEGORIES if name in fields]
        self.category = _chosen("data.category_key", config.category_key, fields, named[:1], "classes")
        named = [name for name in _MASKS if name in fields]
        self.mask = (
            _chosen("data.mask_key", config.mask_key, fields, named[:1], "masks") if named or config.mask_key else ""
        )
        self.area = next((name for name in _AREAS if name in fields), "")
        self.crowd = next((name for name in _CROWDS if name in fields), "")

    def add(self, annotations: Annotations, row: Mapping[str, Any]) -> None:
        """Add a row's objects to its image, the last one."""
        names = [name for name in (self.bbox, self.category, self.area, self.crowd, self.mask) if name]
        value = {name: row.get(name) for name in names} if self.is_flat else row.get(self.column)
        for each in _each(value, names, annotations):
            annotations.add(
                each.get(self.bbox),
                each.get(self.category),
                each.get(self.area),
                each.get(self.crowd, False),
                each.get(self.mask),
            )

    def label_names(self, splits: Mapping[str, Dataset]) -> dict[Any, str] | None:
        """Return the names of class numbers, where the column's type has them."""
        names: dict[Any, str] = {}
        for split, rows in splits.items():
            feature: Any = rows.features[self.category if self.is_flat else self.column]
            feature = getattr(feature, "feature", feature)
            feature = feature if self.is_flat else feature[self.category]
            feature = getattr(feature, "feature", feature)
            if isinstance(feature, ClassLabel):
                own = dict(enumerate(feature.names))
                if names and own != names:
                    raise UserError(f"data.path: {split} numbers its classes in another way than the other splits.")
                names = own
        return names or None


def _check_boxes(rows: Sequence[Mapping[str, Any]], there: Sequence[str], holding: Mapping[str, Any]) -> None:
    """Raise `UserError` where there are no boxes, for lack of columns or of entries in them."""
    if not there:
        raise UserError(
            "data.path: there are images alone, and no column of objects. Give annotations as COCO, YOLO, "
            "metadata.jsonl or parquet."
        )
    empty = [name for name in there if all(_is_empty(row.get(name)) for row in rows)]
    if not holding and empty:
        raise UserError(f"data.path: no split has a box ({', '.join(empty)}: empty in all rows). Give data with boxes.")


def _is_empty(value: Any) -> bool:
    return all(map(_is_empty, value.values())) if isinstance(value, dict) else value is None or value == []


def _chosen(flag: str, given: str | None, there: Sequence[str], meant: Sequence[str], what: str) -> str:
    """Return the given name, or the only one that is meant."""
    if given is not None:
        if given not in there:
            raise UserError(f"{flag} {given!r}: not there{did_you_mean(given, there)}; there are {', '.join(there)}.")
        return given
    if len(meant) != 1:
        several = f"several hold {what} ({', '.join(meant)}). Choose one with"
        nothing = f"nothing holds {what}; there are {', '.join(there)}. Name it with"
        raise UserError(f"{flag}: {several if meant else nothing} --{flag}.")
    return meant[0]


def _is_box(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 4 and all(isinstance(each, int | float) for each in value)


def _are_boxes(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) > 0 and _is_box(value[0])


def _box_keys(rows: Sequence[Mapping[str, Any]], name: str) -> list[str]:
    """Return the fields of a column that hold boxes; [''] where it is a list of boxes itself."""
    for row in rows:
        value = row.get(name)
        if _are_boxes(value):
            return [""]
        if isinstance(value, dict):
            keys = [key for key, entries in value.items() if _are_boxes(entries)]
        else:
            first = value[0] if isinstance(value, list | tuple) and value else None
            keys = [key for key, entry in first.items() if _is_box(entry)] if isinstance(first, dict) else []
        if keys:
            return keys
    return []


def _fields(rows: Sequence[Mapping[str, Any]], column: str) -> list[str]:
    fields: dict[str, None] = {}
    for row in rows:
        value = row.get(column)
        entries = [value] if isinstance(value, dict) else value or []
        fields |= {key: None for entry in entries for key in entry}
    return list(fields)


def _each(value: Any, names: Sequence[str], annotations: Annotations) -> Iterator[Mapping[str, Any]]:
    """Yield objects one by one, from a list of them or from lists of their fields."""
    if not isinstance(value, dict):
        yield from value or []
        return
    lists = {name: entries for name in names if (entries := _listed(value.get(name))) is not None}
    counts = {name: len(entries) for name, entries in lists.items()}
    if len(set(counts.values())) > 1:
        given = ", ".join(f"{count} {name}" for name, count in counts.items())
        raise UserError(
            f"data.path: fields of different length in {annotations.image(len(annotations.names) - 1)}: {given}. Each "
            "object needs all of them."
        )
    for values in zip(*lists.values(), strict=True):
        yield dict(zip(lists, values, strict=True))


def _listed(value: Any) -> list[Any] | None:
    """Return the entries of a field; lists of an object's own fields, as of runs, become a list of objects."""
    if isinstance(value, dict):
        return [dict(zip(value, entries, strict=True)) for entries in zip(*value.values(), strict=True)]
    return None if value is None else list(value)
