"""A sweep folder: names of the files in it, and `sweep.yaml`, the record of what it is the sweep of."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from shvit_pl.command_line.config_files import read_config
from shvit_pl.errors import UserError
from shvit_pl.files import write_whole
from shvit_pl.sweep.plan.definition import Definition

SWEEP = "sweep.yaml"  # for people and for `report`
JOURNAL = "study.journal"
RUNS = "runs"  # each point's run folder, by its key
LOGS = "logs"  # what each run and each worker printed
_FACTS = {"command", "study", "storage", "definition"}


def write_record(folder: Path, definition: Definition, study: str, storage: str | None, command: Sequence[str]) -> None:
    """Write `sweep.yaml`."""
    facts = {
        "command": shlex.join(command),
        "study": study,
        "storage": storage,
        "definition": definition.as_dict(),
    }
    write_whole(folder / SWEEP, yaml.safe_dump(facts, sort_keys=False).encode())


def read_record(folder: Path) -> dict[str, Any]:
    """Read `sweep.yaml`; raises `UserError` where a folder is no sweep's."""
    if not (folder / SWEEP).is_file():
        raise UserError(f"--folder {str(folder)!r}: no sweep's folder (no {SWEEP} in it); give that of shvit-pl sweep.")
    facts = read_config(str(folder / SWEEP))
    if facts.keys() != _FACTS:
        raise UserError(
            f"--folder {str(folder)!r}: its {SWEEP} is not the record of a sweep. Give another folder, or rename it."
        )
    return facts
