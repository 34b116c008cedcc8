"""The parser of LightningCLI's commands, and their flags beside model, data and trainer."""

from __future__ import annotations

import os
from typing import Any, NoReturn

from jsonargparse import ActionYesNo, set_parsing_settings
from lightning.pytorch.cli import LightningArgumentParser

from shvit_pl.command_line.parser import OneLineErrors
from shvit_pl.runs.metrics import Monitor

set_parsing_settings(docstring_parse_attribute_docstrings=True)  # the help of flags that are fields


class Parser(OneLineErrors, LightningArgumentParser):
    """LightningCLI's parser with errors in one line, which name the command also where they are of its section."""

    command = "shvit-pl"

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print the message and exit."""
        self.prog = self.command
        super().error(message, ex)


def add_flags(parser: LightningArgumentParser) -> None:
    """Add the flags that are not Lightning's."""
    parser.add_argument("--run_name", type=str | None, default=None, help="folder of the run (default: the design)")
    parser.add_argument("--output", type=str, default="predictions.csv", help="the file that predict writes")
    parser.add_argument("--monitor", type=Monitor, default="val/acc1", help="what best.ckpt is the best in")
    parser.add_argument(
        "--checkpoint_every_n_steps", type=int | None, default=None, help="write last.ckpt within epochs too"
    )
    parser.add_argument(
        "--allow_changes", type=bool, default=False, help="resume with other settings than the checkpoint's"
    )
    parser.add_argument("--push_to", type=str | None, default=None, help="a Hub repo, user/name, for the ended run")
    parser.add_argument("--push_public", type=bool, default=False, help="show a new Hub repo to everybody")
    parser.add_argument(
        "--optimize", action=ActionYesNo, nargs="?", default=False, help="compile for speed, except in fit"
    )
    parser.add_argument("--plain", type=bool, default=False, help="plain lines for log files: no bars, no boxes")


def run_name(config: Any) -> str:
    """The folder of a run's versions: as it was asked for, or the design."""
    return str(config.run_name or config.model.design.name)


def expand_home(config: Any) -> None:
    """`~` in paths: the shell leaves it alone in `--flag=~/folder`, and so does YAML."""
    config.trainer.default_root_dir = os.path.expanduser(config.trainer.default_root_dir)
    if config.ckpt_path is not None:
        config.ckpt_path = os.path.expanduser(config.ckpt_path)
    if config.model.distill.cache is not None:
        config.model.distill.cache = os.path.expanduser(config.model.distill.cache)
