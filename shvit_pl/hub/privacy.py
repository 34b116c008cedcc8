"""Where a machine keeps its files is nobody else's business: paths become names, or relative ones."""

from __future__ import annotations

import getpass
import os
import re
import shlex
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path, PureWindowsPath
from typing import Any

_CLASSES = ("classes", "class_names")  # what looks like a path there is a name: /m/01yrx is a cat in Open Images
_ABSOLUTE = re.compile(
    r"(?<![\w.:/\\<-])(?:~|[A-Za-z]:)?[/\\](?:[^\s/\\'\",;:=(){}\[\]]+[/\\])+([^\s/\\'\",;:=(){}\[\]]*)"
)
_SHORTEST = 4  # characters of a path that is looked for within sentences


class Paths:
    """The paths in a run's settings, and what stands for them in public.

    What lies below the working directory becomes relative to it, of all else the last name stays.

    Args:
        config: The run's `config.yaml`.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        own = [str(Path.cwd()), os.path.expanduser("~"), tempfile.gettempdir()]
        found = {text for text in [*_texts(config), *own] if _is_outside(text) and len(text) >= _SHORTEST}
        self._known = {text: _public(text) for text in sorted(found, key=len, reverse=True)}

    def config(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """A `config.yaml` without them."""
        return self._clean(dict(config))

    def summary(self, summary: Mapping[str, Any]) -> dict[str, Any]:
        """A `summary.json` without them."""
        cleaned = self._clean({key: value for key, value in summary.items() if key != "command"})
        words = [self.word(word) for word in _words(summary.get("command") or "")]
        return {**cleaned, "command": shlex.join(words)}

    def word(self, word: str) -> str:
        """One word of a command line, which may be `--flag=value`."""
        flag, equals, value = word.partition("=")
        if word.startswith("-") and equals:
            return f"{flag}={self.text(value)}"
        return self.text(word)

    def text(self, text: str) -> str:
        """A text without them."""
        if _is_outside(text):
            return _public(text)
        for path, name in self._known.items():
            text = _replaced(text, path, name)
        return _ABSOLUTE.sub(lambda match: match[1] or "folder", text)

    def _clean(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: each if key in _CLASSES else self._clean(each) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [self._clean(each) for each in value]
        return self.text(value) if isinstance(value, str) else value


def _replaced(text: str, path: str, name: str) -> str:
    """A text with a name in place of a path; that of the working directory vanishes before what lies in it."""
    before = "" if name == "." else f"{name}/"
    text = re.sub(rf"(?<![\w.-]){re.escape(path)}/(?=\w)", lambda _: before, text)
    return re.sub(rf"(?<![\w.-]){re.escape(path)}(?![\w.-])", lambda _: name, text)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        value = [each for key, each in value.items() if key not in _CLASSES]
    if isinstance(value, list | tuple):
        for each in value:
            yield from _texts(each)
    elif isinstance(value, str):
        yield value


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError:  # an unpaired quote
        return command.split()


def _is_outside(text: str) -> bool:
    """Whether a whole text is a path that tells where it lies."""
    return "\n" not in text and (Path(text).is_absolute() or bool(PureWindowsPath(text).drive) or _goes_up(text))


def _goes_up(text: str) -> bool:
    return text.startswith("~") or ".." in Path(text).parts


def _public(text: str) -> str:
    """What stands for a path: relative to the working directory where it is below it, else its last name."""
    path, here, private = Path(os.path.expanduser(text)), Path.cwd(), _private()
    if path.is_absolute() and path.resolve().is_relative_to(here):
        below = path.resolve().relative_to(here)
        if private.isdisjoint(below.parts):
            return below.as_posix()
    name = PureWindowsPath(text).name if "\\" in text else path.name
    return name if name not in {"", "..", "~", *private} else "folder"


def _private() -> set[str]:
    """Names of folders that are a person's."""
    names = {Path(os.path.expanduser("~")).name}
    with suppress(KeyError, OSError):  # a container's user may have no name
        names.add(getpass.getuser())
    return names
