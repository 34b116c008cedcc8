"""The one exception for a user's mistake."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(ValueError):
    """A mistake in what the user asked for: shown as one message, without a traceback, exit code 2."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` for the known word nearest to `word`, or an empty string."""
    matches = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" (did you mean '{matches[0]}'?)" if matches else ""


def system_error(error: OSError) -> str:
    """What the system refuses (a full disk, a folder that may not be written, ...) in one line, and what helps."""
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror}; make room or get access, or give another --trainer.default_root_dir."


def one_line(error: BaseException) -> str:
    """An exception's message in one line, or its name where it has none."""
    return " ".join(str(error).split()) or type(error).__name__
