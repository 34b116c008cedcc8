"""Parsers that answer a mistake in one line, with the nearest name that exists."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any, NoReturn

from jsonargparse import ArgumentParser, auto_cli

from shvit_pl.errors import did_you_mean

_TYPE_NAMES = {
    "NoneType": "null",
    "bool": "true or false",
    "dict": "a mapping such as {a: 1}",
    "float": "a number",
    "int": "a whole number",
    "list": "a list such as [a, b]",
    "str": "text",
    "tuple": "a list such as [1, 2]",
}


# what other programs call it
_ELSEWHERE = {
    "dataset": "data.path",
    "epochs": "trainer.max_epochs",
    "gpus": "trainer.devices",
    "output_dir": "trainer.default_root_dir",
    "resume": "ckpt_path",
    "workers": "data.num_workers",
}

# what holds settings, and one of them
SECTIONS = {
    "model": "model.label_smoothing",
    "model.design": "model.design.name",
    "model.optim": "model.optim.name",
    "model.mix": "model.mix.mixup",
    "model.ema": "model.ema.decay",
    "model.distill": "model.distill.teacher",
    "data": "data.path",
    "trainer": "trainer.max_epochs",
}


class OneLineErrors(ArgumentParser):
    """A parser whose errors are one line on stderr, exit code 2."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print the message, and what may have been meant, and exit."""
        if not self.exit_on_error:
            super().error(message, ex)
        print(f"{self.prog.replace(' [options]', '')}: error: {shortened(message, self)}", file=sys.stderr)
        self.exit(2)


def shortened(message: str, parser: ArgumentParser) -> str:
    """Shorten one of jsonargparse's messages, and add a suggestion for an unknown key or value."""
    text = " ".join(message.split())
    text = re.sub(r"Parser key \"([^\"]+)\":", r"\1:", text)
    text = text.replace("typing.", "").replace('in "<unicode string>", ', "")
    if section := re.match(r"([\w.]+): Unable to load config '([^']*)'", text):
        return no_section(section[1], section[2])
    if incomplete := re.match(r"([\w.]+): .*Problem with given class_path '([^']+)': (.*?) - Expected", text):
        return f"{incomplete[1]} {incomplete[2]}: {incomplete[3]}"
    if wrong_value := re.match(r"([\w.]+): .*?(?:Expected|expected) .*(?:Got|Given) value:\s*(.*)$", text):
        return f"{wrong_value[1]} {wrong_value[2]}: {_allowed(text)}"
    if choice := re.match(r"argument (\S+): invalid choice: '([^']*)' \(choose from (.*)\)$", text):
        choices = re.findall(r"[^', ]+", choice[3])
        return f"{choice[1]} {choice[2]!r}: allowed are {', '.join(choices)}{did_you_mean(choice[2], choices)}"
    if missing := re.search(r"arguments are required: (.*)$", text):
        return f"give {', '.join(_as_given(name, parser) for name in missing[1].split(', '))}; --help says what it is"
    if dash := re.search(r"nrecognized arguments: ([\u2013\u2014]\S*)", text):
        return f"{dash[1]}: this begins with a long dash; flags begin with two hyphens"
    if flag := re.search(r"nrecognized arguments: (-{0,2}([\w.+-]+))", text):
        return f"{flag[1]}: no such flag{nearest_option(flag[2], option_names(parser), '--')}"
    if key := re.search(r"does not accept option '([\w.]+)'", text):
        return f"{key[1]}: no such setting{nearest_option(key[1], option_names(parser))}"
    return text


def _as_given(name: str, parser: ArgumentParser) -> str:
    """A required option with its dashes; others have none."""
    return f"--{name}" if name in option_names(parser) else name


def no_section(name: str, value: Any) -> str:
    """What to say of one value where there should be a section of settings."""
    return f"{name} {value}: this is a section; set what is in it, such as {SECTIONS.get(name, name)}"


def nearest_option(name: str, options: set[str], dashes: str = "") -> str:
    """A suggestion for an option's name, which may lack its section, as in `lr`, or be another program's."""
    by_last = {option.rsplit(".", 1)[-1]: option for option in sorted(options)}
    meant = _ELSEWHERE.get(name) or by_last.get(name)
    if meant in options:
        return f" (did you mean '{dashes}{meant}'?)"
    if matches := get_close_matches(name, options, n=1) or get_close_matches(name, by_last, n=1):
        return f" (did you mean '{dashes}{by_last.get(matches[0], matches[0])}'?)"
    return ""


def _allowed(text: str) -> str:
    """What a wrong value's message says is allowed: the choices, or the types, or both."""
    literals = re.findall(r"Literal\[([^\]]+)\]", text)
    choices = list(dict.fromkeys(choice.strip(" '\"") for group in literals for choice in group.split(",")))
    types = " or ".join(_types(text, only_subtypes=bool(choices)))
    if not choices:
        return f"allowed is {types}" if types else text
    got = re.search(r"(?:Got|Given) value: (\S+)", text)
    listed = " in a list, one per stage" if "tuple[Literal" in text else ""
    hint = did_you_mean(got[1] if got else "", choices)
    return f"allowed are {', '.join(choices)}{listed}{f' or {types}' if types else ''}{hint}"


def _types(text: str, only_subtypes: bool) -> dict[str, None]:
    """The types that a message names: those of a union where its members are listed, and those it expected."""
    union = re.search(r"Subtypes: \[(.*?)\] Errors:", text)
    names = re.findall(r"<class '([\w.]+)'>", union[1]) if union else []
    if not only_subtypes:
        classes = [name for name in names if name.startswith("lightning.")]
        names = re.findall(r"Expected an? <class '(\w+)'>", text) + classes
    return dict.fromkeys(_TYPE_NAMES.get(name, f"a {name.rsplit('.', 1)[-1]}") for name in names)


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
    return auto_cli(function, args=args, prog=f"shvit-pl {command}", parser_class=OneLineErrors, as_positional=False)
