"""Parsers that answer a mistake in one line, with the nearest name that exists."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from jsonargparse import ArgumentParser, auto_cli

from shvit_pl.errors import did_you_mean

_TYPE_NAMES = {
    "NoneType": "null",
    "bool": "true or false",
    "float": "a number",
    "int": "a whole number",
    "list": "a list such as [a, b]",
    "str": "text",
    "tuple": "a list such as [1, 2]",
}


class OneLineErrors(ArgumentParser):
    """A parser whose errors are one line on stderr, exit code 2."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print the message, and what may have been meant, and exit."""
        if not self.exit_on_error:
            super().error(message, ex)
        print(f"{self.prog.replace(' [options]', '')}: error: {one_line(message, self)}", file=sys.stderr)
        self.exit(2)


def one_line(message: str, parser: ArgumentParser) -> str:
    """Shorten one of jsonargparse's messages, and add a suggestion for an unknown key or value."""
    text = " ".join(message.split())
    text = re.sub(r"Parser key \"([^\"]+)\":", r"\1:", text)
    text = text.replace("typing.", "")
    wrong_value = re.match(r"([\w.]+): .*?(?:Expected|expected) .*(?:Got|Given) value:\s*(.*)$", text)
    if wrong_value:
        return f"{wrong_value[1]} {wrong_value[2]}: {_allowed(text)}"
    unknown = re.search(r"nrecognized arguments: --?([\w.+-]+)|does not accept option '([\w.]+)'", text)
    if unknown:
        return text + did_you_mean(unknown[1] or unknown[2], option_names(parser))
    return text


def _allowed(text: str) -> str:
    """What a wrong value's message says is allowed: the choices, or the types."""
    choices = re.findall(r"Literal\[([^\]]+)\]", text)
    if choices:
        names = list(dict.fromkeys(choice.strip(" '\"") for group in choices for choice in group.split(",")))
        got = re.search(r"Got value: (\S+)", text) or re.search(r"Given value: (\S+)", text)
        listed = " in a list, one per stage" if "tuple[Literal" in text else ""
        return f"allowed are {', '.join(names)}{listed}{did_you_mean(got[1] if got else '', names)}"
    types = dict.fromkeys(re.findall(r"Expected (?:an? )?<class '(\w+)'>", text))
    return f"allowed is {' or '.join(_TYPE_NAMES.get(name, name) for name in types)}" if types else text


def option_names(parser: ArgumentParser) -> set[str]:
    """All dotted option names of a parser and of its subcommands' parsers."""
    names: set[str] = set()
    for action in parser._actions:
        names.update(option.lstrip("-") for option in action.option_strings)
        for sub in (getattr(action, "_name_parser_map", None) or {}).values():
            names.update(option_names(sub))
    return names


def run_function(function: Callable[..., Any], command: str, args: list[str]) -> Any:
    """Run a typed function as a command: its arguments are the flags, its docstring the help."""
    return auto_cli(function, args=args, prog=f"shvit-pl {command}", parser_class=OneLineErrors)
