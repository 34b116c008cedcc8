"""The settings of checkpoints: defaults of other commands, and what a resumed run must keep."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from math import ceil
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser

from shvit_pl.command_line.config_files import flat, plain
from shvit_pl.compat import parser_actions
from shvit_pl.data.config import EMBEDDED
from shvit_pl.designs.config import DesignConfig
from shvit_pl.display import counted
from shvit_pl.errors import UserError, error_prefix, refuse
from shvit_pl.models.detection.detectors import is_detector, saved_settings
from shvit_pl.models.network_names import find_weights
from shvit_pl.models.open_network import read_pretrained
from shvit_pl.models.weights import LAST_RUN, read_checkpoint
from shvit_pl.runs.folder import (
    CHECKPOINTS,
    CONFIG,
    LAST,
    SUMMARY,
    SWEEP,
    explain_moved,
    last_checkpoint,
    newest_runs,
    read_summary,
    run_of,
    started_in,
)
from shvit_pl.teachers.config import DistillConfig

# settings that change the course of a training, besides all of model.* and data.*
_TRAINER = (
    *("max_epochs", "max_steps", "limit_train_batches", "accumulate_grad_batches"),
    *("gradient_clip_val", "gradient_clip_algorithm", "precision", "num_nodes", "sync_batchnorm"),
)
LENGTH = ("trainer.max_epochs", "trainer.max_steps")  # an extended run has another
_KEPT = (
    "model.optim.name",  # its state can't be loaded by another optimizer
    "model.optim.layer_decay",
    "data.steps_per_epoch",  # the unit of the position in a stream
)
OF_THE_SESSION = {"ckpt_path": None, "extend_to": None, "allow_changes": False}  # no settings of the run
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


def refuse_changes(
    before: Mapping[str, Any], now: Mapping[str, Any], allowed: bool = False, path: str | None = None
) -> None:
    """Raise `UserError` with the difference when a resumed run has other flat settings than the interrupted one.

    With `allowed`, refuse only changes of the parameters, or of how the optimizer groups them. `path` is the
    checkpoint's.
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
        folder = path and run_of(path)
        ways = f"Begin with --config {folder / CONFIG}" if folder else "Give the flags of that run"
        ways += ", or start a new run from its weights with --model.init_from"
        ways += "" if allowed else ", or give --allow_changes true to resume with these"
        raise UserError(f"ckpt_path {path!r}: it had other settings ({'; '.join(changed)}). {ways}.")


def find_checkpoint(path: str | None, extend_to: int | None, runs: Path) -> str | None:
    """Return the checkpoint that `fit` goes on from; `runs` are those of its name. None for a new run."""
    if extend_to is not None and path in (None, LAST_RUN):
        found = next((file for run in newest_runs(runs) if (file := run / CHECKPOINTS / LAST).is_file()), None)
        if found is None:
            raise UserError(
                f"extend_to {extend_to}: no run in {str(runs)!r} has a checkpoint to go on from. Give the run by "
                f"--ckpt_path RUN_FOLDER, or leave extend_to out for a new run (--trainer.max_epochs {extend_to})."
            )
    elif path == LAST_RUN:
        found = last_checkpoint(runs)
    else:
        return path
    return None if found is None else str(found)


