"""Words for numbers, and lists of them."""

from collections.abc import Iterable, Sequence
from typing import Any

_MOST = 4  # different values that are listed


def shown(value: Any) -> str:
    """Return a value as it is typed after its flag; numbers to four significant digits."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def counted(count: int | str, noun: str) -> str:
    """Return words such as `1 run` and `2 runs`; empty without a count."""
    return f"{count} {noun}{'' if str(count) == '1' else 's'}" if count != "" else ""


def listed(parts: Sequence[str]) -> str:
    """Join such as `a, b and c`."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def join_distinct(values: Iterable[Any]) -> str:
    """Join the distinct known values, or return how many there are if they are many."""
    distinct = list(dict.fromkeys(shown(value) for value in values if value is not None))
    return " or ".join(distinct) if len(distinct) <= _MOST else f"{len(distinct)} different ones"


def wrap_if_present(before: str, text: str, after: str = "") -> str:
    """Return a text between two others; empty if the text is empty."""
    return f"{before}{text}{after}" if text else ""


def in_markdown(text: object) -> str:
    """Return text that neither breaks a table nor becomes HTML."""
    return " ".join(str(text).replace("|", "\\|").replace("<", "&lt;").split())


def joined(*parts: str) -> str:
    """Join the non-empty parts with commas."""
    return ", ".join(filter(None, parts))
