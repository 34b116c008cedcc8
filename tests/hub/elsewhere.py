"""Virtual environments that hold some of the installed packages, and no more."""

from __future__ import annotations

import json
import os
import subprocess
import venv
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

import shvit_pl


class Environment:
    """A real virtual environment, whose packages are links to the installed ones.

    Args:
        folder: Where to make it.
        packages: Names of distributions; what they require comes with them.
    """

    def __init__(self, folder: Path, *packages: str) -> None:
        venv.create(folder, with_pip=False, symlinks=True)
        self._python = folder / "bin" / "python"
        (site,) = folder.glob("lib/python*/site-packages")
        if "shvit-pl" in packages:  # this one, wherever it was installed from
            (site / "shvit_pl").symlink_to(Path(shvit_pl.__file__).parent)
        for name in _closure(packages):
            _link(name, site)

    def run(self, program: str, *args: str, env: dict[str, str] | None = None) -> object:
        """Run a program; returns what it prints as JSON on its last line."""
        own = {key: value for key, value in (env or os.environ).items() if not key.startswith("PYTHON")}
        command = [self._python, "-c", program, *args]
        done = subprocess.run(command, env=own, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])


def _closure(packages: tuple[str, ...]) -> set[str]:
    """Names of installed distributions: these, what they require, what that requires, and so on."""
    found: set[str] = set()
    waiting = list(packages)
    while waiting:
        name = waiting.pop().lower().replace("_", "-")
        try:
            requirements = distribution(name).requires or []
        except PackageNotFoundError:  # of another platform
            continue
        if name not in found:
            found.add(name)
            parsed = [Requirement(text) for text in requirements]
            waiting += [each.name for each in parsed if each.marker is None or each.marker.evaluate({"extra": ""})]
    return found


def _link(name: str, site: Path) -> None:
    installed = distribution(name)
    for top in {file.parts[0] for file in installed.files or () if file.parts[0] not in ("..", "__pycache__")}:
        source, target = Path(str(installed.locate_file(top))), site / top
        if source.exists() and not target.exists() and not top.endswith(".pth"):
            target.symlink_to(source)
