"""Replacement of a machine's paths by names or relative paths in what is published.

Settings are replaced value by value. Sentences need a search: a sweep's table names paths of other runs, and notes hold
paths as they were opened, so not all of them stand in the settings.
"""

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

_CLASS_KEYS = ("classes", "class_names")  # their names may look like paths: /m/01yrx is a cat in Open Images
_ABSOLUTE = re.compile(
    r"(?<![\w.:/\\<-])(?:~|[A-Za-z]:)?[/\\](?:[^\s/\\'\",;:=(){}\[\]]+[/\\])+([^\s/\\'\",;:=(){}\[\]]*)"
)
_MIN_LENGTH = 4  # a shorter path, such as /, would match within others


class Paths:
    """The paths in a run's settings, and their public names.

    A path below the working directory becomes relative to it; of any other the last name stays.

    Args:
        config: Content of the run's `config.yaml`.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        own = [str(Path.cwd()), os.path.expanduser("~"), tempfile.gettempdir()]
        known = {text for text in [*_texts(config), *own] if _is_outside(text) and len(text) >= _MIN_LENGTH}
        self._names = {text: _public(text) for text in sorted(known, key=len, reverse=True)}

    def config(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return a `config.yaml` with public names."""
        return self._clean(dict(config))

    def summary(self, summary: Mapping[str, Any]) -> dict[str, Any]:
        """Return a `summary.json` with public names."""
        words = [self._word(word) for word in _words(summary.get("command") or "")]
        return {**self._clean(dict(summary)), "command": shlex.join(words)}

    def _word(self, word: str) -> str:
        """Clean one word of a command line, which may be `--flag=value`."""
        flag, equals, value = word.partition("=")
        return f"{flag}={self.text(value)}" if word.startswith("-") and equals else self.text(word)

    def text(self, text: str) -> str:
        """Return a text with public names."""
        if _is_outside(text):
            return _public(text)
        for path, name in self._names.items():
            literal = name.replace("\\", r"\\")  # a backslash would begin an escape
            below = "" if name == "." else f"{literal}/"  # the working directory vanishes before what lies in it
            text = re.sub(rf"(?<![\w.-]){re.escape(path)}/(?=\w)", below, text)
            text = re.sub(rf"(?<![\w.-]){re.escape(path)}(?![\w.-])", literal, text)
        return _ABSOLUTE.sub(lambda match: match[1] or "folder", text)

    def _clean(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: item if key in _CLASS_KEYS else self._clean(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._clean(item) for item in value]
        return self.text(value) if isinstance(value, str) else value


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        value = [item for key, item in value.items() if key not in _CLASS_KEYS]
    if isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, str):
        yield value


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError:  # an unpaired quote
        return command.split()


def _is_outside(text: str) -> bool:
    """Return whether a whole text is a path that tells where it lies."""
    if "\n" in text:
        return False
    path = Path(text)
    return path.is_absolute() or bool(PureWindowsPath(text).drive) or text.startswith("~") or ".." in path.parts


def _public(text: str) -> str:
    """Return a path relative to the working directory if it is below it, else its last name."""
    path, here, private = Path(os.path.expanduser(text)), Path.cwd(), _private_names()
    if path.is_absolute() and path.resolve().is_relative_to(here):
        below = path.resolve().relative_to(here)
        if private.isdisjoint(below.parts):
            return below.as_posix()
    name = PureWindowsPath(text).name if "\\" in text else path.name
    return name if name not in {"", "..", "~", *private} else "folder"


def _private_names() -> set[str]:
    names = {Path(os.path.expanduser("~")).name}
    with suppress(KeyError, OSError):  # a container's user may have no name
        names.add(getpass.getuser())
    return names
