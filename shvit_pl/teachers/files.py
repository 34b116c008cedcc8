"""Files of weights of other programs, and hashes of files."""

from __future__ import annotations

import argparse
import hashlib
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from timm.models import clean_state_dict
from torch import Tensor

from shvit_pl.errors import UserError, one_line
from shvit_pl.teachers.config import DistillConfig

# prefixes of a network in a Lightning module, with our average of it before the network itself
_AVERAGE, _NETWORK = "ema.module.", "model."
_AVERAGES = ("state_dict_ema", "model_ema")  # in training checkpoints of timm and of the official code


def file_hash(*files: Path) -> str:
    """SHA-256 of the names and contents of files; of the content alone for a single one."""
    if len(files) == 1:
        with files[0].open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    each = [f"{file.name} {file_hash(file)}\n" for file in sorted(files)]
    return hashlib.sha256("".join(each).encode()).hexdigest()


def read_weights(config: DistillConfig) -> dict[str, Tensor]:
    """The tensors of `config.weights`, whatever they are nested in; averaged ones for `use_ema`.

    Files are read without running code from them: safetensors, bare state dicts, training checkpoints of timm, of the
    official code and of Lightning.

    Raises:
        UserError: for a file that is missing, can't be read, or holds no tensors or no average.
    """
    path = weights_file(config)
    try:
        content = load_file(path) if path.suffix == ".safetensors" else load_pickled(path)
    except Exception as error:  # whatever the readers run into in a file that is something else, or cut short
        raise _unreadable(config, one_line(error)[:120]) from error
    state = _nested(content, config.use_ema) if isinstance(content, Mapping) else {}
    tensors = {key: value for key, value in clean_state_dict(dict(state)).items() if isinstance(value, Tensor)}
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


def load_pickled(path: Path) -> Any:
    """What `torch.save` wrote, without running code from it."""
    with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():  # timm's: its arguments
        warnings.simplefilter("ignore")  # of other protocols than torch's own
        return torch.load(path, map_location="cpu", weights_only=True)


def _nested(content: Mapping[str, Any], averaged: bool) -> Mapping[str, Any]:
    """The network's entries in a file's content."""
    if averaged:
        average = next((content[key] for key in _AVERAGES if isinstance(content.get(key), Mapping)), None)
        return average if average is not None else _below(content.get("state_dict", {}), _AVERAGE)
    state = content.get("state_dict", content.get("model", content))
    state = state if isinstance(state, Mapping) else {}
    return _below(state, _NETWORK) or state


def _below(state: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {str(key).removeprefix(prefix): value for key, value in state.items() if str(key).startswith(prefix)}


def _unreadable(config: DistillConfig, reason: str) -> UserError:
    return UserError(
        f"model.distill.weights {config.weights!r}: not a readable file of weights ({reason}). Give a whole "
        ".safetensors, .pth or .ckpt file."
    )
