"""A checkpoint of ours: the settings and the state of its run."""

from pathlib import Path
from typing import Any

import torch

from shvit_pl.designs.config import DesignConfig
from shvit_pl.errors import UserError, one_line
from shvit_pl.models.network_names import HUB
from shvit_pl.runs.folder import BEST, CHECKPOINTS

LAST_RUN = "last"  # instead of a file, for fit: the last checkpoint of the newest run
_CONTENTS = {
    "model": "hyper_parameters",
    "data": "datamodule_hyper_parameters",
    "step": "global_step",
    "loops": "loops",
    "callbacks": "callbacks",
}
_OF_TRAINING = ("state_dict", "optimizer_states", "lr_schedulers")  # needed too; Lightning reads them


def read_checkpoint(path: str | None, flag: str = "ckpt_path ", weights: bool = False) -> dict[str, Any]:
    """Return a checkpoint's `model`, `data`, `step`, `loops` and `callbacks`; raises `UserError` for any other file.

    Args:
        path: The file.
        flag: The flag that names it, for messages.
        weights: Return its `state_dict` too, which stays mapped to the file.
    """
    if path is None:
        raise UserError(
            "ckpt_path: which checkpoint? Give --ckpt_path RUN_FOLDER/checkpoints/best.ckpt, or weights alone, as of a "
            "Hub repo: --model.init_from hf-hub:USER/NAME."
        )
    if not Path(path).is_file():
        raise UserError(f"{flag}{path!r}: {_why_no_file(path)}")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # whatever torch runs into in a file that is something else, or cut short
        raise _no_checkpoint(flag, path, "it can't be read") from error
    checkpoint = checkpoint if isinstance(checkpoint, dict) else {}
    for key in (*_CONTENTS.values(), *_OF_TRAINING):
        if key not in checkpoint:
            raise _no_checkpoint(flag, path, f"it has no {key}")
    contents = {name: checkpoint[key] for name, key in _CONTENTS.items()}
    try:
        DesignConfig(**contents["model"]["design"])
        contents["model"]["class_names"], contents["data"]["path"]
    except (LookupError, TypeError) as error:
        raise _no_checkpoint(flag, path, f"in its settings, {one_line(error)}") from error
    return {**contents, "weights": checkpoint["state_dict"]} if weights else contents


def _why_no_file(path: str) -> str:
    if path.startswith(HUB):
        return f"a Hub repo holds weights and no state of a training. Take them by --model.init_from {path}."
    if path == LAST_RUN:
        return "that is for shvit-pl fit. Give the file, such as RUN_FOLDER/checkpoints/last.ckpt."
    best = Path(path) / CHECKPOINTS / BEST
    if path and best.is_file():
        return f"a folder. Give --ckpt_path {best}."
    problem = "a folder" if path and Path(path).is_dir() else "no such file"
    return f"{problem}. Give a run's checkpoints/best.ckpt or last.ckpt; weights of a Hub repo: --model.init_from."


def _no_checkpoint(flag: str, path: str, reason: str) -> UserError:
    return UserError(
        f"{flag}{path!r}: not a whole checkpoint of this shvit-pl ({reason}). Give a run's checkpoints/best.ckpt "
        "or last.ckpt; weights of another program go in by --model.init_from."
    )
