"""A command's flags from a dataclass, and answers to mistakes in one line, with the nearest name that exists."""

import argparse
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, TypeVar, Union, get_args, get_origin, get_type_hints

import docstring_parser
import yaml
from jsonargparse import ArgumentParser, Namespace, set_parsing_settings

from shvit_pl.command_line import config_files, ranges
from shvit_pl.command_line.class_paths import class_mistake, setting_mistake
from shvit_pl.compat import parser_actions
from shvit_pl.errors import UserError, collected, did_you_mean, error_prefix, nearest, refuse

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")

set_parsing_settings(docstring_parse_attribute_docstrings=True)  # a string below a field is its help

# sections of settings, each with one setting in it
SECTIONS = {
    "model": "model.design.name, or give --config s1.yaml",
    "model.design": "model.design.name",
    "model.optim": "model.optim.name",
    "model.mix": "model.mix.mixup",
    "model.detector": "model.detector.name",
    "model.ema": "model.ema.decay",
    "model.distill": "model.distill.teacher",
    "data": "data.path",
    "trainer": "trainer.max_epochs",
}
_FLAGS_OF_FILES = {".ckpt": "ckpt_path", ".yaml": "config", ".yml": "config"}
# flags by the last word of what other programs call them, the first that the command has
_ELSEWHERE = {
    name: flags.split()
    for flags, names in {
        "data.auto_augment": "aa autoaugment",
        "dtype trainer.precision": "amp fp16 precision",
        "model.design.name": "arch architecture design model_name model.name",
        "data.batch_size batch_size": "batch batchsize bs",
        "ckpt_path": "checkpoint ckpt resume resume_from",
        "trainer.gradient_clip_val": "clip_grad grad_clip max_norm",
        "data.path": "data_dir data_path dataset dir image_dir image_folder images imgs root train_dir",
        "device trainer.devices gpus": "device gpu gpus num_gpus",
        "model.design.drop_path": "dropout drop_rate drop",
        "model.ema.decay": "ema ema_decay model_ema",
        "trainer.max_epochs": "epoch epochs n_epochs num_epochs num_train_epochs",
        "trainer.check_val_every_n_epoch": "eval_every val_every val_interval",
        "trainer.accumulate_grad_batches": "grad_accum gradient_accumulation_steps iters_to_accumulate",
        "data.image_size image_size": "image_size img_size imgsz input_size resolution",
        "model.optim.lr": "learning_rate",
        "model.optim.options": "betas eps momentum nesterov",
        "trainer.log_every_n_steps": "log_every log_interval",
        "trainer.num_nodes": "nodes",
        "model.optim.name": "opt optimizer",
        "trainer.default_root_dir output": "output_dir out_dir save_dir",
        "model.init_from": "pretrained weights",
        "seed_everything seed": "random_seed seed",
        "data.erasing": "reprob random_erasing",
        "model.label_smoothing": "smoothing",
        "model.optim.warmup_epochs": "warmup warmup_steps",
        "model.optim.weight_decay": "wd decay",
        "threads": "num_threads nthreads",
        "workers data.num_workers": "n_workers worker workers",
    }.items()
    for name in names.split()
}
_OF_THE_DATA = {"classes", "n_classes", "nb_classes", "num_classes"}  # flags elsewhere; here the data has the answer
_TYPE_NAMES = {
    "NoneType": "null",
    "bool": "true or false",
    "dict": "a mapping such as {a: 1}",
    "float": "a number",
    "int": "a whole number",
    "list": "a list such as [a, b]",
    "str": "text",
    "tuple": "a list of whole numbers such as [1, 2]",
}
_DASHED = re.compile(r"-[^\W\d]{2}")  # all flags of one hyphen have one letter
_PACKAGES = {  # packages that each extra installs
    "sweep": ("optuna", "scipy"),
    "ray": ("ray",),
    "slurm": ("submitit",),
    "onnx": ("onnx", "onnxruntime", "onnxscript"),
    "coreml": ("coremltools",),
    "executorch": ("executorch",),
    "detection": ("faster_coco_eval",),
}


