"""What a model repository holds, written into a folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import yaml
from rich.filesize import decimal

from shvit_pl.hub.card import Sweep, write_card
from shvit_pl.hub.ended import EndedRun
from shvit_pl.hub.target import Target
from shvit_pl.hub.weights import save_weights
from shvit_pl.runs.folder import CONFIG, FIGURES, METRICS, SUMMARY, write_summary

_DRAWN = ("curves.png", "confusion_matrix.png")  # inputs.png is of the training images, which may not be ours to show
PUSHED = ("README.md", CONFIG, SUMMARY, METRICS, f"{FIGURES}/*")  # what a push replaces, or deletes where it is gone
_TIMMS = {"config.json", "model.safetensors"}


def write_files(run: EndedRun, folder: Path, target: Target, sweep: Sweep | None = None) -> None:
    """Write everything that is pushed of a run, and nothing else, into an empty folder.

    Args:
        run: The run.
        folder: Where to write.
        target: Where it will be, for the card's examples.
        sweep: The sweep that it is the best run of.

    Raises:
        UserError: for a checkpoint that is not whole.
    """
    model = save_weights(run, folder)
    (folder / CONFIG).write_text(yaml.safe_dump(run.config, sort_keys=False, allow_unicode=True))
    write_summary(folder, run.summary)
    if (run.folder / METRICS).is_file():
        shutil.copyfile(run.folder / METRICS, folder / METRICS)
    for name in _DRAWN:
        if (run.folder / FIGURES / name).is_file():
            (folder / FIGURES).mkdir(exist_ok=True)
            shutil.copyfile(run.folder / FIGURES / name, folder / FIGURES / name)
    write_card(run, model, folder, target, sweep)


def is_ours(folder: Path) -> bool:
    """Whether a folder holds what `write_files` has written, and nothing else."""
    names = {path.name for path in folder.iterdir()}
    return _TIMMS <= names <= {*PUSHED, FIGURES, *_TIMMS}


def tree(folder: Path) -> list[str]:
    """A line for each file in a folder: its size and its path in it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [f"{decimal(path.stat().st_size):>9}  {path.relative_to(folder).as_posix()}" for path in files]
