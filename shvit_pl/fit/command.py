"""`fit`, `validate`, `test`, `predict` and `cache-teacher`: their help without torch, all else by LightningCLI."""

import json
import os
import re
from argparse import SUPPRESS, HelpFormatter
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from jsonargparse import ArgumentParser

from shvit_pl.command_line.parser import option_names
from shvit_pl.compat import die_with_parent, parser_actions, trainer_parameters, type_of_flag
from shvit_pl.errors import UserError
from shvit_pl.fit.options import NOT_FLAGS, TrainerOptions, read_flags
from shvit_pl.fit.tasks import TASKS, Task, find_task
from shvit_pl.runs.folder import checkpoint_of_run

_CHECKPOINT = {"fit": "Checkpoint to resume; last is the newest of an interrupted run, or a new run if there is none."}
_DESCRIPTIONS = {
    "fit": "Train a SHViT, or resume with --ckpt_path.",
    "validate": "Measure a checkpoint on the validation images.",
    "test": "Measure a checkpoint on the test images.",
    "predict": "Write predictions for a dataset or a folder of images.",
    "cache-teacher": "Run a teacher once, and store its logits for fit.",
}


_NO_SUCH = re.compile(r"^(-*)([\w.]+): no such (flag|setting)", re.MULTILINE)


def run(args: list[str]) -> None:
    """Run one of LightningCLI's commands; `cache-teacher` takes the flags of fit."""
    command, *flags = args = _with_run(args)
    if os.environ.get("LOCAL_RANK", "0") != "0":  # a process that Lightning has started beside the first
        die_with_parent()
    if not {"-h", "--help"}.isdisjoint(flags):
        asked = [word for word in flags if word not in ("-h", "--help")]
        help_parser(command, find_task(command, read_flags(asked), read=False)).print_help()
        return
    read = read_flags(flags)  # names a missing config before the seconds of an import
    from shvit_pl.fit.lightning_cli import CacheCLI, ShvitCLI, run_as

    try:
        run_as(CacheCLI if command == "cache-teacher" else ShvitCLI, args)
    except UserError as error:
        if not _NO_SUCH.search(str(error)):
            raise
        task = find_task(command, read, read=False)
        raise UserError("\n".join(_named_task(line, command, task) for line in str(error).splitlines())) from error


def _with_run(args: list[str]) -> list[str]:
    """Return a command line whose first word, where it is a run's folder or checkpoint, is given by `--ckpt_path`."""
    command, *flags = args
    if command in ("validate", "test", "predict") and flags and not flags[0].startswith("-"):
        place = Path(flags[0]).expanduser()
        if checkpoint_of_run(place) is not None or place.is_file():
            return [command, "--ckpt_path", *flags]
    return args


def _named_task(message: str, command: str, task: Task) -> str:
    """Return a message of an unknown flag; of one that another task has, that task is named."""
    unknown = _NO_SUCH.match(message)
    for other in TASKS.values():
        if unknown is not None and other is not task and unknown[2] in option_names(help_parser(command, other)):
            return (
                f"{unknown[1]}{unknown[2]}: no such {unknown[3]} of {task.name}, but of {other.name}. Give --task "
                f"{other.name} with it, or leave it out."
            )
    return message


def help_parser(command: str, task: Task) -> ArgumentParser:
    """Make a parser for the help alone: it knows a command's flags by groups, the trainer's last."""
    parser = ArgumentParser(
        prog=f"shvit-pl {command}",
        usage=f"shvit-pl {command} [--config FILE] [flags]",
        description=_DESCRIPTIONS[command],
        epilog="A switch needs no value: --plain. --print_config prints all settings as a config, and "
        "--trainer.callbacks.help CLASS the settings of a callback.",
        formatter_class=HelpFormatter,
    )
    parser.add_argument("-c", "--config", metavar="FILE", help="A YAML file; several are layered, later ones win.")
    parser.add_argument("--seed_everything", default=0, metavar="SEED", help="Seed of the run (default: 0).")
    parser.add_class_arguments(task.options)
    method = "fit" if command == "cache-teacher" else command
    flags = {f"--{name}": each for name, each in trainer_parameters(method).items() if name not in NOT_FLAGS}
    flags["--ckpt_path"] = "", _CHECKPOINT.get(method, "Checkpoint of a run: checkpoints/best.ckpt or last.ckpt.")
    _add_group(parser, f"Lightning's {method}", flags)
    task.add_flags(parser)
    for action in parser_actions(parser):
        if (kind := type_of_flag(action)) is not None and action.help:
            action.metavar = action.metavar or action.dest.rpartition(".")[2].upper()
            action.help = _with_type(action.help.replace("%", "%%"), kind, action.default, str(action.metavar))
    own = {field.name: str(field.default) for field in fields(TrainerOptions)}
    trainer = trainer_parameters("__init__")
    flags = {f"--trainer.{name}": (own.get(name, default), text) for name, (default, text) in trainer.items()}
    _add_group(parser, "Lightning's trainer", flags)
    return parser


def _with_type(text: str, kind: Any, default: Any, metavar: str) -> str:
    """Add type and default to a flag's help; choices are in its metavar already."""
    words = [] if kind in (str, str | None) or metavar[0] == "{" else _words(kind)
    notes = [" or ".join(word for word in words if word != "null")] if words else []
    if "(default" not in text:
        shown = json.dumps(round(default, 6) if isinstance(default, float) else default).strip('"')
        notes.append(f"default: {shown}")
    return f"{text} ({', '.join(notes)})" if notes else text


def _words(kind: Any) -> list[str]:
    """Return the values that a type allows: choices, and kinds in words."""
    members, origin = get_args(kind), get_origin(kind) or kind
    if origin is Literal:
        return [str(member) for member in members]
    if origin in (tuple, list):
        return [f"[{'|'.join(_words(members[0]))}, ...]"]
    if members and origin is not dict:
        return [word for member in members for word in _words(member)]
    words = {bool: ["true", "false"], NoneType: ["null"], str: ["text"], dict: ["{name: value}"]}
    return words.get(origin, [origin.__name__])


def _add_group(parser: ArgumentParser, title: str, flags: Mapping[str, tuple[str, str]]) -> None:
    """Add flags, each with its default and its documentation, of which the first sentence is shown."""
    group = parser.add_argument_group(title)
    for flag, (default, text) in flags.items():
        text = text.removeprefix("Defaults to ``None``. ")
        sentence = re.sub(r":\w+:`([^`]*)`", r"\1", text.partition(". ")[0]).replace("``", "").removesuffix(".")
        note = "" if default in ("", "None") else f" (default: {default})"
        name = flag.rpartition(".")[2].lstrip("-").upper()
        group.add_argument(flag, metavar=name, default=SUPPRESS, help=f"{sentence}.{note}".replace("%", "%%"))
