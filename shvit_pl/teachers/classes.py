"""Classes by name: which of the teacher's is which of the data's, and whether two lists name the same ones."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from shvit_pl.errors import UserError, did_you_mean, one_line
from shvit_pl.models.open_network import class_names

_MAP = "model.distill.class_map"

Match = tuple[list[int], str]
"""The teacher's index of each of the data's classes, and how they were matched, in a few words."""


class KnownNames:
    """Finds the class that a name means: its exact name, then its description, then one of the names in that.

    Names are given index by index, and so are descriptions, comma-separated other names.
    """

    def __init__(self, names: Sequence[str], descriptions: Sequence[str] | None = None) -> None:
        texts = list(enumerate(descriptions or ()))
        self._levels = [
            _unique(enumerate(names)),
            _unique((index, _plain(name)) for index, name in enumerate(names)),
            _unique((index, _plain(text)) for index, text in texts),
            _unique((index, _plain(part)) for index, text in texts for part in text.split(",")),
        ]

    def find(self, name: str) -> int | None:
        """Return the index of the class called `name`; None for an unknown name, and for one that two classes have."""
        for level in self._levels:
            for key in (name, _plain(name)):
                if key in level:
                    return level[key]
        return None

    def all(self) -> list[str]:
        """Return every name of every class."""
        return [name for level in self._levels for name in level]


def same_classes(names: Sequence[str], data_names: Sequence[str]) -> bool:
    """Return whether a network and its data have the same classes in the same order.

    ImageNet's may be ids in one and descriptions in the other, so both are names of a class. A few names may be
    unknown, but none may be another class's.
    """
    if len(names) != len(data_names):
        return False
    known_names, descriptions = class_names({}, len(names))
    texts = descriptions if descriptions and known_names == names else [""] * len(names)
    known = [{_plain(part) for part in (name, text, *text.split(","))} for name, text in zip(names, texts, strict=True)]
    elsewhere = [name for name, own in zip(map(_plain, data_names), known, strict=True) if name not in own]
    return len(elsewhere) < len(names) / 10 and not set(elsewhere) & set().union(*known)


def _plain(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())


def _unique(pairs: Iterable[tuple[int, str]]) -> dict[str, int | None]:
    """Return the index by name; None where several classes have the name."""
    indices: dict[str, int | None] = {}
    for index, name in pairs:
        indices[name] = index if indices.get(name, index) == index else None
    return indices


def match_classes(teacher: str, classes: int, known: KnownNames | None, wanted: Sequence[str]) -> Match:
    """Match the data's classes (`wanted`) to those of a teacher: by name, else by position where the numbers agree.

    Raises:
        UserError: when the numbers differ and not every name is known, or when some names are known and have another
            order than in the data.
    """
    indices = [known.find(name) if known else None for name in wanted]
    columns = [index for index in indices if index is not None]
    if len(columns) == len(wanted) == len(set(columns)):
        share = "" if len(columns) == classes else f" of its {classes}"
        order = " (they are in another order)" if not share and columns != sorted(columns) else ""
        return columns, f"{len(columns)}{share} classes matched by name{order}"
    unknown = [name for name, index in zip(wanted, indices, strict=True) if index is None]
    if classes != len(wanted):
        problem = "the teacher's names are not known"
        if known:
            problem = f"it has none named {_some(unknown)}" if unknown else "two of the data's match the same one"
        raise UserError(
            f"model.distill.teacher {teacher!r}: it has {classes} classes and the data has {len(wanted)}, and "
            f"{problem}. Give a teacher of the data's classes (such as a run of shvit-pl fit on them), or map the "
            f"classes with --{_MAP}."
        )
    moved = [
        name for place, (name, index) in enumerate(zip(wanted, indices, strict=True)) if index not in (None, place)
    ]
    if moved:
        raise UserError(
            f"model.distill.teacher {teacher!r}: its classes are in another order than the data's (such as "
            f"{moved[0]!r}), and it has none named {_some(unknown or moved)}. Map the classes with "
            f"--{_MAP}."
        )
    agree = f"{len(columns)} names agree" if columns else "names not comparable"
    return list(range(classes)), f"{classes} classes matched by position ({agree})"


def mapped_classes(
    class_map: Mapping[str, Any], classes: int, known: KnownNames | None, wanted: Sequence[str]
) -> Match:
    """Match by the user's map, from names of the data's classes (`wanted`) to indices or names of the teacher's.

    Raises `UserError` unless every class of the data has a class of its own.
    """
    for name in class_map:
        if name not in wanted:
            raise UserError(f"{_MAP}: {name!r} is no class of the data{did_you_mean(name, wanted)}.")
    missing = [name for name in wanted if name not in class_map]
    if missing:
        raise UserError(f"{_MAP}: it must name every class of the data, and lacks {_some(missing)}.")
    columns = [_index(name, class_map[name], classes, known) for name in wanted]
    column, times = Counter(columns).most_common(1)[0]
    if times > 1:
        same = [name for name, index in zip(wanted, columns, strict=True) if index == column]
        raise UserError(f"{_MAP}: {_some(same)} are all mapped to the teacher's class {column}; give each its own.")
    return columns, f"{len(columns)} of its {classes} classes by class_map"


def _index(name: str, target: Any, classes: int, known: KnownNames | None) -> int:
    if type(target) is int:
        if 0 <= target < classes:
            return target
        raise UserError(f"{_MAP}: {name!r} is mapped to {target}; the teacher's classes are 0 to {classes - 1}.")
    index = known.find(str(target)) if known else None
    if index is None:
        hint = did_you_mean(str(target), known.all()) if known else ""
        names = ", or its name" if known else " (its names are not known)"
        raise UserError(
            f"{_MAP}: {name!r} is mapped to {target!r}, which is no class of the teacher{hint}; give its index, from 0 "
            f"to {classes - 1}{names}."
        )
    return index


def read_class_map(class_map: Mapping[Any, Any] | str) -> dict[str, Any]:
    """Return the class map itself, read from its YAML or JSON file where one is named; raises `UserError`."""
    content: Any = class_map
    if isinstance(class_map, str):
        try:
            content = yaml.safe_load(Path(class_map).expanduser().read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            reason = getattr(error, "strerror", None) or one_line(error)
            raise UserError(
                f"{_MAP} {class_map!r}: can't be read as a YAML or JSON file ({reason}). Give a file, or "
                "{cat: 281, dog: 207}."
            ) from error
    if not isinstance(content, Mapping) or not content:
        raise UserError(
            f"{_MAP} {class_map!r}: for every class of the data, give the teacher's: {{cat: 281, dog: 207}}."
        )
    return {str(name): target for name, target in content.items()}


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:3]))
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown
