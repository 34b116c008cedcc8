"""Without the extra `[sweep]`, its commands say what to install."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WITHOUT = """
import sys
from importlib.machinery import PathFinder
class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in {packages} else PathFinder.find_spec(name, path, target)
sys.meta_path[sys.meta_path.index(PathFinder)] = Without
from shvit_pl.cli import main
sys.exit(main(sys.argv[1:]))
"""


def command_without(packages, *args):
    """A command in a process whose import system can't find packages, as where the extra was not installed."""
    program = [sys.executable, "-c", WITHOUT.format(packages=packages), *args]
    return subprocess.run(program, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})


@pytest.mark.parametrize(
    ("packages", "args"),
    [(("scipy",), ["sweep", "--config=my.yaml"]), (("optuna", "scipy"), ["report", "--folder=."])],
    ids=str,
)
def test_packages_that_are_not_installed(packages, args, tmp_path):
    done = command_without(packages, *args)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    for text in (f"shvit-pl {args[0]}: error: ", ", ".join(packages), "pip install 'shvit-pl[sweep]'"):
        assert text in done.stderr
    assert not any(tmp_path.iterdir())


def test_the_help_needs_no_extra():
    done = command_without(("optuna",), "sweep", "--help")
    assert done.returncode == 0
    assert "--folder" in done.stdout
