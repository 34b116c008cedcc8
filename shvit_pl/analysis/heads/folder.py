"""The folder of a study: its settings, what has been found so far, and in the end its results."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from shvit_pl.analysis.heads.found.sums import Found, read_found
from shvit_pl.deploy.measuring import condition_differences
from shvit_pl.deploy.output import holds_results
from shvit_pl.errors import UserError
from shvit_pl.files import remove
from shvit_pl.runs.claim import claim, release
from shvit_pl.runs.folder import FIGURES, SUMMARY

SETTINGS = "heads_study.json"  # a folder is a study's where this is
FOUND = "found.pt"
HEADS = "heads.csv"
LAYERS = "layers.csv"
PICTURES = ("change", "heat_maps", "similarity", "maps")
EVENTS = "events.out.tfevents.*"
_FLAG = "--output"


def check_folder(folder: Path, settings: Mapping[str, Any], overwrite: bool) -> None:
    """Raise `UserError` where a folder holds something else than this study, and may not be replaced."""
    if not holds_results(folder, lambda there: (there / SETTINGS).is_file()):
        return
    claim(folder, SETTINGS, _FLAG)  # raises where another process is at it
    release(folder)
    differs = _difference(settings, _read_settings(folder))
    if differs and not overwrite:
        raise UserError(f"{_FLAG} {str(folder)!r}: {differs}. Give a new folder, or --overwrite to replace it.")


@contextmanager
def claimed(folder: Path, settings: Mapping[str, Any]) -> Iterator[Found]:
    """Keep a folder that `check_folder` allows for this process, and give what it holds of the study.

    Args:
        folder: Made where it is not there; results with other settings are replaced.
        settings: Those of the study.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SETTINGS).touch()
    claim(folder, SETTINGS, _FLAG)
    try:
        if _difference(settings, _read_settings(folder)):  # overwritten, or new
            clear(folder)
            (folder / SETTINGS).write_text(json.dumps(settings, indent=2) + "\n")  # in place: the lock is on it
        yield _read(folder)
    finally:
        release(folder)


def clear(folder: Path) -> None:
    """Delete the results of a study, and nothing else."""
    for name in (FOUND, HEADS, LAYERS, SUMMARY, *(f"{FIGURES}/{picture}.png" for picture in PICTURES)):
        remove(folder / name)
    for events in folder.glob(EVENTS):
        remove(events)


def _read(folder: Path) -> Found:
    if not (folder / FOUND).is_file():
        return Found()
    try:
        return read_found(folder / FOUND)
    except (OSError, ValueError, TypeError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise UserError(f"{_FLAG} {str(folder)!r}: its {FOUND} is damaged. Delete that file to begin again.") from error


def _read_settings(folder: Path) -> dict[str, Any]:
    """Empty where they are damaged, which differs from all."""
    try:
        return dict(json.loads((folder / SETTINGS).read_text()))
    except (OSError, ValueError, TypeError):
        return {}


def _difference(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str:
    """What differs, in a few words; empty where nothing does."""
    if not theirs:
        return f"its {SETTINGS} is damaged"
    differs = condition_differences(
        json.loads(json.dumps(ours)), theirs, lambda name, was, now: f"{name} was {_short(was)} and is {_short(now)}"
    )
    return differs and f"it holds a study with other settings: {differs}"


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:12]}..."
