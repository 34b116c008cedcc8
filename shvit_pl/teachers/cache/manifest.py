"""What a cache of a teacher's answers says of itself: what they depend on, and how they are laid out in files."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from shvit_pl.errors import UserError
from shvit_pl.files import replacing
from shvit_pl.teachers.cache.answers import index_type

FORMAT = 1
FLAG = "model.distill.cache"
NAME = "manifest.json"
_OF_SLOT = 4 + 3 * 4 + 4 + 4 * 2 + 4  # bytes of row, key, lambda, rectangle and tail
_OF_BATCH, _BATCH = 580, 1000  # bytes that the file format adds to so many rows
_OF_SHARD = 2400  # bytes of its schema and of the files beside it


class Shard(NamedTuple):
    """A folder of answers.

    Attributes:
        number: Its place among all.
        name: Of the folder.
        slots: Those that are answered in it, counted through all views.
    """

    number: int
    name: str
    slots: range


@dataclass(frozen=True)
class Manifest:
    """What a cache is; written before its first answer.

    Attributes:
        settings: What the answers depend on, by readable names; another value makes a cache stale.
        origin: Where the images came from, to explain other rows; not compared otherwise.
        classes: Number of classes.
        slots: Slots of a view.
        views: Number of views.
        top_k: Logits of an answer.
        tau: Temperature at which the others keep their probability.
        shard_slots: Slots of a shard.
        check: What was measured of the teacher, in one line.
        precision: That the teacher computes in.
        format: Version of the files.
    """

    settings: dict[str, Any]
    classes: int
    slots: int
    views: int
    top_k: int
    tau: float
    origin: dict[str, Any] = field(default_factory=dict)
    shard_slots: int = 50_000
    check: str = ""
    precision: str = ""
    format: int = FORMAT

    @property
    def fingerprint(self) -> str:
        """A hash of the settings and of the files' version."""
        return _digest({"format": self.format, "settings": self.settings})

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
        """Bytes that the whole cache takes."""
        answer = min(self.top_k, self.classes) * (2 + (2 if index_type(self.classes) == "int16" else 4))
        batches = sum(-(-len(shard.slots) // _BATCH) for shard in self.shards)
        return self.views * self.slots * (_OF_SLOT + answer) + batches * _OF_BATCH + len(self.shards) * _OF_SHARD

    def save(self, folder: Path) -> None:
        """Write it into the folder, whole or not at all."""
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / NAME) as partial:
            partial.write_text(json.dumps({**asdict(self), "sha256": _digest(asdict(self))}, indent=2) + "\n")

    def differences(self, here: Manifest) -> str:
        """How another one's settings differ, in words; empty where they don't."""
        different = _differences(self.settings, here.settings)
        if "data.rows" in different:
            different |= _differences(self.origin, here.origin)
        if self.format != here.format:
            different["format"] = f"format {self.format} there, {here.format} here"
        return ", ".join(different.values())


def read_manifest(folder: Path) -> Manifest:
    """The manifest in a folder; raises `UserError` where there is no folder, or no manifest in it."""
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
    names = [*there, *(name for name in here if name not in there)]
    here = json.loads(json.dumps(here))  # as the other one was read
    return {
        name: _difference(name, there.get(name), here.get(name)) for name in names if there.get(name) != here.get(name)
    }


def _difference(name: str, there: Any, here: Any) -> str:
    if name == "data.rows" or len(f"{there}{here}") > 80:
        return f"other {name}"
    return f"{name} {there} there, {here} here"
