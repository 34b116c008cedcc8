"""The exception for a user's mistake, and the parts of its messages."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from unicodedata import category


class UserError(ValueError):
    """A user's mistake: shown as a message without a traceback, exit code 2."""


def refuse(mistakes: Iterable[str]) -> None:
    """Raise `UserError` with all mistakes, a line each; return where there are none."""
    if lines := list(mistakes):
        raise UserError("\n".join(lines))


def check_fields(known: Iterable[str], names: Iterable[str], what: str) -> None:
    """Raise `UserError` for names that aren't fields of `what`, such as `model.design`, with those there are."""
    known = list(known)
    refuse(
        f"{what}.{name}: there is no such field{did_you_mean(name, known)}. There are {', '.join(known)}."
        for name in names
        if name not in known
    )


@contextmanager
def error_prefix(prefix: str) -> Iterator[None]:
    """Put a prefix, such as a flag or its section, before each line of a `UserError`."""
    try:
        yield
    except UserError as error:
        raise UserError("\n".join(f"{prefix}{line}" for line in str(error).splitlines())) from error


@contextmanager
def collected(mistakes: list[str]) -> Iterator[None]:
    """Add the lines of a `UserError` to `mistakes` instead of raising it."""
    try:
        yield
    except UserError as error:
        mistakes += str(error).splitlines()


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` for the known word that is like `word`, or an empty string."""
    meant = nearest(word, known)
    return f" (did you mean '{meant}'?)" if meant else ""


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that is `word` in another case, begins with it, or differs by few or swapped letters."""
    known = list(known)
    if same := [other for other in known if other.lower() == word.lower()]:
        return same[0]
    near = get_close_matches(word, known, n=3, cutoff=0.6)
    begun = [other for other in near if other.startswith(word)]
    swapped = [other for other in near if sorted(other) == sorted(word)]
    same_start = [other for other in get_close_matches(word, near, cutoff=0.75) if other[:1] == word[:1]]
    return next(iter([*begun, *swapped, *get_close_matches(word, near, cutoff=0.8), *same_start]), None)


def first_names(names: Sequence[str], most: int = 3) -> str:
    """Join the first names: `a, b, c, ...`."""
    return visible(", ".join(names[:most])) + (", ..." if len(names) > most else "")


def visible(text: str) -> str:
    r"""Return a text whose control characters are written as `\x1b`: a terminal would obey those of a name."""
    return "".join(repr(each)[1:-1] if category(each) in ("Cc", "Zl", "Zp") else each for each in text)


def first_few(texts: Sequence[str]) -> str:
    """Join the first three texts, and count the others: `a; b; c; and 2 more`."""
    return "; ".join([*texts[:3], *([f"and {len(texts) - 3} more"] if len(texts) > 3 else [])])


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception, then the one that it was raised from or while handling, and so on."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's message, or its name where it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def one_line(error: BaseException) -> str:
    """Return an exception's message in one line, or its name where it has none."""
    return " ".join(str(error).split()) or type(error).__name__
