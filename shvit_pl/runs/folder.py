"""What a run leaves behind: the run folder and its `summary.json`.

`<default_root_dir>/<name>/version_<k>/` holds `config.yaml`, `summary.json`, `metrics.csv`, `events.out.tfevents.*`,
`figures/` and `checkpoints/{best,last}.ckpt`.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from uuid import uuid4

SUMMARY = "summary.json"
CONFIG = "config.yaml"
METRICS = "metrics.csv"
CHECKPOINTS = "checkpoints"
FIGURES = "figures"

EMA = "_ema"  # ends the names of metrics that the averaged weights reach


def interrupted_run(checkpoint: str) -> Path | None:
    """The folder of the run that wrote `checkpoint`, if that run has not ended well."""
    path = Path(checkpoint)
    folder = path.parent.parent
    is_run = path.absolute().parent.name == CHECKPOINTS and (folder / CONFIG).is_file()
    return folder if is_run and not (folder / SUMMARY).exists() else None


def write_whole(path: Path, content: bytes) -> Path:
    """Write a file at once: whole, or not at all. Its temporary name is nobody else's, even on a shared disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def write_summary(folder: Path, summary: dict[str, Any]) -> None:
    """Write the `summary.json` of a run that ended well."""
    write_whole(folder / SUMMARY, (json.dumps(summary, indent=2) + "\n").encode())


def read_summary(folder: Path) -> dict[str, Any]:
    """Read the `summary.json` of a run that ended well."""
    summary: dict[str, Any] = json.loads((folder / SUMMARY).read_text())
    return summary


def finished_run(folder: Path) -> Path | None:
    """The newest run folder `version_<k>` in `folder` whose run ended well, if there is one."""
    return _newest(summary.parent for summary in folder.glob(f"version_*/{SUMMARY}"))


def newest_run(folder: Path) -> Path | None:
    """The newest run folder `version_<k>` in `folder`, if there is one."""
    return _newest(folder.glob("version_*"))


def _newest(folders: Iterable[Path]) -> Path | None:
    numbered = [folder for folder in folders if folder.name[8:].isdecimal()]
    return max(numbered, key=lambda folder: int(folder.name[8:]), default=None)


def checkpoint_of_run(folder: Path) -> Path | None:
    """The best checkpoint of a run folder, else its last one, if there is one."""
    names = ("best.ckpt", "last.ckpt")
    return next((path for name in names if (path := folder / CHECKPOINTS / name).is_file()), None)


def read_curves(folder: Path) -> dict[str, list[tuple[float, float]]]:
    """Validation metrics over the epochs of a run (from 1), as `metrics.csv` has them: of each epoch, the last."""
    curves: dict[str, dict[float, float]] = {}
    if (folder / METRICS).is_file():
        for row in csv.DictReader((folder / METRICS).read_text().splitlines()):
            for name, value in row.items():
                if name.startswith("val/") and value and (row.get("epoch") or "").isdecimal():
                    curves.setdefault(name, {})[int(row["epoch"]) + 1] = float(value)
    return {name: sorted(values.items()) for name, values in curves.items()}
