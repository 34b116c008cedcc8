"""Going on with a run: which checkpoint, and whether it is still the same run."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from shvit_pl.designs.config import DesignConfig
from shvit_pl.errors import UserError
from shvit_pl.runs import CHECKPOINTS, SUMMARY, interrupted_run

LAST = "last"
_BY_SLURM = "hpc_ckpt_"  # how Lightning names what it writes when SLURM is about to end a job
# what changes the course of a training, beside all of model.* and data.*
_TRAINER = (
    "max_epochs",
    "max_steps",
    "accumulate_grad_batches",
    "gradient_clip_val",
    "gradient_clip_algorithm",
    "precision",
    "limit_train_batches",
    "overfit_batches",
    "num_nodes",
    "sync_batchnorm",
)
_CONTENTS = {
    "model": "hyper_parameters",
    "data": "datamodule_hyper_parameters",
    "step": "global_step",
    "callbacks": "callbacks",
}
_FREE = ("data.num_workers", "model.class_names", "model.init_from", "model.use_ema")  # change nothing in it


def read_checkpoint(path: str | None) -> dict[str, Any]:
    """What a checkpoint says of its `model`, `data`, `step` and `callbacks`; raises `UserError` for any other file."""
    if path is None:
        raise UserError("ckpt_path: which checkpoint? Give --ckpt_path RUN_FOLDER/checkpoints/best.ckpt.")
    if not Path(path).is_file():
        raise UserError(f"ckpt_path {path!r}: no such file. Give a run's checkpoints/best.ckpt or last.ckpt.")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        contents = {name: checkpoint[key] for name, key in _CONTENTS.items()}
        DesignConfig(**contents["model"]["design"])
        return contents
    except (OSError, RuntimeError, LookupError, TypeError, UnpicklingError) as error:
        raise UserError(
            f"ckpt_path {path!r}: not a whole checkpoint of shvit-pl ({type(error).__name__}). Give a run's "
            "checkpoints/best.ckpt or last.ckpt."
        ) from error


def training_settings(config: Any) -> dict[str, Any]:
    """The settings of a fit that determine its course, flat: `{"model.optim.lr": 0.001, ...}`."""
    settings = {"seed_everything": config.seed_everything}
    for room in ("model", "data"):
        values = config[room].as_dict() if hasattr(config[room], "as_dict") else dict(config[room])
        settings.update(flat(values, f"{room}."))
    settings.update({f"trainer.{name}": _plain(config.trainer[name]) for name in _TRAINER})
    return {name: value for name, value in settings.items() if name not in _FREE}


def refuse_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise `UserError` with the difference when a resumed run has other settings than the interrupted one."""
    changed = [
        f"{name} {before.get(name)} -> {now.get(name)}"
        for name in {**before, **now}
        if before.get(name) != now.get(name)
    ]
    if changed:
        raise UserError(
            f"ckpt_path: this is another run than the one that was interrupted ({'; '.join(changed)}). Give the flags "
            "of that run, or --allow_changes true to go on with these, or start a new run with --model.init_from."
        )


def last_checkpoint(root: str, name: str) -> str | None:
    """The newest checkpoint of the newest unfinished run of this name, if there is one.

    That is its `last.ckpt`, or what was written into `root` when SLURM was about to end the job.
    """
    folder = _unfinished(root, name)
    if folder is None:
        return None
    files = [folder / CHECKPOINTS / "last.ckpt", *Path(root).glob(f"{_BY_SLURM}*.ckpt")]
    return max((str(path) for path in files if path.is_file()), key=os.path.getmtime, default=None)


def resumed_folder(checkpoint: str, root: str, name: str) -> Path | None:
    """The folder of the interrupted run that wrote `checkpoint`, to go on in; None where it ended well."""
    return _unfinished(root, name) if Path(checkpoint).name.startswith(_BY_SLURM) else interrupted_run(checkpoint)


def _unfinished(root: str, name: str) -> Path | None:
    """The newest run of this name, if it has not ended well."""
    folders = sorted((Path(root) / name).glob("version_*"), key=lambda folder: int(folder.name.split("_")[1]))
    return folders[-1] if folders and not (folders[-1] / SUMMARY).exists() else None


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves of nested settings with dotted names."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", _plain(value)


def _plain(value: Any) -> Any:
    """As it comes back from a checkpoint or a YAML file."""
    return list(value) if isinstance(value, tuple) else value