def extended_at(config: Namespace, checkpoint: Mapping[str, Any], flags: Collection[str]) -> float | None:
    """Return the epochs that the ended run has which is to be extended, and set its new length; None to resume a run.

    `flags` are those of the command line. Raises `UserError` for an ended run that is not extended, and for one that
    can't be.
    """
    path, extend_to, trainer = config.ckpt_path, config.extend_to, config.trainer
    folder, states = run_of(path), checkpoint["callbacks"]
    done = states.get("RunSummary", {}).get("epochs", 0.0)
    saved = states.get("RunSettings", {}).get("settings", {})
    planned = saved.get("trainer.max_epochs") or 0
    complete = 0 < planned <= done or 0 < saved.get("trainer.max_steps", -1) <= checkpoint["step"]
    ended = complete if folder is None else (folder / SUMMARY).is_file()
    if extend_to is None:
        if ended:
            trained = done if folder is None else max(done, read_summary(folder)["epochs_trained"])
            raise UserError(_ended(path, folder, trained, trainer.max_epochs))
        return None
    if not ended and not complete and planned != extend_to:
        raise UserError(
            f"extend_to {extend_to}: {path} is of a run that was interrupted, after {done:g} of {planned} epochs. "
            f"Resume it first: --ckpt_path {path}, without extend_to."
        )
    if folder is not None and Path(path).name != LAST:
        raise UserError(
            f"extend_to {extend_to}: a run is trained on from its last.ckpt, and ckpt_path is {path!r}. Give "
            f"--ckpt_path {folder}, or leave out both for a new run from these weights (--model.init_from {path})."
        )
    if folder is not None and (sweep := folder.absolute().parents[2]).joinpath(SWEEP).is_file():
        raise UserError(
            f"extend_to {extend_to}: {folder} is a run of the sweep {sweep}, which compares runs of equal length. Copy "
            "the folder to another place, and give that by --ckpt_path."
        )
    if extend_to <= done:
        raise UserError(
            f"extend_to {extend_to}: the run has {counted(f'{done:g}', 'epoch')}, and it counts these too; give "
            f"more, such as --extend_to {2 * ceil(done)}."
        )
    _refuse_other_length(config, flags, saved, states.get("RunSummary", {}).get("extended_at", []))
    trainer.max_epochs, trainer.max_steps = int(extend_to), -1
    return done if ended or complete else None


def _refuse_other_length(
    config: Namespace, flags: Collection[str], saved: Mapping[str, Any], extended: Collection[float]
) -> None:
    """Raise `UserError` for flags that ask for another length than `extend_to`; the run's own may be repeated."""
    lengths = {"max_epochs": (config.extend_to, *extended), "max_steps": (-1,)}
    for name, known in lengths.items():
        value, flag = config.trainer[name], f"trainer.{name}"
        if f"--{flag}" in flags and value not in (*known, saved.get(flag)):
            raise UserError(
                f"{flag} {value}: extend_to {config.extend_to} decides the length of the run, in epochs. Leave out "
                f"--{flag}, or give another --extend_to."
            )


def note(config: Namespace, extended_at: float | None) -> str:
    """Return the line that says from where the run goes on."""
    if extended_at is None:
        return f"resuming from {config.ckpt_path}"
    where = "" if run_of(config.ckpt_path) else " in a new folder (the epochs of before are no candidates for the best)"
    return (
        f"extending the run of {config.ckpt_path} from {extended_at:g} to {config.extend_to} epochs{where}; the "
        f"learning rate goes on as in a run that was planned for {config.extend_to}"
    )


def _ended(path: str, folder: Path | None, done: float, max_epochs: int | None) -> str:
    epochs = max_epochs if max_epochs is not None and max_epochs > done else 2 * ceil(done)
    named = "" if folder is None or Path(path).name == LAST else f"--ckpt_path {folder} "
    return (
        f"ckpt_path {path!r}: its run has ended, after {counted(f'{done:g}', 'epoch')}. Train it on with "
        f"{named}--extend_to {epochs} (epochs in all), leave ckpt_path out for a new run, or start one from its "
        "weights with --model.init_from."
    )


def refuse_done(path: str, loops: Mapping[str, Any], max_epochs: int | None) -> None:
    """Raise `UserError` when a checkpoint of an interrupted run has more than `max_epochs`.

    One that has just these is allowed in its folder, which lacks the results.
    """
    done = loops["fit_loop"]["epoch_progress"]["current"]["processed"]
    if max_epochs is not None and 0 < max_epochs < done + (run_of(path) is None):
        raise UserError(
            f"ckpt_path {path!r}: trained for {counted(done, 'epoch')}, and trainer.max_epochs is {max_epochs}. Give "
            f"--trainer.max_epochs {done + 1} or more, or leave ckpt_path out for a new run."
        )


def with_config_of_run(config: Namespace, args: Sequence[str], runs: Path) -> list[str]:
    """Return the command line after the config of the run that goes on, unless it has a config."""
    flags = {word.partition("=")[0] for word in args}
    if "--config" in flags or flags.isdisjoint(("--ckpt_path", "--extend_to")):
        return list(args)
    path = find_checkpoint(config.ckpt_path, config.extend_to, runs)
    folder = path and run_of(path)
    if not folder or path is None:
        return list(args)
    of_the_session = ["--extend_to=null", "--allow_changes=false", "--push_to=null", "--push_public=false"]
    return [f"--config={folder / CONFIG}", *of_the_session, *args, f"--ckpt_path={path}"]


