"""The settings of checkpoints: defaults of other commands, and what a resumed run must keep."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser

from shvit_pl.command_line.config_files import flat, plain
from shvit_pl.compat import parser_actions
from shvit_pl.designs.config import DesignConfig
from shvit_pl.errors import UserError, error_prefix
from shvit_pl.models.open_network import read_pretrained
from shvit_pl.runs.folder import interrupted_run
from shvit_pl.teachers.config import DistillConfig

# settings that change the course of a training, besides all of model.* and data.*
_TRAINER = (
    *("max_epochs", "max_steps", "limit_train_batches", "accumulate_grad_batches"),
    *("gradient_clip_val", "gradient_clip_algorithm", "precision", "num_nodes", "sync_batchnorm"),
)
_KEPT = (
    "model.optim.name",  # its state can't be loaded by another optimizer
    "model.optim.layer_decay",
    "data.steps_per_epoch",  # the unit of the position in a stream
)
_FREE = (  # may change at any time
    "data.num_workers",
    "data.prefetch",
    "model.class_names",
    "model.init_from",
    "model.use_ema",
    "model.distill.check",
)


def training_settings(config: Namespace) -> dict[str, Any]:
    """Return the flat settings that determine the course of a fit: `{"model.optim.lr": 0.001, ...}`."""
    settings = {"seed_everything": config.seed_everything, "monitor": config.monitor}
    for section in ("model", "data"):
        settings.update(flat(config[section].as_dict(), f"{section}."))
    settings.update({f"trainer.{name}": plain(config.trainer[name]) for name in _TRAINER})
    return {name: value for name, value in settings.items() if name not in _FREE}


def refuse_changes(before: Mapping[str, Any], now: Mapping[str, Any], allowed: bool = False) -> None:
    """Raise `UserError` with the difference when a resumed run has other flat settings than the interrupted one.

    With `allowed`, refuse only changes of the parameters, or of how the optimizer groups them.
    """
    compared = [*before, *(name for name in now if name not in before)]
    if allowed:
        compared = list(_KEPT)
        decay, objective = "model.optim.weight_decay", "model.distill.objective"
        if (before.get(decay) == 0) != (now.get(decay) == 0):  # without decay, there is one group instead of two
            compared.append(decay)
        if "feature" in (before.get(objective), now.get(objective)):  # this objective learns a projection
            compared += [objective, "model.distill.teacher"]
    changed = [
        f"{name} {before.get(name, 'unset')} -> {now.get(name, 'unset')}"
        for name in compared
        if before.get(name) != now.get(name)
    ]
    if changed:
        ways = "Give the flags of that run, or start a new run from its weights with --model.init_from"
        ways += "" if allowed else ", or give --allow_changes true to resume with these"
        raise UserError(f"ckpt_path: the interrupted run had other settings ({'; '.join(changed)}). {ways}.")


def refuse_done(path: str, loops: Mapping[str, Any], max_epochs: int | None) -> None:
    """Raise `UserError` when a checkpoint of a finished run has all `max_epochs` already."""
    done = loops["fit_loop"]["epoch_progress"]["current"]["processed"]
    if max_epochs is None or not 0 < max_epochs <= done or (max_epochs == done and interrupted_run(path)):
        return
    raise UserError(
        f"ckpt_path {path!r}: trained for {done} epochs, and trainer.max_epochs is {max_epochs}. Train longer with "
        f"--trainer.max_epochs {done + 1} --allow_changes true, or leave ckpt_path out for a new run."
    )


def settings_of_weights(source: str, command: str) -> dict[str, Any] | None:
    """Return the settings that come with weights, by `model` and `data`; None for a bare file."""
    with error_prefix("model.init_from "):
        pretrained = read_pretrained(source)
    if pretrained is None:
        return None
    network = pretrained.network
    names = network.class_names if command == "predict" else pretrained.class_names
    design = asdict(DesignConfig.from_design(pretrained.design))
    return {"model": {"design": design, "class_names": names}, "data": network.data}


def set_defaults(parser: LightningArgumentParser, settings: Mapping[str, Any], of_checkpoint: bool) -> None:
    """Make settings, by `model` and `data`, a command's defaults, except those that only a training has.

    What the command has no flag for is left out. `of_checkpoint`: they come from the checkpoint that is measured.
    """
    known = {action.dest for action in parser_actions(parser)}
    parser.set_defaults({key: value for key, value in flat(settings) if key in known})
    of_training: dict[str, Any] = {"model.use_ema": False, "model.distill": asdict(DistillConfig())}
    if of_checkpoint:
        of_training["model.init_from"] = None
    parser.set_defaults(dict(flat(of_training)))
