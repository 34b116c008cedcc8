"""Where a sweep lives: its folder and its study, and which sweep is there already."""

from __future__ import annotations

from pathlib import Path

from shvit_pl.command_line.checks import check_writable
from shvit_pl.errors import UserError
from shvit_pl.runs.folder import CONFIG
from shvit_pl.sweep.plan.definition import Definition
from shvit_pl.sweep.study.board import Board
from shvit_pl.sweep.study.folder import JOURNAL, SWEEP, read_record
from shvit_pl.sweep.study.storage import open_storage


def study_of(folder: Path, storage: str | None, study: str | None) -> str:
    """The study's name: as given, or that of the folder's sweep, or the folder's own.

    Args:
        folder: The sweep folder.
        storage: URL of a database; None for the journal in the folder.
        study: As given on the command line.

    Raises:
        UserError: for a folder that can't be written or is a run's, a storage that can't be reached, or a folder whose
            sweep is in another study.
    """
    check_writable("--folder", str(folder))
    if (folder / CONFIG).is_file():
        raise UserError(f"--folder {str(folder)!r}: a run's folder; give one for the sweep, such as sweeps/macro.")
    if storage is not None:
        open_storage(folder, storage)
    if not (folder / SWEEP).is_file():
        return study or folder.resolve().name
    facts = read_record(folder)
    if facts["study"] != (study or facts["study"]) or (facts["storage"] is None) != (storage is None):
        given = f"--storage {facts['storage']} --study {facts['study']}" if facts["storage"] else "neither"
        raise UserError(
            f"--folder {str(folder)!r}: the study of its sweep is another one than --storage and --study say; give "
            f"{given}, or another --folder."
        )
    return str(facts["study"])


def sweeps_there(folder: Path, storage: str | None, study: str) -> list[tuple[Definition, str]]:
    """What the folder and the study say that they are the sweep of, and the flag that says where; makes nothing."""
    found = []
    if (folder / SWEEP).is_file():
        found.append((Definition.from_dict(read_record(folder)["definition"]), place(folder, None, study)))
    if storage is not None or (folder / JOURNAL).is_file():
        try:
            stored = Board(open_storage(folder, storage), study).definition()
        except KeyError:  # no such study
            return found
        found += [(stored, place(folder, storage, study))] if stored is not None else []
    return found


def place(folder: Path, storage: str | None, study: str) -> str:
    """The flag that says where a sweep is, and its value."""
    return f"--study {study!r}" if storage else f"--folder {str(folder)!r}"