def settings_of_weights(source: str, command: str) -> dict[str, Any] | None:
    """Return the settings that come with weights, by `model` and `data`; None for a bare file."""
    with error_prefix("model.init_from "):
        found = find_weights(source)
        is_saved = found.kind in ("folder", "hub") and is_detector(source)
        pretrained = None if found.kind == "checkpoint" or is_saved else read_pretrained(source)
    if found.kind == "checkpoint":
        checkpoint = read_checkpoint(found.place, "model.init_from ")
        return {name: checkpoint[name] for name in ("model", "data", "task")}
    if is_saved:
        return _settings_of_detector(source)
    if pretrained is None:
        return None
    network = pretrained.network
    if not network.model.num_classes:
        raise UserError(
            f"model.init_from {source!r}: a backbone without a classifier. Train one from it: shvit-pl fit "
            f"--model.init_from {source}, also with --task detection."
        )
    names = network.class_names if command == "predict" else pretrained.class_names
    design = asdict(DesignConfig.from_design(pretrained.design))
    return {"model": {"design": design, "class_names": names}, "data": network.data}


def _settings_of_detector(source: str) -> dict[str, Any]:
    saved = saved_settings(source)
    model = {"design": asdict(saved.design), "detector": asdict(saved.config), "class_names": saved.class_names}
    return {"model": model, "data": saved.data, "task": "detection"}


_PATHS = (
    "data.path",
    "data.root",
    "model.init_from",
    "model.distill.teacher",
    "model.distill.weights",
    "model.distill.cache",
)


def refuse_moved(config: Namespace, settings: Mapping[str, Any], weights: str, resumed: bool) -> None:
    """Raise `UserError` for paths of a run that are relative to the folder in which it was started, and not here.

    `settings` are the run's by `model` and `data`, and `weights` its folder or a checkpoint. A run that is `resumed`
    must keep them, so it goes on there.
    """
    of_run = dict(flat({name: settings[name] for name in ("model", "data")}))
    mistakes = []
    for flag in _PATHS:
        given = config.get(flag)
        same = given is not None and given == of_run.get(flag)
        for path in given if isinstance(given, list) and same else [given] * same:
            if (start := started_in(weights, path)) is not None:
                changes = ("Resume the run in that folder, or: ", " --allow_changes true") if resumed else ()
                mistakes.append(explain_moved(flag, path, start, *changes))
    refuse(mistakes)


@contextmanager
def relative_paths(config: Namespace, trained_on: str | list[str] | None) -> Iterator[None]:
    """Say in the `UserError` of data that isn't here that its path is the run's, if it is."""
    try:
        yield
    except UserError as error:
        path = config.data.path
        of_run = isinstance(path, str) and path == trained_on and not Path(path).expanduser().is_absolute()
        if not of_run or "no such f" not in str(error):
            raise
        raise UserError(
            f"data.path {path!r}: no such file or folder, and no dataset of the Hub that can be read. It is the run's "
            "own, and relative to the folder that the run was started in: give the images by --data.path."
        ) from error


def is_same_data(path: str | list[str], trained_on: str | list[str] | None) -> bool:
    """Return whether a dataset, or several, is that of a training, however its folder is spelled."""
    if isinstance(path, list) and isinstance(trained_on, list):
        return len(path) == len(trained_on) and all(map(is_same_data, path, trained_on))
    if isinstance(path, list) or isinstance(trained_on, list):
        return False
    if path == trained_on or not trained_on or EMBEDDED in (path, trained_on):
        return path == trained_on
    one, other = (Path(each).expanduser() for each in (path, trained_on))
    return one.exists() and other.exists() and one.samefile(other)


def set_defaults(parser: LightningArgumentParser, settings: Mapping[str, Any], of_checkpoint: bool) -> None:
    """Make settings, by `model` and `data`, a command's defaults, except those that only a training has.

    What the command has no flag for is left out. `of_checkpoint`: they come from the checkpoint that is measured.
    """
    known = {action.dest for action in parser_actions(parser)}
    parser.set_defaults({key: value for key, value in flat(settings) if key in known})
    of_training: dict[str, Any] = {"model.use_ema": False, "model.distill": asdict(DistillConfig())}
    if of_checkpoint:
        of_training["model.init_from"] = None
    parser.set_defaults({key: value for key, value in flat(of_training) if key in known})
