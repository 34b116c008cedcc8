"""Files of tensors, of whatever program: read without running code from them."""

from __future__ import annotations

import argparse
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

# prefixes of a network in a Lightning module, with our average of it before the network itself
_AVERAGE, _NETWORK = "ema.module.", "model."
_AVERAGES = ("state_dict_ema", "model_ema")  # in training checkpoints of timm and of the official code
_WRAPPERS = re.compile(r"^(?:module\.|_orig_mod\.)+")  # of DDP, of torch.compile


def read_tensors(path: Path, averaged: bool = False) -> dict[str, Tensor]:
    """The tensors of a network, whatever they are nested in; none where the file has none, or no average.

    Raises whatever the readers run into in a file that is something else, or cut short.

    Args:
        path: Safetensors, a bare state dict, or a training checkpoint of timm, of the official code or of Lightning.
        averaged: Read the moving average that a checkpoint holds beside the network.
    """
    return network_tensors(load_file(path) if path.suffix == ".safetensors" else _load_pickled(path), averaged)


def network_tensors(content: Any, averaged: bool = False) -> dict[str, Tensor]:
    """Return the tensors of a network in a file's content, as `read_tensors` does."""
    state = _nested(content, averaged) if isinstance(content, Mapping) else {}
    return {key: value for key, value in _unwrapped(state).items() if isinstance(value, Tensor)}


def _load_pickled(path: Path) -> Any:
    with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():  # theirs: the arguments
        warnings.simplefilter("ignore")  # of other protocols than torch's own
        return torch.load(path, map_location="cpu", weights_only=True)


def _nested(content: Mapping[str, Any], averaged: bool) -> Mapping[str, Any]:
    """The network's entries in a file's content."""
    if averaged:
        average = next((content[key] for key in _AVERAGES if isinstance(content.get(key), Mapping)), None)
        return average if average is not None else _below(content.get("state_dict", {}), _AVERAGE)
    state = content.get("state_dict", content.get("model", content))
    state = _unwrapped(state) if isinstance(state, Mapping) else {}
    return _below(state, _NETWORK) or state


def _below(state: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {str(key).removeprefix(prefix): value for key, value in state.items() if str(key).startswith(prefix)}


def _unwrapped(state: Mapping[str, Any]) -> dict[str, Any]:
    return {_WRAPPERS.sub("", str(key)): value for key, value in state.items()}
