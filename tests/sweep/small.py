"""Sweeps of small runs through the command, on the embedded digits."""

import io
from contextlib import redirect_stdout

from shvit_pl.cli import main
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
PATCHES = "base: s1.yaml\ngrid: {model.design.patch_size: [16, 8]}\n"


def arguments(folder, text, *flags):
    """The command line of a sweep whose file is written beside its folder."""
    file = folder.parent / f"{folder.name}.yaml"
    file.write_text(text)
    return ["sweep", f"--config={file}", f"--folder={folder}", *FLAGS, *flags]


def sweep(folder, text, *flags):
    """Run it in this process; returns the exit code, and what it printed."""
    with redirect_stdout(io.StringIO()) as printed:
        code = main(arguments(folder, text, *flags))
    return code, printed.getvalue()


def trials(folder):
    """The trials in a sweep folder's study."""
    return SweepStudy(open_storage(folder, None), folder.name).trials()


def files(folder):
    """Every file in a folder, with its content."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
