"""Private API of other libraries, collected so that an upgrade that breaks one breaks a test of this file."""

from __future__ import annotations

from argparse import Action, ArgumentParser
from pathlib import Path
from typing import Any


def parser_actions(parser: ArgumentParser) -> list[Action]:
    """Return the options of a parser; argparse has no public list of them."""
    return parser._actions


def load_timm_config(folder: Path) -> tuple[dict[str, Any], str, dict[str, Any]]:
    """Read the settings, the architecture and its arguments from a folder's config.json.

    timm makes the same reader public for a Hub repo, but not for a folder.
    """
    from timm.models._hub import load_model_config_from_path

    config: tuple[dict[str, Any], str, dict[str, Any]] = load_model_config_from_path(folder)
    return config
