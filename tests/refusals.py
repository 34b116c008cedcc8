"""Refusals: one short line that says what is wrong."""

from contextlib import contextmanager

import pytest

from shvit_pl.cli import main
from shvit_pl.errors import UserError


@contextmanager
def refused(*words, error=UserError, longest=450):
    """Expect an error of one short line with these words; ` ... ` stands for anything between them."""
    with pytest.raises(error) as raised:
        yield raised
    for part in words or [""]:
        check_message(str(raised.value), part, longest)


def refusal(capsys, *args):
    """The line of a command that is refused."""
    capsys.readouterr()
    assert main([*map(str, args)]) == 2
    message = capsys.readouterr().err
    assert message.startswith(f"shvit-pl {args[0]}")
    check_message(message.removesuffix("\n"))
    return message


def check_message(message, words="", longest=450):
    assert all(part in message for part in words.split(" ... ")), message
    assert "\n" not in message
    assert len(message) < longest
