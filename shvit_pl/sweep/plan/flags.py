"""Keys, flags and values as a sweep file writes them: their shape, and how `fit` takes them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from reprlib import repr as short
from typing import Any

from shvit_pl.command_line.config_files import flat
from shvit_pl.command_line.parser import SECTIONS, no_section
from shvit_pl.errors import UserError, did_you_mean


def check_keys(section: Iterable[Any], allowed: Sequence[str], where: str) -> None:
    """Raise `UserError` for a key that a section of a sweep file can't have."""
    for key in section:
        if key not in allowed:
            hint = did_you_mean(str(key), allowed)
            raise UserError(f"{where}: {key}: no such key{hint}; allowed are {', '.join(allowed)}.")


def check_flag(flag: Any, value: Any, where: str) -> None:
    """Raise `UserError` for a section where a flag should be, and a value that can't be written on a command line.

    Args:
        flag: The flag's name.
        value: Its value.
        where: The part of the sweep file, for the message.
    """
    if flag in SECTIONS and isinstance(value, Mapping) and value:
        inner, choice = next(flat(value, f"{flag}."))
        raise UserError(f"{where}: {flag} is a section; write {inner}: {short(choice)} in one line.")
    if flag in SECTIONS:
        raise UserError(f"{where}: {no_section(flag, short(value))}.")
    if not isinstance(flag, str):
        raise UserError(f"{where}: {flag!r}: allowed are flags of fit, such as model.design.patch_size.")
    try:
        json.dumps(value)
    except TypeError as error:
        raise UserError(f"{where}: {flag} {value}: YAML reads this as no number or text; put it in quotes.") from error


def check_choices(flag: Any, values: Any, where: str) -> None:
    """Raise `UserError` where the choices of a flag are no list of different values."""
    check_flag(flag, values, where)
    if not isinstance(values, list) or not values:
        raise UserError(f"{where}: {flag} {short(values)}: allowed is a list of values.")
    if len({written(value) for value in values}) < len(values):
        raise UserError(f"{where}: {flag} {short(values)}: a value is there twice; keep one.")


def as_flags(choices: Mapping[str, Any]) -> list[str]:
    """Choices as `fit` takes them."""
    return [f"--{flag}={written(value)}" for flag, value in choices.items()]


def written(value: Any) -> str:
    """A value on a command line."""
    return value if isinstance(value, str) else json.dumps(value)


def short_names(flags: Iterable[str]) -> dict[str, str]:
    """The last component of each flag, with more of them where two flags end alike."""
    parts = {flag: flag.split(".") for flag in flags}
    chosen = {}
    for flag, own in parts.items():
        others = [other for key, other in parts.items() if key != flag]
        lengths = (n for n in range(1, len(own)) if all(own[-n:] != other[-n:] for other in others))
        chosen[flag] = ".".join(own[-next(lengths, len(own)) :])
    return chosen
