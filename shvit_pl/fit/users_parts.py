"""Callbacks, loggers and other parts of the trainer that a user adds: their names in errors, arguments as YAML."""

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import MethodType
from typing import Any

import lightning as L
import yaml
from jsonargparse import Namespace
from lightning.fabric.plugins import CheckpointIO, ClusterEnvironment
from lightning.pytorch import loggers, plugins, profilers, strategies
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from shvit_pl.callbacks import checkpoints
from shvit_pl.callbacks.throughput import find_callback
from shvit_pl.command_line.class_paths import is_lightnings
from shvit_pl.deploy.measuring import is_out_of_memory
from shvit_pl.errors import UserError, causes, one_line
from shvit_pl.fit.options import parts_of

_KINDS: dict[str, tuple[type, ...]] = {
    "callbacks": (L.Callback,),
    "logger": (loggers.Logger,),
    "plugins": (plugins.Precision, plugins.LayerSync, CheckpointIO, ClusterEnvironment),
    "profiler": (profilers.Profiler,),
    "strategy": (strategies.Strategy,),
}
_MISUSES = (RuntimeError, ValueError, TypeError, MisconfigurationException)  # as Lightning's classes refuse


@contextmanager
def named_errors(trainer: L.Trainer | None, parts: Namespace | None) -> Iterator[None]:
    """Raise `UserError`, with the name of a part of the user's, for what it raises before the first step is done.

    Lightning's own, such as EarlyStopping, may refuse later. `parts` are the trainer's settings with the parts made,
    and None while they are being made. SHVIT_PL_TRACEBACK=1 shows the traceback.
    """
    try:
        yield
    except (UserError, KeyboardInterrupt, SystemExit):
        raise
    except Exception as error:
        if is_out_of_memory(error) or (type(error) is OSError and error.errno is not None):  # a full disk
            raise
        blamed = next(filter(None, (_blamed(each, parts) for each in causes(error))), None)
        if blamed is None:
            raise
        flag, part, cause = blamed
        if trainer is not None and not _is_early(trainer, part, cause):
            raise
        kind, text = type(part), one_line(cause).removesuffix(".")
        if not is_lightnings(kind):
            text = f"{type(cause).__name__}: {text}{_place(kind, cause)}"
        raise UserError(
            f"trainer.{flag} {kind.__name__}: {text}. Mend it or leave it out; SHVIT_PL_TRACEBACK=1 shows the "
            "traceback."
        ) from error


def _is_early(trainer: L.Trainer, part: Any, cause: BaseException) -> bool:
    """Return whether no training is lost, or a class refuses what it should do; else the traceback is worth more."""
    own_folder = find_callback(trainer, checkpoints.OwnFolder)
    if own_folder is None or not own_folder.begun or (is_lightnings(type(part)) and isinstance(cause, _MISUSES)):
        return True
    return isinstance(cause, KeyError) and getattr(part, "monitor", None) in cause.args


def _blamed(error: BaseException, parts: Namespace | None) -> tuple[str, Any, BaseException] | None:
    """Return flag and part in whose method, or while about to call it, an exception was raised, and the exception."""
    for frame, _ in reversed(list(traceback.walk_tb(error.__traceback__))):
        called = frame.f_locals.get("fn")
        for value in (frame.f_locals.get("self"), called.__self__ if isinstance(called, MethodType) else None):
            for flag, kinds in _KINDS.items():
                is_part = (
                    isinstance(value, kinds) if parts is None else any(value is part for part in parts_of(parts, flag))
                )
                if is_part:
                    return flag, value, error
    return None


def _place(kind: type, error: BaseException) -> str:
    """Return the last line in the class's file that an exception came through."""
    file = getattr(sys.modules.get(kind.__module__), "__file__", None)
    lines = [each.lineno for each in traceback.extract_tb(error.__traceback__) if each.filename == file]
    return f" ({Path(file).name}, line {lines[-1]})" if file and lines else ""


class FitParser(LightningArgumentParser):
    """Lightning's parser, which also writes settings with defaults that are no YAML: these are left out.

    Each class in the settings has a parser of its own, which is of this kind, too.
    """

    def dump(self, namespace: Namespace, *args: Any, **kwargs: Any) -> str:
        """Return settings as YAML; raises `UserError` for a class with another value that is none."""
        written = namespace.clone()
        for name, value in list(vars(written).items()):
            if not (isinstance(value, Namespace) or _is_plain(value)) and value == self.get_default(name):
                del written[name]
        try:
            return super().dump(written, *args, **kwargs)
        except (ValueError, TypeError, yaml.YAMLError) as error:
            if "trainer" not in written:
                raise
            parts = [f"{flag} {part.class_path}" for flag in _KINDS for part in parts_of(written.trainer, flag)]
            raise UserError(
                f"trainer.{', '.join(parts)}: an argument can't be written into config.yaml; give the class texts, "
                "numbers, or lists and mappings of them."
            ) from error


def _is_plain(value: Any) -> bool:
    try:
        yaml.safe_dump(value)
    except yaml.YAMLError:
        return False
    return True
