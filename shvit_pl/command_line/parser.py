"""Parsers that answer a mistake in one line, with the nearest name that exists."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from difflib import get_close_matches
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeVar, Union, get_args, get_origin, get_type_hints

import docstring_parser
from jsonargparse import ArgumentParser, auto_cli, set_parsing_settings

from shvit_pl.command_line.config_files import plain
from shvit_pl.compat import parser_actions
from shvit_pl.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")

set_parsing_settings(docstring_parse_attribute_docstrings=True)  # a string below a field is its help

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
    if number := re.match(r"([\w.]+): .*?Not of type (\w+): (.*)$", text):
        return _wrong_number(number[1], number[2], number[3])
    if wrong_value := re.match(r"([\w.]+): .*?(?:Expected|expected) .*(?:Got|Given) value:\s*(.*)$", text):
        return f"{wrong_value[1]} {wrong_value[2]}: {_allowed(text)}"
    if choice := re.match(r"argument (\S+): invalid choice: '([^']*)' \(choose from (.*)\)$", text):
        choices = re.findall(r"[^', ]+", choice[3])
        return f"{choice[1]} {choice[2]!r}: allowed are {', '.join(choices)}{did_you_mean(choice[2], choices)}"
    if missing := re.search(r"arguments are required: (.*)$", text):
        return f"give {', '.join(_as_given(name, parser) for name in missing[1].split(', '))}; --help says what it is"
    if dash := re.search(r"nrecognized arguments: ([\u2013\u2014]\S*)", text):
        return _long_dash(dash[1])
    if flag := re.search(r"nrecognized arguments: (-{0,2}([\w.+-]+))", text):
        return f"{flag[1]}: no such flag{nearest_option(flag[2], option_names(parser), '--')}"
    if key := re.search(r"(?:Group '([\w.]+)' does not accept option|Option) '([\w.]+)'", text):
        name = ".".join(filter(None, key.groups()))
        return f"{name}: no such setting{nearest_option(name, option_names(parser))}"
    return text


def _wrong_number(name: str, number_type: str, text: str) -> str:
    """Shorten the message of a restricted number type; the names of those of whole numbers end in `Int`."""
    value = re.search(r"Given value: (.*)$|^(\S+) does not conform|: '(.*?)'", text)
    shown = f" {next(filter(None, value.groups()), repr(''))}" if value else ""
    whole = number_type.endswith("Int")
    bounds = dict(re.findall(r"v([<>]=?)(-?[\d.e+]+)", text))
    if whole and ">" in bounds:
        bounds[">="] = str(int(bounds.pop(">")) + 1)
    words = {">=": "from", ">": "above", "<=": "to" if ">=" in bounds else "up to", "<": "below"}
    limits = " ".join(f"{word} {bounds[sign]}" for sign, word in words.items() if sign in bounds)
    if not limits:
        return f"{name}{shown}: allowed is {_TYPE_NAMES['int' if whole else 'float']}"
    return f"{name}{shown}: allowed are {'whole numbers' if whole else 'numbers'} {limits}"


def _long_dash(arg: str) -> str:
    return f"{arg}: this begins with a long dash; flags begin with two hyphens"


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
    for action in parser_actions(parser):
        names.update(option.lstrip("-") for option in action.option_strings)
        for sub in (getattr(action, "_name_parser_map", None) or {}).values():
            names.update(option_names(sub))
    return names


def run_function(function: Callable[..., Any], command: str, args: list[str]) -> Any:
    """Run a typed function as a command: its arguments are the flags, its docstring the help."""
    return auto_cli(function, args=args, prog=f"shvit-pl {command}", parser_class=OneLineErrors, as_positional=False)


def read_options(
    options: type[T],
    args: Sequence[str],
    *,
    command: str,
    description: str,
    epilog: str = "",
    positional: Sequence[str] = (),
) -> T:
    """Read a command's flags into a frozen dataclass, whose fields are the flags and their docstrings the help.

    A `bool` needs no value, a `tuple` takes a list with commas, and `-` in a flag's name stands for `_`.

    Args:
        options: The dataclass; its `__post_init__` checks rules across fields.
        args: What follows the command.
        command: The command's name, such as `analyze heads`.
        description: What the command does, for its help.
        epilog: Text below the help.
        positional: Fields given by position; one that is a tuple takes all that is left.

    Raises:
        UserError: for all mistakes in `args`, a line each.
        SystemExit: after the help was printed.
    """
    given, rest = split_args(options, args, positional)
    if "--help" in given:
        _help_parser(options, command, description, epilog, positional).print_help()
        raise SystemExit(0)
    mistakes = _unknown(rest, flag_names(options))
    parser, values = _value_parser(options), dict[str, Any]()
    for name, texts in _by_name(given, positional).items():
        try:
            values[name] = _value(parser, name, get_type_hints(options)[name], texts)
        except UserError as error:
            values[name] = None
            mistakes.append(f"{'' if name in positional else '--'}{error}")
    missing = [field.name for field in fields(options) if _is_required(field) and field.name not in values]
    if missing:
        names = ", ".join(name if name in positional else f"--{name}" for name in missing)
        mistakes.append(f"give {names}; --help says what it is")
    if mistakes:
        raise UserError("\n".join(mistakes))
    return options(**values)


def split_args(
    options: type[DataclassInstance], args: Sequence[str], positional: Sequence[str] = ()
) -> tuple[list[str], list[str]]:
    """Split a command line into what a dataclass's fields take and all else.

    Returns:
        The fields' flags, each as `--name=value` (`--name` where a value is missing); the rest as it was.
    """
    pairs = list(own_args(options, args, positional))
    return [arg for is_own, arg in pairs if is_own], [arg for is_own, arg in pairs if not is_own]


def own_args(
    options: type[DataclassInstance], args: Sequence[str], positional: Sequence[str] = ()
) -> Iterator[tuple[bool, str]]:
    """Yield whether a dataclass's field takes it, and an argument; see `split_args`."""
    hints, places, left = get_type_hints(options), list(positional), list(args)
    while left:
        arg = left.pop(0)
        flag, equals, value = arg.partition("=")
        name = flag.removeprefix("--").replace("-", "_")
        if arg in ("-h", "--help"):
            yield True, "--help"
        elif flag.startswith("--") and name in hints:
            yield True, f"--{name}={value}" if equals else _with_next(f"--{name}", left, hints[name] is bool)
        elif places and not _is_flag(arg):
            yield True, f"--{places[0]}={arg}"
            places = places if get_origin(hints[places[0]]) is tuple else places[1:]
        else:
            yield False, arg


