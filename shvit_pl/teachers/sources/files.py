"""Files of weights of other programs, and hashes of files."""

from __future__ import annotations

import hashlib
from pathlib import Path

from torch import Tensor

from shvit_pl.errors import UserError, one_line
from shvit_pl.models.tensors import read_tensors
from shvit_pl.teachers.config import DistillConfig


def file_hash(*files: Path) -> str:
    """SHA-256 of the names and contents of files; of the content alone for a single one."""
    if len(files) == 1:
        with files[0].open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    each = [f"{file.name} {file_hash(file)}\n" for file in sorted(files)]
    return hashlib.sha256("".join(each).encode()).hexdigest()


def read_weights(config: DistillConfig) -> dict[str, Tensor]:
    """The tensors of `config.weights`, whatever they are nested in; averaged ones for `use_ema`.

    Raises:
        UserError: for a file that is missing, can't be read, or holds no tensors or no average.
    """
    path = weights_file(config)
    try:
        tensors = read_tensors(path, config.use_ema)
    except Exception as error:  # whatever the readers run into in a file that is something else, or cut short
        raise _unreadable(config, one_line(error)[:120]) from error
    if tensors:
        return tensors
    if config.use_ema:
        raise UserError(f"model.distill.use_ema true: {str(config.weights)!r} holds no averaged weights; leave it out.")
    raise _unreadable(config, "it holds no tensors")


def weights_file(config: DistillConfig) -> Path:
    """The file that `config.weights` names; raises `UserError` when it isn't there."""
    path = Path(config.weights or "").expanduser()
    if not path.is_file():
        problem = "a folder" if config.weights and path.is_dir() else "no such file"
        raise UserError(
            f"model.distill.weights {config.weights!r}: {problem}. Give a .safetensors, .pth or .ckpt file."
        )
    return path


def _unreadable(config: DistillConfig, reason: str) -> UserError:
    return UserError(
        f"model.distill.weights {config.weights!r}: not a readable file of weights ({reason}). Give a whole "
        ".safetensors, .pth or .ckpt file."
    )
