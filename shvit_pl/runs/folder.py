"""The run folder and its `summary.json`.

`<default_root_dir>/<name>/version_<k>/` holds `config.yaml`, `summary.json`, `metrics.csv`, `events.out.tfevents.*`,
`figures/` and `checkpoints/{best,last}.ckpt`.
"""

import json
import os
from pathlib import Path
from typing import Any

from shvit_pl.files import read_rows, write_whole

SUMMARY = "summary.json"
CONFIG = "config.yaml"
METRICS = "metrics.csv"
CHECKPOINTS = "checkpoints"
BEST, LAST = "best.ckpt", "last.ckpt"
FIGURES = "figures"


def interrupted_run(checkpoint: str) -> Path | None:
    """Return the folder of the run that wrote `checkpoint`, if that run has not ended well."""
    path = Path(checkpoint)
    folder = path.parent.parent
    is_run = path.absolute().parent.name == CHECKPOINTS and (folder / CONFIG).is_file()
    return folder if is_run and not (folder / SUMMARY).exists() else None


def write_summary(folder: Path, summary: dict[str, Any]) -> None:
    """Write the `summary.json` of a run that ended well."""
    write_whole(folder / SUMMARY, (json.dumps(summary, indent=2) + "\n").encode())


def read_summary(folder: Path) -> dict[str, Any]:
    """Read the `summary.json` of a run that ended well."""
    summary: dict[str, Any] = json.loads((folder / SUMMARY).read_text())
    return summary


def finished_run(folder: Path) -> Path | None:
    """Return the newest run folder `version_<k>` in `folder` whose run ended well, if there is one."""
    return next((run for run in _newest_first(folder) if (run / SUMMARY).is_file()), None)


def newest_run(folder: Path) -> Path | None:
    """Return the newest run folder `version_<k>` in `folder`, if there is one."""
    return next(iter(_newest_first(folder)), None)


def run_with_checkpoint(folder: Path) -> Path | None:
    """Return the newest run folder `version_<k>` in `folder` that has a checkpoint, if there is one."""
    return next((run for run in _newest_first(folder) if checkpoint_of_run(run)), None)


def _newest_first(folder: Path) -> list[Path]:
    numbered = [run for run in folder.glob("version_*") if run.name[8:].isdecimal()]
    return sorted(numbered, key=lambda run: int(run.name[8:]), reverse=True)


def checkpoint_of_run(folder: Path) -> Path | None:
    """Return the best checkpoint of a run folder, else its last one, if there is one."""
    return next((path for name in (BEST, LAST) if (path := folder / CHECKPOINTS / name).is_file()), None)


def last_checkpoint(folder: Path) -> Path | None:
    """Return the newest checkpoint of the newest run folder in `folder` that has one and has not ended well, if any."""
    for run in _newest_first(folder):
        files = [path for name in (LAST, "hpc_ckpt_*.ckpt") for path in (run / CHECKPOINTS).glob(name)]  # or by SLURM
        if files and not (run / SUMMARY).exists():
            return max(files, key=os.path.getmtime)
    return None


def read_curves(folder: Path) -> dict[str, list[tuple[float, float]]]:
    """Read validation metrics over the epochs of a run (from 1) from `metrics.csv`: of each epoch, the last."""
    curves: dict[str, dict[float, float]] = {}
    if (folder / METRICS).is_file():
        for row in read_rows(folder / METRICS):
            for name, value in row.items():
                if name.startswith("val/") and value and (row.get("epoch") or "").isdecimal():
                    curves.setdefault(name, {})[int(row["epoch"]) + 1] = float(value)
    return {name: sorted(values.items()) for name, values in curves.items()}
