"""Names for a machine's paths in what is published: relative to the working directory, or else the last part alone."""

from __future__ import annotations

import getpass
import os
import re
import shlex
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path, PureWindowsPath
from typing import Any

_CLASS_KEYS = ("classes", "class_names")  # their names may look like paths: /m/01yrx is a cat in Open Images
_MIN_LENGTH = 4  # a shorter path, such as /, would match within others


class PublicNames:
    """The paths in settings, and the names under which they are published.

    Args:
        settings: Content of a `config.yaml`, or a list of such.
    """

    def __init__(self, settings: Any) -> None:
        paths = {path for text in _paths(settings) for path in (text, os.path.expanduser(text))}  # as given, as opened
        self._names = {path: public_name(path) for path in sorted(paths, key=len, reverse=True)}

    def __call__(self, value: Any) -> Any:
        """Return settings, or a sentence about them, with public names."""
        if isinstance(value, Mapping):
            return {key: item if key in _CLASS_KEYS else self(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self(item) for item in value]
        if not isinstance(value, str):
            return value
        if _is_outside(value):
            return public_name(value)
        for path, name in self._names.items():
            literal = name.replace("\\", r"\\")  # a backslash would begin an escape
            value = re.sub(rf"(?<![\w.-]){re.escape(path)}(?![\w.-])", literal, value)
        return value

    def command(self, command: str) -> str:
        """Return a command line with public names."""
        words = []
        for word in shlex.split(command):
            flag, equals, value = word.partition("=") if word.startswith("-") else ("", "", word)
            words.append(f"{flag}{equals}{self(value)}")
        return shlex.join(words)


def public_name(path: str) -> str:
    """Return a path relative to the working directory if it is below it, else its last part."""
    private = {Path.home().name}
    with suppress(KeyError, OSError):  # a container's user may have no name
        private.add(getpass.getuser())
    whole = Path(path).expanduser()
    if whole.is_absolute() and whole.resolve().is_relative_to(Path.cwd()):
        below = whole.resolve().relative_to(Path.cwd())
        if private.isdisjoint(below.parts):
            return below.as_posix()
    name = PureWindowsPath(path).name if "\\" in path else Path(path).name
    return name if name not in {"", "..", "~", *private} else "folder"


def _paths(value: Any) -> Iterator[str]:
    """Yield the texts in settings that are paths and tell where they lie."""
    if isinstance(value, Mapping):
        value = [item for key, item in value.items() if key not in _CLASS_KEYS]
    if isinstance(value, list | tuple):
        for item in value:
            yield from _paths(item)
    elif isinstance(value, str) and len(value) >= _MIN_LENGTH and _is_outside(value):
        yield value


def _is_outside(text: str) -> bool:
    if "\n" in text:
        return False
    path = Path(text)
    return path.is_absolute() or bool(PureWindowsPath(text).drive) or text.startswith("~") or ".." in path.parts