def read_options(
    options: type[T],
    args: Sequence[str],
    *,
    command: str,
    description: str,
    epilog: str = "",
    positional: Sequence[str] = (),
    rest: list[str] | None = None,
) -> T:
    """Read a command's flags into a frozen dataclass, whose fields are the flags and their docstrings the help.

    A `bool` needs no value, a `tuple` takes a list with commas, a `list` its flag several times, and `-` in a flag's
    name stands for `_`. `positional` are fields that need no flag; one that is a tuple takes all that is left. `rest`
    takes the arguments that no field does; None refuses them. Raises `UserError` with a line for each mistake in
    `args`, and `SystemExit` after the help was printed.
    """
    if not {"-h", "--help"}.isdisjoint(args):
        about = {"prog": f"shvit-pl {command}", "description": description, "epilog": epilog}
        _parser(options, positional, **about).print_help()
        raise SystemExit(0)
    hints, parser, values = get_type_hints(options), _parser(options), dict[str, Any]()
    texts = defaultdict[str, list[str | None]](list)
    for name, text in own_args(options, args, positional):
        texts[name].append(text)
    others = [str(text) for text in texts.pop("", [])]
    required = {each.name for each in fields(options) if _is_required(each)}
    by_flag = [name for name in hints if name in required - texts.keys() and name not in positional]
    first = next(iter(by_flag), "" if positional else next(iter(hints)))
    mistakes = _unknown(others, set(hints), first) if rest is None else []
    for name in texts:
        is_several = name in positional or get_origin(hints[name]) is list
        with collected(mistakes), error_prefix("" if name in positional else "--"):
            values[name] = _value(parser, name, hints[name], texts[name] if is_several else texts[name][-1:])
    for action in parser_actions(parser):
        if action.dest in required - texts.keys() and not any(f"'--{action.dest} " in each for each in mistakes):
            name = action.dest.upper() if action.dest in positional else f"--{action.dest}"
            mistakes.append(f"missing {name}: {str(action.help)[0].lower()}{str(action.help)[1:]}")
    if rest is not None:
        rest += others
    absent = required - values.keys()
    empty: dict[str, Any] = {name: "" for name in by_flag if hints[name] is str}
    empty |= {name: () for name in absent if get_origin(hints[name]) is tuple}
    if absent <= empty.keys():  # what other values contradict can be told
        more = list[str]()
        with collected(more):
            result = options(**values, **empty)
        wrong = [f"--{name}" for name in (texts.keys() | absent) - values.keys()]
        # the value of an unknown flag may be meant for this one; with `rest`, no flag is unknown
        wrong += [f"{word!r}:" for flag, word in pairwise(args) if rest is None and flag in others]
        mistakes += [mistake for mistake in more if not any(flag in mistake for flag in wrong)]
    refuse(mistakes)
    return result


def own_args(
    options: type["DataclassInstance"], args: Sequence[str], positional: Sequence[str] = ()
) -> Iterator[tuple[str, str | None]]:
    """Yield each argument as the field that takes it (empty for none) and its text (None where a value is missing).

    argparse has no switches before a word that may be true, false or an argument of its own, and no values as `-1,3`.
    """
    hints, places, left = get_type_hints(options), list(positional), list(args)
    while left:
        arg = left.pop(0)
        flag, equals, text = arg.partition("=")
        name = flag[2:].replace("-", "_") if flag.startswith("--") else {"-c": "config"}.get(flag, "")
        if flag[:2] == "--" and not equals and hints.get(name) is not bool and left and _DASHED.match(left[0]):
            raise UserError(f"{flag} {left[0]}: a value that begins with a hyphen needs '=': {flag}={left[0]}")
        if name not in hints:
            takes = bool(places) and not _is_flag(arg)
            yield places[0] if takes else "", arg
            if takes and get_origin(hints[places[0]]) is not tuple:
                del places[0]
        elif equals:
            yield name, text
        elif hints[name] is bool:
            has_value = left and (left[0] in ("true", "false") or not (places or _is_flag(left[0])))
            yield name, left.pop(0) if has_value else "true"
        else:
            yield name, left.pop(0) if left and not _is_flag(left[0]) else None


