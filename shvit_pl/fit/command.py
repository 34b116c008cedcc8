"""`fit`, `validate`, `test`, `predict` and `cache-teacher`: their help without torch, all else by LightningCLI."""

from __future__ import annotations

import re
from argparse import SUPPRESS
from collections.abc import Mapping
from pathlib import Path

from jsonargparse import ArgumentParser

from shvit_pl.compat import Parameter, trainer_parameters
from shvit_pl.fit.options import NOT_FLAGS, FitOptions, add_settings

_DESCRIPTIONS = {
    "fit": "Train a SHViT, or go on with --ckpt_path.",
    "validate": "Measure a checkpoint on the validation images.",
    "test": "Measure a checkpoint on the test images.",
    "predict": "Write predictions.csv for a dataset or a folder of images.",
    "cache-teacher": "Run a teacher once, and keep its answers for fit.",
}


def run(args: list[str]) -> None:
    """Run one of LightningCLI's commands."""
    if _asks_for_help(args):
        _print_help(args[0], args[0])
        return
    from shvit_pl.fit.lightning_cli import ShvitCLI, run_as

    run_as(ShvitCLI, args)


def cache_teacher(args: list[str]) -> None:
    """Run `cache-teacher`, which takes the flags of fit."""
    if _asks_for_help(args):
        _print_help(args[0], "fit")
        return
    from shvit_pl.fit.cache_teacher import CacheCLI
    from shvit_pl.fit.lightning_cli import run_as

    run_as(CacheCLI, args)


def _asks_for_help(args: list[str]) -> bool:
    return not {"-h", "--help"}.isdisjoint(args)


def _print_help(command: str, method: str) -> None:
    try:
        help_parser(command, method).print_help()
    except (OSError, StopIteration):  # Lightning's file is not where it was
        from shvit_pl.fit.lightning_cli import ShvitCLI

        ShvitCLI([method, "--help"])


def help_parser(command: str, method: str) -> ArgumentParser:
    """Make a parser that knows all flags by groups, the trainer's last, and is fit for the help alone.

    Args:
        command: The command's name.
        method: The trainer's method that does it.
    """
    parser = ArgumentParser(
        prog=f"shvit-pl {command}",
        usage=f"shvit-pl {command} [--config FILE] [flags]",
        description=_DESCRIPTIONS[command],
        epilog="A switch needs no value: --plain. --print_config prints all settings as a config, and "
        "--trainer.callbacks.help CLASS the settings of a callback.",
    )
    parser.add_argument("-c", "--config", metavar="FILE", help="A YAML file; several are layered, later ones win.")
    parser.add_argument("--seed_everything", default=0, metavar="SEED", help="Seed of the run.")
    parser.add_class_arguments(FitOptions)
    of_method = {name: each for name, each in trainer_parameters(method).items() if name not in NOT_FLAGS}
    _add_parameters(parser, f"Lightning's {method}", "", of_method)
    add_settings(parser)
    own = trainer_parameters("__init__", Path(__file__).with_name("trainer.py"))
    trainer = {
        name: Parameter(own.get(name, each).default, each.help) for name, each in trainer_parameters("__init__").items()
    }
    _add_parameters(parser, "Lightning's trainer", "trainer.", trainer)
    return parser


def _add_parameters(parser: ArgumentParser, title: str, prefix: str, parameters: Mapping[str, Parameter]) -> None:
    group = parser.add_argument_group(title)
    for name, parameter in parameters.items():
        sentence = re.sub(r":\w+:`([^`]*)`", r"\1", parameter.help.partition(". ")[0]).replace("``", "")
        text = sentence.removesuffix(".").replace("%", "%%") + "."
        default = "" if parameter.default in ("", "None") else f" (default: {parameter.default})"
        group.add_argument(f"--{prefix}{name}", metavar=name.upper(), default=SUPPRESS, help=f"{text}{default}")
