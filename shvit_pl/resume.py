"""Going on with a run: which checkpoint, and whether it is still the same run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from shvit_pl.designs.config import DesignConfig
from shvit_pl.errors import UserError, one_line
from shvit_pl.models.repos import HUB
from shvit_pl.runs import CHECKPOINTS, SUMMARY, interrupted_run
from shvit_pl.settings import flat, plain

LAST = "last"
_BY_SLURM = "hpc_ckpt_*.ckpt"  # how Lightning names what it writes when SLURM is about to end a job
# what changes the course of a training, beside all of model.* and data.*
_TRAINER = (
    "max_epochs",
    "max_steps",
    "accumulate_grad_batches",
    "gradient_clip_val",
    "gradient_clip_algorithm",
    "precision",
    "limit_train_batches",
    "num_nodes",
    "sync_batchnorm",
)
_CONTENTS = {
    "model": "hyper_parameters",
    "data": "datamodule_hyper_parameters",
    "step": "global_step",
    "loops": "loops",
    "callbacks": "callbacks",
}
_OF_TRAINING = ("state_dict", "optimizer_states", "lr_schedulers")  # what else must be there, read by Lightning
_KEPT = (
    "model.optim.name",  # what the optimiser's state is of
    "model.optim.layer_decay",
    "data.steps_per_epoch",  # what the position in a stream is counted in
)
_FREE = (  # change nothing in it
    "data.num_workers",
    "data.prefetch",
    "model.class_names",
    "model.init_from",
    "model.use_ema",
    "model.distill.check",
)


def read_checkpoint(path: str | None, flag: str = "ckpt_path ") -> dict[str, Any]:
    """What a checkpoint says of its `model`, `data`, `step` and `callbacks`.

    Args:
        path: The file.
        flag: By which it was given, for messages.

    Raises:
        UserError: for any other file.
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
    return contents


def _why_no_file(path: str) -> str:
    if path.startswith(HUB):
        return f"a Hub repo holds weights and no state of a training. Take them by --model.init_from {path}."
    if path == LAST:
        return "that is for shvit-pl fit. Give the file, such as RUN_FOLDER/checkpoints/last.ckpt."
    best = Path(path) / CHECKPOINTS / "best.ckpt"
    if path and best.is_file():
        return f"a folder. Give --ckpt_path {best}."
    problem = "a folder" if path and Path(path).is_dir() else "no such file"
    return f"{problem}. Give a run's checkpoints/best.ckpt or last.ckpt; weights of a Hub repo: --model.init_from."


def _no_checkpoint(flag: str, path: str, reason: str) -> UserError:
    return UserError(
        f"{flag}{path!r}: not a whole checkpoint of this shvit-pl ({reason}). Give a run's checkpoints/best.ckpt "
        "or last.ckpt; weights of another program go in by --model.init_from."
    )


def training_settings(config: Any) -> dict[str, Any]:
    """The settings of a fit that determine its course, flat: `{"model.optim.lr": 0.001, ...}`."""
    settings = {"seed_everything": config.seed_everything, "monitor": config.monitor}
    for section in ("model", "data"):
        values = config[section].as_dict() if hasattr(config[section], "as_dict") else dict(config[section])
        settings.update(flat(values, f"{section}."))
    settings.update({f"trainer.{name}": plain(config.trainer[name]) for name in _TRAINER})
    return {name: value for name, value in settings.items() if name not in _FREE}


def refuse_changes(before: Mapping[str, Any], now: Mapping[str, Any], allowed: bool = False) -> None:
    """Raise `UserError` with the difference when a resumed run has other settings than the interrupted one.

    Args:
        before: Flat settings of the interrupted run.
        now: Flat settings of this one.
        allowed: Refuse only what can't be changed: an optimiser takes no other optimiser's state.
    """
    compared = _kept(before, now) if allowed else list({**before, **now})
    changed = [
        f"{name} {before.get(name, 'unset')} -> {now.get(name, 'unset')}"
        for name in compared
        if before.get(name) != now.get(name)
    ]
    if not changed:
        return
    ways = "Give the flags of that run, or start a new run from its weights with --model.init_from"
    if not allowed:
        ways += ", or give --allow_changes true to go on with these"
    raise UserError(f"ckpt_path: the run that was interrupted had other settings ({'; '.join(changed)}). {ways}.")


def _kept(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What can't be changed: what decides which parameters there are, and how the optimiser groups them."""
    kept = list(_KEPT)
    decay, objective = "model.optim.weight_decay", "model.distill.objective"
    if (before.get(decay) == 0) != (now.get(decay) == 0):  # without, there is one group instead of two
        kept.append(decay)
    if "feature" in (before.get(objective), now.get(objective)):  # which learns a projection
        kept += [objective, "model.distill.teacher"]
    return kept


def refuse_done(path: str, loops: Mapping[str, Any], max_epochs: int | None) -> None:
    """Raise `UserError` when all epochs asked for are in the checkpoint of a run that ended well."""
    done = loops["fit_loop"]["epoch_progress"]["current"]["processed"]
    if max_epochs is None or not 0 < max_epochs <= done or (max_epochs == done and interrupted_run(path)):
        return
    raise UserError(
        f"ckpt_path {path!r}: its {done} epochs are all that trainer.max_epochs {max_epochs} asks for. Train longer "
        f"with --trainer.max_epochs {done + 1} --allow_changes true, or leave ckpt_path out for a new run."
    )


def last_checkpoint(root: str, name: str) -> str | None:
    """The newest checkpoint of the newest run of this name that has one and has not ended well, if there is one.

    That is its `last.ckpt`, or what was written when SLURM was about to end the job.
    """
    folders = [folder for folder in (Path(root) / name).glob("version_*") if folder.name[8:].isdecimal()]
    unfinished = [folder for folder in folders if not (folder / SUMMARY).exists()]
    for folder in sorted(unfinished, key=lambda folder: int(folder.name[8:]), reverse=True):
        files = [str(path) for name in ("last.ckpt", _BY_SLURM) for path in (folder / CHECKPOINTS).glob(name)]
        if files:
            return max(files, key=os.path.getmtime)
    return None