def _is_flag(arg: str) -> bool:
    return len(arg) > 1 and arg[0] in "-\u2013\u2014" and not arg[1].isdecimal()


def _is_required(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _unknown(others: Sequence[str], known: set[str], first: str = "") -> list[str]:
    """Return messages for what no field takes; a word may be for the flag of files of its kind, or the `first` one."""
    messages = []
    for before, arg in zip(("", *others), others, strict=False):
        flag, of_word = arg.partition("=")[0], _FLAGS_OF_FILES.get(Path(arg).suffix, first)
        if arg[0:1] in ("\u2013", "\u2014"):
            messages.append(f"{arg}: this begins with a long dash; flags begin with two hyphens")
        elif _is_flag(arg):
            messages.append(f"{flag}: no such flag{nearest_option(flag.lstrip('-').replace('-', '_'), known, '--')}")
        elif "=" in before or not _is_flag(before):
            meant = flag if flag in known else f"{of_word} {arg}" if of_word in known else ""
            hint = f" (did you mean '--{meant}'?)" if meant else "; leave it out"
            messages.append(f"{arg}: no flag takes this{hint}")
    return messages


def _value(parser: ArgumentParser, name: str, hint: Any, texts: Sequence[str | None]) -> Any:
    """Return a field's value; raises `UserError`, with the field's name, where it isn't allowed."""
    given = [text for text in texts if text is not None]
    if len(given) < len(texts):
        raise UserError(f"{name}: expected one argument")
    if get_origin(hint) is list:
        return given
    _, size = _element(hint)
    words = given[-1:] if size == 1 else given if len(given) > 1 else [word.strip() for word in given[0].split(",")]
    if size is not None and len(words) != size:
        raise UserError(f"{name} {given[0]}: give {size} values with commas")
    values = []
    for word in words:
        try:
            values.append(config_files.plain(parser.parse_args([f"--{name}={word}"])[name]))
        except argparse.ArgumentError as error:
            raise UserError(shortened(error.message, parser)) from error
    return values[0] if size == 1 else tuple(values if size else dict.fromkeys(values))


def _element(hint: Any) -> tuple[Any, int | None]:
    """Return the type of a field's single values, and how many there are: None for a tuple of any length."""
    if get_origin(hint) in (Union, UnionType):
        hint = Union[tuple(member for member in get_args(hint) if member is not NoneType)]  # noqa: UP007
    if get_origin(hint) not in (tuple, list):
        return hint, 1
    members = get_args(hint)
    return members[0], None if members[-1] is Ellipsis else len(members)


def _parser(options: type["DataclassInstance"], positional: Sequence[str] = (), **about: Any) -> ArgumentParser:
    """Make a parser of single values and of the help; without `positional`, every field is an optional flag."""
    classes = [kind for kind in reversed(options.__mro__) if is_dataclass(kind)]  # inherited fields have their own help
    params = [param for kind in classes for param in docstring_parser.parse_from_object(kind).params]
    helps, hints = {param.arg_name: param.description or "" for param in params}, get_type_hints(options)
    parser = ArgumentParser(exit_on_error=False, formatter_class=argparse.HelpFormatter, **about)
    for field in sorted(fields(options), key=lambda field: field.name not in positional):
        (element, size), text, default = _element(hints[field.name]), helps.get(field.name, ""), field.default
        if default not in (MISSING, None, False, ()) and "(default" not in text:
            shown = ",".join(map(str, default)) if isinstance(default, tuple) else default
            text = f"{text.removesuffix('.')} (default: {shown})."
        how: dict[str, Any] = {"type": element, "help": text.replace("%", "%%")}
        if field.name in positional:
            nargs = None if size is not None else "+" if _is_required(field) else "*"
            parser.add_argument(field.name, nargs=nargs, metavar=field.name.upper(), **how)
        else:
            parser.add_argument(f"--{field.name}", required=bool(about) and _is_required(field), **how)
    return parser


def parse_flags(
    parser: ArgumentParser, args: Sequence[str], below: Callable[[Namespace], list[str]] = lambda _: []
) -> tuple[Namespace, list[str]]:
    """Return the settings by all that the parser accepts, and a message for each mistake in types and names.

    The parser raises at the first mistake; what it names is left out of flags and configs to find the next. Raises
    `UserError` for a mistake that can't be left out, with those before it. `below` gives the configs, as flags, that
    such settings have below their own.
    """
    words, mistakes = without_flag(args, "print_config"), list[str]()  # it would end the process
    lowest = list[str]()
    while True:
        try:
            config = parser.parse_args([*lowest, *words])
            left = words if mistakes else list(args)
            if left == words and lowest == below(config):
                return config, list(dict.fromkeys(mistakes))
            lowest = below(config)
        except argparse.ArgumentError as error:
            unknown = error.message.partition("nrecognized arguments: ")[2].split()
            mistakes += _unknown(unknown, option_names(parser)) or [shortened(error.message, parser)]
            left = [word for word in words if word not in unknown] if unknown else _without(words, mistakes[-1])
            if left == words:
                raise UserError("\n".join(dict.fromkeys(mistakes))) from error
        words = left


def _without(words: Sequence[str], message: str) -> list[str]:
    """Return a command line without the setting that a message begins with: in a config, else in flags."""
    name, left = re.split(r"[: ]", message)[0].lstrip("-"), list(words)
    for position, word in enumerate(words):
        flag, _, config = word.partition("=")
        if flag == "--config" and config:
            settings = yaml.safe_load(config if config.startswith("{") else Path(config).read_text(encoding="utf-8"))
            pruned = _pruned(settings, name)
            if pruned != settings:
                left[position] = f"--config={json.dumps(pruned, default=str)}"
                return left
    return without_flag(words, name)


def without_flag(words: Sequence[str], name: str) -> list[str]:
    """Return a command line without a flag and, unless it is a section's, those of its parts, with their values."""
    pattern = re.compile(rf"--{re.escape(name)}({'=' if name in SECTIONS else r'[=.+]'}|$)")
    left, is_value = list[str](), False
    for word in words:
        drop = is_value if not _is_flag(word) else pattern.match(word) is not None
        is_value = drop and _is_flag(word) and "=" not in word
        if not drop:
            left.append(word)
    return left


def _pruned(settings: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return nested settings without one, by its dotted name."""
    key, _, rest = name.partition(".")
    kept = {each: value for each, value in settings.items() if each != key}
    return kept | ({key: _pruned(settings[key], rest)} if rest and isinstance(settings.get(key), Mapping) else {})


def shortened(message: str, parser: ArgumentParser) -> str:
    """Shorten one of jsonargparse's messages, and add a suggestion for an unknown key or value."""
    text = " ".join(message.split())
    text = re.sub(r"Parser key \"([^\"]+)\":", r"\1:", text)
    text = re.sub(r"NestedArg\(key='[^']*', val='?(.*?)'?\)", r"\1", text)
    text = text.replace("typing.", "").replace('in "<unicode string>", ', "").removeprefix("argument ")
    if section := re.match(r"([\w.]+): Unable to load config '([^']*)'", text):
        return no_section(section[1], section[2])
    section = re.match(r"-*([\w.]+): ", text)
    if section and (mistake := setting_mistake(section[1], message, lambda problem: shortened(problem, parser))):
        return mistake
    if section and (mistake := class_mistake(section[1], text)):
        return mistake
    if printing := re.match(r'Invalid option "(.*)" for (--\w+)', text):
        return f"{printing[2]} {printing[1]}: not available; leave the value out"
    if form := re.match(r"([\w.]+): .*?Not of type [\w.]+: Expected (.*?) but got \"(.*?)\"", text):
        return f"{form[1]} {form[3]}: allowed is {form[2]}"
    if number := re.match(r"([\w.]+): .*?Not of type ([\w. ]+): (.*)$", text):
        return " or ".join([ranges.wrong_number(number[1], number[2], number[3]), *_choices(text)])
    if wrong_value := re.match(r"([\w.]+): .*?(?:Expected|expected) .*(?:Got|Given) value:\s*(.*)$", text):
        name, value = wrong_value[1], wrong_value[2] or repr("")
        is_list = "," in value and value[0] not in "[{" and re.search(r"\b(list|tuple)\[", text) is not None
        is_list |= "list[float]" in text and re.fullmatch(r"-?[\d.]+", value) is not None
        return f"{name} {value}: {f'write a list in brackets: [{value}]' if is_list else _allowed(text)}"
    if key := re.search(r"(?:Group '([\w.]+)' does not accept option|Option) '([\w.]+)'", text):
        name = ".".join(filter(None, key.groups()))
        return f"{name}: no such setting{nearest_option(name, option_names(parser))}"
    return text


def no_section(name: str, value: Any) -> str:
    """Return the message for one value where there should be a section of settings."""
    return f"{name} {value}: this is a section; set what is in it, such as {SECTIONS.get(name, name)}"


def nearest_option(name: str, options: set[str], dashes: str = "") -> str:
    """Return a hint at an option, whose name may lack its section, as in `lr`, or be another program's."""
    options = options - SECTIONS.keys()
    parts = [each.rpartition(".") for each in sorted(options, key=lambda each: (-each.count("."), each))]
    section, _, last = name.replace("-", "_").rpartition(".")
    if last in _OF_THE_DATA and "model.class_names" in options:
        return " (leave it out: the classes come from the data)"
    near = nearest(section, {each for each, _, _ in parts})
    meant = next(
        (each for each in _ELSEWHERE.get(name, _ELSEWHERE.get(last, ())) if each in options and each != name), None
    )
    for known in ({each[2]: each for each in parts if each[0] == near}, {each[2]: each for each in parts}):
        if meant not in options and (found := nearest(last, known)):
            meant = "".join(known[found])
    return f" (did you mean '{dashes}{meant}'?)" if meant in options else ""


def _choices(text: str) -> list[str]:
    literals = re.findall(r"Literal\[([^\]]+)\]", text)
    return list(dict.fromkeys(choice.strip(" '\"") for group in literals for choice in group.split(",")))


def _allowed(text: str) -> str:
    """Return what a wrong value's message allows: the choices, or the types, or both."""
    choices = _choices(text)
    members = re.search(r"Subtypes: \[(.*?)\] Errors:|Expected an? (.*?)\. Got value", text)  # a union, or one type
    found = re.finditer(r"<class '([\w.]+)'>|\b(dict|list|tuple)\[", members[0] if members else "")
    names = [each[1] or each[2] for each in found if each[1] or not choices]
    known = dict.fromkeys(_TYPE_NAMES.get(name, f"a {name.rsplit('.', 1)[-1]}") for name in names)
    types = " or ".join(known)
    if not choices:
        return f"allowed is {types}" if types else text
    got = re.search(r"(?:Got|Given) value: (\S+)", text)
    listed = " in a list, one per stage" if "tuple[Literal" in text else ""
    hint = did_you_mean(got[1] if got else "", choices)
    return f"allowed are {', '.join(choices)}{listed}{f' or {types}' if types else ''}{hint}"


def option_names(parser: ArgumentParser) -> set[str]:
    """Return all dotted option names of a parser."""
    return {option.lstrip("-") for action in parser_actions(parser) for option in action.option_strings}


def check_extra(command: str, extra: str) -> None:
    """Raise `UserError` where an extra's packages, which `command` needs, are not installed."""
    missing = [name for name in _PACKAGES[extra] if find_spec(name) is None]
    if missing:
        raise UserError(f"{command} needs {', '.join(missing)}, of an extra: pip install 'shvit-pl[{extra}]'.")
