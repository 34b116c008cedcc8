"""The pages of the documentation, their blocks of code, and running those that need nothing special."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", ROOT / "benchmarks" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
NEEDS = {"network", "GPU", "hours", "cluster"}  # what CI lacks

_BLOCK = re.compile(r"(?:^<!-- needs: (.*?) -->\n)?^```(bash|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INSTALL = re.compile(r"^pip install -e \S+(?: && | *(?:#.*)?\n)", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A block of `code` in `language` (bash or python), and which of `NEEDS` it has."""

    language: str
    code: str
    needs: list[str]


def page_name(page):
    return page.relative_to(ROOT).as_posix()


def blocks(page):
    """A page's blocks, in order."""
    found = _BLOCK.findall(page.read_text())
    return [Block(language, code, needs.split(", ") if needs else []) for needs, language, code in found]


def run_page(page, tools):
    """Run a page's unmarked blocks in order, as written, in this folder, and return what each printed.

    The package is installed already. `tools`: an empty folder, for a `shvit-pl` where this Python has none.
    """
    script = tools / "shvit-pl"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m shvit_pl.cli "$@"\n')
    script.chmod(0o755)
    path = os.pathsep.join([str(Path(sys.executable).parent), str(tools), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}
    return [_run(block, environment) for block in blocks(page) if not block.needs]


def _run(block, environment):
    if block.language == "bash":
        program = ["bash", "-euo", "pipefail", "-c", _INSTALL.sub("", block.code)]
    else:
        program = [sys.executable, "-c", block.code]
    done = subprocess.run(program, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, f"{block.code}\n{done.stdout[-3000:]}"
    return done.stdout
