"""Private API of other libraries, collected so that an upgrade that breaks one breaks a test of this file."""

from __future__ import annotations

from argparse import Action, ArgumentParser


def parser_actions(parser: ArgumentParser) -> list[Action]:
    """Return the options of a parser; argparse has no public list of them."""
    return parser._actions
