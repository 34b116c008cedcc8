"""Which of the teacher's classes is which of the data's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from shvit_pl.errors import UserError, did_you_mean, one_line

_MAP = "model.distill.class_map"


@dataclass(frozen=True)
class ClassMatch:
    """For each class of the data the teacher's index, and in a few words how they were matched."""

    columns: tuple[int, ...]
    note: str


class KnownNames:
    """Finds the class that a name means: its exact name, then its description, then one of the names in that.

    Args:
        names: Class names, index by index.
        descriptions: Comma-separated other names, index by index.
    """

    def __init__(self, names: Sequence[str], descriptions: Sequence[str] | None = None) -> None:
        self.names = list(names)
        parts = [(index, part) for index, text in enumerate(descriptions or ()) for part in text.split(",")]
        self._levels = [
            _unique(enumerate(names)),
            _unique((index, _plain(name)) for index, name in enumerate(names)),
            _unique((index, _plain(text)) for index, text in enumerate(descriptions or ())),
            _unique((index, _plain(part)) for index, part in parts),
        ]

    def find(self, name: str) -> int | None:
        """The index of the class called `name`; None for an unknown name, and for one that two classes have."""
        for level in self._levels:
            for key in (name, _plain(name)):
                if key in level:
                    return level[key]
        return None

    def all(self) -> list[str]:
        """Everything that a class may be called."""
        return [*self.names, *(name for level in self._levels[1:] for name in level)]


def _plain(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())


def _unique(pairs: Iterable[tuple[int, str]]) -> dict[str, int | None]:
    """Index by name; None where several classes have the name."""
    found: dict[str, int | None] = {}
    for index, name in pairs:
        found[name] = index if found.get(name, index) == index else None
    return found


def match_classes(teacher: str, classes: int, known: KnownNames | None, wanted: Sequence[str]) -> ClassMatch:
    """Match the data's classes to the teacher's: by name, else by position where the numbers agree.

    Args:
        teacher: The source, for messages.
        classes: Number of the teacher's classes.
        known: The teacher's names, where known.
        wanted: Names of the data's classes.

    Raises:
        UserError: when the numbers differ and not every name is known, or when some names are known and stand in
            another order than in the data.
    """
    found = [known.find(name) if known else None for name in wanted]
    columns = [index for index in found if index is not None]
    if len(columns) == len(wanted) == len(set(columns)):
        return ClassMatch(tuple(columns), _by_name(columns, classes))
    unknown = [name for name, index in zip(wanted, found, strict=True) if index is None]
    if classes != len(wanted):
        raise UserError(_other_number(teacher, classes, known, wanted, unknown))
    moved = [name for place, (name, index) in enumerate(zip(wanted, found, strict=True)) if index not in (None, place)]
    if moved:
        raise UserError(
            f"model.distill.teacher {teacher!r}: its classes stand in another order than the data's (such as "
            f"{moved[0]!r}), and it does not know all of them ({_some(unknown or moved)}). Say which is which with "
            f"--{_MAP}."
        )
    agree = f"{len(columns)} names agree" if columns else "names not comparable"
    return ClassMatch(tuple(range(classes)), f"{classes} classes matched by position ({agree})")


def _by_name(columns: list[int], classes: int) -> str:
    count = f"{len(columns)} classes" if len(columns) == classes else f"{len(columns)} of its {classes} classes"
    reordered = len(columns) == classes and columns != sorted(columns)
    return f"{count} matched by name{' (they stand in another order)' if reordered else ''}"


def _other_number(
    teacher: str, classes: int, known: KnownNames | None, wanted: Sequence[str], unknown: Sequence[str]
) -> str:
    problem = "the teacher's names are not known"
    if known:
        problem = f"not known to it by name are {_some(unknown)}" if unknown else "two of the data's are one of its"
    return (
        f"model.distill.teacher {teacher!r}: it has {classes} classes and the data has {len(wanted)}, and {problem}. "
        f"Give a teacher of the data's classes (such as a run of shvit-pl fit on them), or say which of its classes "
        f"is which with --{_MAP}."
    )


def mapped_classes(
    given: Mapping[Any, Any], classes: int, known: KnownNames | None, wanted: Sequence[str]
) -> ClassMatch:
    """Match as the user says; raises `UserError` unless every class of the data has a class of its own.

    Args:
        given: For the name of every class of the data an index or a name of the teacher's classes.
        classes: Number of the teacher's classes.
        known: The teacher's names, where known.
        wanted: Names of the data's classes.
    """
    targets = {str(name): target for name, target in given.items()}
    for name in targets:
        if name not in wanted:
            raise UserError(f"{_MAP}: {name!r} is no class of the data{did_you_mean(name, wanted)}.")
    missing = [name for name in wanted if name not in targets]
    if missing:
        raise UserError(f"{_MAP}: it must name every class of the data, and lacks {_some(missing)}.")
    columns = [_index(name, targets[name], classes, known) for name in wanted]
    column, times = Counter(columns).most_common(1)[0]
    if times > 1:
        same = [name for name, index in zip(wanted, columns, strict=True) if index == column]
        raise UserError(f"{_MAP}: {_some(same)} are all mapped to the teacher's class {column}; give each its own.")
    return ClassMatch(tuple(columns), f"{len(columns)} of its {classes} classes by class_map")


def _index(name: str, target: Any, classes: int, known: KnownNames | None) -> int:
    if type(target) is int:
        if 0 <= target < classes:
            return target
        raise UserError(f"{_MAP}: {name!r} is mapped to {target}; the teacher's classes are 0 to {classes - 1}.")
    index = known.find(str(target)) if known else None
    if index is not None:
        return index
    allowed = f"its index, from 0 to {classes - 1}{', or its name' if known else ' (its names are not known)'}"
    hint = did_you_mean(str(target), known.all()) if known else ""
    raise UserError(
        f"{_MAP}: {name!r} is mapped to {target!r}, which is no class of the teacher{hint}; give {allowed}."
    )


def read_class_map(given: Mapping[Any, Any] | str) -> dict[str, Any]:
    """The class map itself, read from its YAML or JSON file where one is named; raises `UserError`."""
    content: Any = given
    if isinstance(given, str):
        try:
            content = yaml.safe_load(Path(given).expanduser().read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            reason = getattr(error, "strerror", None) or one_line(error)
            raise UserError(
                f"{_MAP} {given!r}: taken for a YAML or JSON file, it can't be read ({reason}). Give a file, or "
                "{cat: 281, dog: 207}."
            ) from error
    if not isinstance(content, Mapping) or not content:
        raise UserError(f"{_MAP} {given!r}: for every class of the data, give the teacher's: {{cat: 281, dog: 207}}.")
    return {str(name): target for name, target in content.items()}


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:3]))
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown
