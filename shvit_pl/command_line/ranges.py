"""Ranges of numbers as types: they are checked in flags and configs, and in settings from Python."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, get_args, get_type_hints

from jsonargparse.typing import restricted_number_type

from shvit_pl.command_line.config_files import plain
from shvit_pl.compat import cores_of_process

if TYPE_CHECKING:  # mypy takes no type that a function makes
    Decay = float
    Fraction = float
    FromOne = int
    FromTwo = int
    FromZero = int
    Images = int
    NonNegative = float
    Opset = int
    Pixels = int
    Positive = float
    Probability = float
    Repeats = int
    Share = float
    Temperature = float
    Threads = int
    Views = int
    Workers = int
else:
    _FINITE = ("<", float("inf"))
    Positive = restricted_number_type("float above 0", float, [(">", 0), _FINITE])
    NonNegative = restricted_number_type("float from 0", float, [(">=", 0), _FINITE])
    Probability = restricted_number_type("float from 0 to 1", float, [(">=", 0), ("<=", 1), _FINITE])
    Fraction = restricted_number_type("float above 0 and below 1", float, [(">", 0), ("<", 1), _FINITE])
    Share = restricted_number_type("float above 0 to 1", float, [(">", 0), ("<=", 1)])
    Decay = restricted_number_type("float from 0 to below 1", float, [(">=", 0), ("<", 1)])
    FromZero = restricted_number_type("int from 0", int, 2 * [(">=", 0)])  # once has a name in jsonargparse
    FromOne = restricted_number_type("int from 1", int, (">=", 1))
    FromTwo = restricted_number_type("int from 2", int, (">=", 2))
    Images = restricted_number_type("int from 1 to 1048576", int, [(">=", 1), ("<=", 2**20)])
    Opset = restricted_number_type("int from 18 to 23", int, [(">=", 18), ("<=", 23)])  # PyTorch's exporter writes them
    Pixels = restricted_number_type("int from 1 to 4096", int, [(">=", 1), ("<=", 4096)])
    Repeats = restricted_number_type("int from 5", int, (">=", 5))  # quartiles of fewer measurements mean little
    Temperature = restricted_number_type("float from 0.01 to 1000", float, [(">=", 0.01), ("<=", 1000)])
    Views = restricted_number_type("int from 1 to 1000", int, [(">=", 1), ("<=", 1000)])
    _CORES = cores_of_process()
    Threads = restricted_number_type(f"int from 1 to {_CORES}", int, [(">=", 1), ("<=", _CORES)])
    _MOST = max(32, 4 * _CORES)
    Workers = restricted_number_type(f"int from 0 to {_MOST}", int, [(">=", 0), ("<=", _MOST)])


def out_of_range(section: str, config: object) -> Iterator[str]:
    """Yield a message for each field of a dataclass whose value its range excludes; make the others plain numbers."""
    for name, hint in get_type_hints(type(config)).items():
        value = getattr(config, name)
        kinds = [kind for kind in get_args(hint) or (hint,) if isinstance(kind, type)]
        ranges = [kind for kind in kinds if issubclass(kind, int | float) and kind not in (int, float, bool)]
        if ranges and isinstance(value, int | float):
            try:
                object.__setattr__(config, name, plain(ranges[0](value)))
            except ValueError as error:
                yield f"{wrong_number(f'{section}.{name}', ranges[0].__name__, str(error))}."


def wrong_number(name: str, number_type: str, text: str) -> str:
    """Shorten the message of a range; the names of those of whole numbers begin with `int`."""
    value = re.search(r"Given value: (.*)$|^(\S+) (?:does not|not an? )|: '(.*?)'", text)
    shown = f" {next(filter(None, value.groups()), repr(''))}" if value else ""
    whole = number_type.startswith("int")
    bounds = dict(re.findall(r"v([<>]=?)(-?[\d.e+]+)", text))
    words = {">=": "from", ">": "above", "<=": "to" if ">=" in bounds else "and at most", "<": "and below"}
    limits = " ".join(f"{word} {bounds[sign]}" for sign, word in words.items() if sign in bounds)
    if not limits:
        return f"{name}{shown}: allowed is {'a whole number' if whole else 'a number'}"
    return f"{name}{shown}: allowed are {'whole numbers' if whole else 'numbers'} {limits}"
