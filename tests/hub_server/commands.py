"""Commands of the package in a process of their own, which speaks to a Hub."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

_RUNNER = """
import io, json, sys
from contextlib import redirect_stderr, redirect_stdout
from shvit_pl.cli import main

answers = []
for command in json.load(sys.stdin):
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        code = main(command)
    answers.append({"code": code, "out": out.getvalue(), "err": err.getvalue()})
print(json.dumps(answers))
"""


@dataclass(frozen=True)
class Answer:
    """Exit code and output of one command."""

    code: int
    out: str
    err: str


def run(commands: list[list[str]], folder: Path, environment: dict[str, str]) -> list[Answer]:
    """Run commands one after the other in one process, in `folder`."""
    result = subprocess.run(
        [sys.executable, "-c", _RUNNER],
        input=json.dumps(commands),
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return [Answer(**answer) for answer in json.loads(result.stdout.splitlines()[-1])]
