"""What every mistake has in common: one line on stderr, exit code 2, and nothing left behind."""

import re
from pathlib import Path

import pytest

from shvit_pl.cli import main
from tests.cli.runs import QUICK

LONGEST = 450  # characters of a message


@pytest.fixture
def line(capsys):
    """Return the one line on stderr; a run has not begun."""

    def read():
        printed = capsys.readouterr()
        assert printed.err.count("\n") == 1, printed.err
        assert re.match(r"shvit-pl( [\w-]+)*: error: ", printed.err)
        assert len(printed.err) < LONGEST
        assert "epoch " not in printed.out
        return printed.err

    return read


def files():
    return {path for path in Path().rglob("*") if path.is_file()}


@pytest.fixture
def refused(line, capsys):
    """Check that a command with these flags, after quick ones if it trains, is refused with these words."""

    def check(flags, *words, command="fit"):
        before = files()
        capsys.readouterr()
        assert main([command, *(QUICK if command in ("fit", "cache-teacher") else ()), *flags]) == 2
        message = line()
        assert message.startswith((f"shvit-pl {command}: error: ", f"shvit-pl: error: no command {command!r}"))
        for text in words:
            assert text in message
        assert files() == before

    return check
