"""Sweeps of small runs through the command, on the embedded digits, and refusals."""

import io
import subprocess
from contextlib import redirect_stderr, redirect_stdout, suppress
from functools import cache
from types import SimpleNamespace

import pytest

from shvit_pl.cli import main
from shvit_pl.errors import UserError
from shvit_pl.fit.check import FitCheck
from shvit_pl.fit.options import read_flags
from shvit_pl.fit.tasks import find_task
from shvit_pl.sweep import start
from shvit_pl.sweep.engine import local
from shvit_pl.sweep.engine.study import SweepStudy, open_journal

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


def fit(command, output):
    """Run `python -m shvit_pl.cli ...` in this process, which has imported everything; returns its exit code."""
    with redirect_stdout(output), redirect_stderr(output):
        return main(command[3:])


def start_here(command, log, environment):
    with log.open("a") as file, pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        code = fit(command, file)
    return SimpleNamespace(poll=lambda: code)


def call(command, **_):
    with io.StringIO() as output:
        return subprocess.CompletedProcess(command, fit(command, output), output.getvalue(), "")


def sweep(folder, text, *flags, common=FLAGS):
    """Run a sweep and its fits in this process, with its file beside its folder; returns exit code and output."""
    file = folder.parent / f"{folder.name}.yaml"
    file.write_text(text)
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as printed:
        patch.setattr(local, "start_process", start_here)
        patch.setattr(local, "end_processes", lambda ended: None)
        patch.setattr(start, "subprocess", SimpleNamespace(run=call))
        patch.setattr(start, "FitCheck", fit_check)
        code = main(["sweep", f"--config={file}", f"--folder={folder}", *common, *flags])
    return code, printed.getvalue()


def fit_check(flags=()):
    """The checks of `fit`: a parser takes a second to build, and serves all tests of a task."""
    task = "classification"
    with suppress(UserError):
        task = find_task("fit", read_flags(flags)).name
    return _of_task(task)


@cache
def _of_task(task):
    return FitCheck([f"--task={task}"])


def trials(folder):
    """The trials in a sweep folder's study."""
    return SweepStudy(open_journal(folder)).trials()


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
