"""Other libraries still have the private API that is used here."""

from argparse import ArgumentParser

from shvit_pl import compat


def test_parser_actions_are_its_options():
    parser = ArgumentParser()
    parser.add_argument("--name")
    assert [action.dest for action in compat.parser_actions(parser)] == ["help", "name"]
