"""Sweeps of small runs through the command, on the embedded digits, and refusals."""

import io
from contextlib import redirect_stdout

import pytest

from shvit_pl.cli import main
from shvit_pl.errors import UserError
from shvit_pl.sweep.engine.storage import open_storage
from shvit_pl.sweep.engine.sweep_study import SweepStudy

FLAGS = [
    "--model.design.name=tiny",
    "--data.image_size=64",
    "--data.batch_size=16",
    "--data.num_workers=0",
    "--trainer.limit_train_batches=3",
    "--trainer.limit_val_batches=2",
    "--trainer.max_epochs=1",
    "--speed=false",
]
LONGEST = 430  # characters of a message
PATCHES = "base: s1.yaml\ngrid: {model.design.patch_size: [16, 8]}\n"


def sweep(folder, text, *flags):
    """Run a sweep in this process, with its file beside its folder; returns the exit code, and what it printed."""
    file = folder.parent / f"{folder.name}.yaml"
    file.write_text(text)
    with redirect_stdout(io.StringIO()) as printed:
        code = main(["sweep", f"--config={file}", f"--folder={folder}", *FLAGS, *flags])
    return code, printed.getvalue()


def trials(folder):
    """The trials in a sweep folder's study."""
    return SweepStudy(open_storage(folder, None), folder.name).trials()


def files(folder):
    """Every file in a folder, with its content."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_refused(parts, action, *args):
    """An action raises a `UserError` of one short line with these parts."""
    with pytest.raises(UserError) as refused:
        action(*args)
    message = str(refused.value)
    assert all(part in message for part in parts), message
    assert "\n" not in message
    assert len(message) < LONGEST
    return message
