"""What every mistake has in common: one line on stderr, exit code 2, and nothing left behind."""

import re

from tests.cli.runs import fit

LONGEST = 450  # characters of a message


def line_of(capsys):
    """The one line on stderr; a run has not begun."""
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1, printed.err
    assert re.match(r"shvit-pl( [\w-]+)?: error: ", printed.err)
    assert len(printed.err) < LONGEST
    assert "epoch " not in printed.out
    return printed.err


def files(folder):
    return {path for path in folder.rglob("*") if path.is_file()}


def assert_refused(flags, said, capsys, folder):
    before = files(folder)
    assert fit(*flags) == 2
    line = line_of(capsys)
    for text in said:
        assert text in line
    assert files(folder) == before