def _with_next(flag: str, left: list[str], is_switch: bool) -> str:
    """Return a flag with its value, taken from the arguments after it; a switch alone is true."""
    if left and (left[0] in ("true", "false") if is_switch else not _is_flag(left[0])):
        return f"{flag}={left.pop(0)}"
    return f"{flag}=true" if is_switch else flag


def _is_flag(arg: str) -> bool:
    return len(arg) > 1 and arg[0] in "-\u2013\u2014" and not arg[1].isdecimal()


def flag_names(options: type[DataclassInstance]) -> set[str]:
    """Return the names of a dataclass's flags, without dashes."""
    return {field.name for field in fields(options)}


def _is_required(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _unknown(rest: Sequence[str], known: set[str]) -> list[str]:
    """Return a message for each argument that no field takes, but not for the values of unknown flags."""
    messages = []
    for before, arg in zip(("", *rest), rest, strict=False):
        flag = arg.partition("=")[0]
        if arg[0:1] in ("\u2013", "\u2014"):
            messages.append(_long_dash(arg))
        elif _is_flag(arg):
            messages.append(f"{flag}: no such flag{nearest_option(flag.lstrip('-').replace('-', '_'), known, '--')}")
        elif "=" in before or not _is_flag(before):
            messages.append(f"{arg}: nothing takes this; leave it out")
    return messages


def _by_name(given: Sequence[str], positional: Sequence[str]) -> dict[str, list[str]]:
    """Return the texts given for each field, none where a value is missing: by position all, else those of the last."""
    texts: dict[str, list[str]] = {}
    for arg in given:
        flag, equals, text = arg.partition("=")
        name = flag.removeprefix("--")
        texts[name] = [*texts.get(name, []), text] if name in positional else [text] if equals else []
    return texts


def _value(parser: ArgumentParser, name: str, hint: Any, texts: list[str]) -> Any:
    """Return a field's value; raises `UserError`, with the field's name, where it isn't allowed."""
    if not texts:
        raise UserError(f"{name}: expected one argument")
    _, size = _element(hint)
    if size == 1:
        return _parsed(parser, name, texts[-1])
    words = texts if len(texts) > 1 else [word.strip() for word in texts[0].split(",")]
    if size is not None and len(words) != size:
        raise UserError(f"{name} {texts[0]}: give {size} values with commas")
    values = [_parsed(parser, name, word) for word in words]
    return tuple(values if size else dict.fromkeys(values))


def _element(hint: Any) -> tuple[Any, int | None]:
    """Return the type of a field's single values, and how many there are: None for a tuple of any length."""
    if get_origin(hint) in (Union, UnionType):
        hint = Union[tuple(member for member in get_args(hint) if member is not NoneType)]  # noqa: UP007
    if get_origin(hint) is not tuple:
        return hint, 1
    members = get_args(hint)
    return members[0], None if members[-1] is Ellipsis else len(members)


def _value_parser(options: type[DataclassInstance]) -> ArgumentParser:
    parser = ArgumentParser(exit_on_error=False)
    for name, hint in get_type_hints(options).items():
        parser.add_argument(f"--{name}", type=_element(hint)[0])
    return parser


def _parsed(parser: ArgumentParser, name: str, text: str) -> Any:
    try:
        value = parser.parse_args([f"--{name}={text}"])[name]
        return plain(value)
    except argparse.ArgumentError as error:
        raise UserError(shortened(error.message, parser)) from error


def _help_parser(
    options: type[DataclassInstance], command: str, description: str, epilog: str, positional: Sequence[str]
) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"shvit-pl {command}", description=description, epilog=epilog)
    classes = [kind for kind in reversed(options.__mro__) if is_dataclass(kind)]  # inherited fields have their own help
    params = [param for kind in classes for param in docstring_parser.parse_from_object(kind).params]
    helps = {param.arg_name: param.description or "" for param in params}
    hints = get_type_hints(options)
    for field in sorted(fields(options), key=lambda field: field.name not in positional):
        (element, size), text = _element(hints[field.name]), helps.get(field.name, "").replace("%", "%%")
        shown: dict[str, Any] = {
            "help": f"{text}{_default_note(field, text)}",
            "metavar": _metavar(field.name, element),
        }
        if field.name in positional:
            parser.add_argument(field.name, nargs=_nargs(field, size), **shown)
        elif element is bool:
            parser.add_argument(f"--{field.name}", action="store_true", help=shown["help"])
        else:
            parser.add_argument(f"--{field.name}", required=_is_required(field), **shown)
    return parser


def _nargs(field: Field[Any], size: int | None) -> str | None:
    return None if size is not None else "+" if _is_required(field) else "*"


def _metavar(name: str, element: Any) -> str:
    return f"{{{','.join(map(str, get_args(element)))}}}" if get_origin(element) is Literal else name.upper()


def _default_note(field: Field[Any], text: str) -> str:
    """Return a note of the default, unless the text names it or there is none to name."""
    default = field.default
    if default in (MISSING, None, False, ()) or "(default" in text:
        return ""
    return f" (default: {','.join(map(str, default)) if isinstance(default, tuple) else default})"
