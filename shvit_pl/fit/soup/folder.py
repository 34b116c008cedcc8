"""The run folder of a soup, which all commands read like any other: checkpoint, config and summary."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from shvit_pl.display import counted
from shvit_pl.errors import UserError, first_line
from shvit_pl.files import output_folder, replacing
from shvit_pl.fit.soup.members import Member
from shvit_pl.modules.base import TrainedModule
from shvit_pl.runs.folder import BEST, CHECKPOINTS, CONFIG, SUMMARY, newest_runs, write_summary

_FILES = (CONFIG, SUMMARY, f"{CHECKPOINTS}/{BEST}")
_OF_NETWORK = ("by_class", "confusions")  # begin the names of what its validation found
METRIC = "val/acc1"  # decides
NAME = "soup"


def soup_folder(output: str | None, first: Path) -> Path:
    """Return the folder of `--output`, or the next one beside the runs of the first member's name.

    Raises `UserError` where nothing can be written, or other files are there.
    """
    if output is None:
        runs = first.absolute().parent.parent / NAME
        newest = next(iter(newest_runs(runs)), None)
        output = str(runs / f"version_{0 if newest is None else int(newest.name[8:]) + 1}")
    folder = output_folder(output, *_FILES, needed=_FILES)
    return folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder


def write_soup(
    folder: Path,
    members: Sequence[Member],
    chosen: Sequence[int],
    module: TrainedModule,
    tensors: Mapping[str, Tensor],
    results: Mapping[str, Any],
    command: str,
) -> None:
    """Write the folder, whole or not at all; `results` are entries of `summary.json`, the rest is the best member's.

    The settings are those of the member that came first into the soup, which is the best one alone.
    """
    best = members[chosen[0]]
    settings = asdict(module.config)
    checkpoint = torch.load(best.run.checkpoint, map_location="cpu", weights_only=True, mmap=True)
    note = f"a soup of {counted(len(chosen), 'run')}"
    checkpoint |= {
        "state_dict": {f"model.{key}": tensor for key, tensor in tensors.items()},
        "hyper_parameters": {**checkpoint["hyper_parameters"], **settings, "class_names": best.run.class_names},
        "datamodule_hyper_parameters": asdict(best.data),
        "init_note": note,
        "few_steps": [],
        **{name: [] for name in ("optimizer_states", "lr_schedulers")},  # nothing goes on from here
        "callbacks": {},
    }
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with replacing(folder) as partial:
            (partial / CHECKPOINTS).mkdir(parents=True)
            torch.save(checkpoint, partial / CHECKPOINTS / BEST)
            config = yaml.safe_dump(_config(best, settings), sort_keys=False, allow_unicode=True)
            (partial / CONFIG).write_text(config)
            write_summary(partial, _summary(best, results, command))
    except (OSError, RuntimeError) as error:  # torch wraps a full disk in a RuntimeError
        reason = getattr(error.__cause__ or error.__context__ or error, "strerror", None) or first_line(error)
        raise UserError(
            f"--output {str(folder)!r}: can't be written ({reason}). Make room, or give another."
        ) from error


def _config(best: Member, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the best member's settings, where evaluation is of the soup's weights and of all images."""
    config = copy.deepcopy(best.run.config)
    model = {name: settings[name] for name in ("ema", "use_ema")}
    config |= {"model": config["model"] | model, "data": {**config["data"], "path": best.data.path}}
    config |= {"monitor": METRIC, "run_name": NAME, "ckpt_path": None}
    config["trainer"] |= {"limit_val_batches": None}
    return config


def _summary(best: Member, results: Mapping[str, Any], command: str) -> dict[str, Any]:
    return {
        **{name: value for name, value in best.run.summary.items() if not name.startswith(_OF_NETWORK)},
        "monitor": METRIC,
        "best_epoch": None,
        "few_steps": [],
        "best_checkpoint": f"{CHECKPOINTS}/{BEST}",
        "last_metrics": results["metrics"],
        **results,
        "command": command,
    }
