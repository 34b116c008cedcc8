"""The flags of what is measured beyond accuracy: checks, and what they open."""

from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import Namespace

from shvit_pl.data.config import CORRUPTIONS, DATASET_SETTINGS
from shvit_pl.display import shown
from shvit_pl.errors import UserError, did_you_mean
from shvit_pl.runs.folder import run_of
from shvit_pl.runs.robustness import ROBUSTNESS, read_measured, weights_of

if TYPE_CHECKING:
    from shvit_pl.callbacks.robustness import Asked
    from shvit_pl.data.datamodule import HFImageDataModule

_COMMANDS = {  # that take each flag
    "corruptions": ("fit", "validate"),
    "tta": ("validate",),
    "out_of_distribution": ("validate",),
    "calibrate": ("validate",),
    "calibrated": ("predict",),
}
ALL = "all"


def corruption_names(asked: list[str] | str | None) -> tuple[str, ...]:
    """Return the corruptions that a flag asks for; raises `UserError` for one that doesn't exist."""
    if asked is None:
        return ()
    names = CORRUPTIONS if asked == ALL else (asked,) if isinstance(asked, str) else tuple(asked)
    for name in names or ("",):
        if name not in CORRUPTIONS:
            raise UserError(
                f"corruptions {name!r}: no such corruption{did_you_mean(name, CORRUPTIONS)}; there are {ALL}, "
                f"{', '.join(CORRUPTIONS)}."
            )
    return tuple(name for name in CORRUPTIONS if name in names)


def _given(config: Namespace) -> dict[str, str]:
    """Return the flags that are set, with their values as they are typed."""
    values = {name: config[name] for name in _COMMANDS if config[name] not in (None, False)}
    return {n: f"[{','.join(v)}]" if isinstance(v, list) else shown(v) for n, v in values.items()}


def not_for_detectors(config: Namespace) -> Iterator[str]:
    """Yield a message for each flag that is set."""
    for name, value in _given(config).items():
        yield f"{name} {value}: for networks that classify images; leave it out."


def mistakes(config: Namespace, command: str) -> Iterator[str]:
    """Yield a message for each flag that the command doesn't take, or that contradicts another."""
    trainer = config.trainer
    for name, value in _given(config).items():
        if command not in _COMMANDS[name]:
            yield f"{name} {value}: for {' and '.join(_COMMANDS[name])} alone; leave it out."
        elif config.data.streaming and (name == "corruptions" or value == "five_crop"):
            yield f"{name} {value}: reads the images again, and data.streaming is true; leave out one of the two."
        elif config.optimize and name in ("corruptions", "tta", "out_of_distribution"):
            yield f"{name} {value}: optimize compiles for the data's own batches; leave out one of the two."
        elif name == "corruptions" and command == "fit" and trainer.limit_val_batches == 0:
            yield f"{name} {value}: trainer.limit_val_batches 0 leaves no images to measure; leave out one of the two."
        elif name == "corruptions" and command == "fit" and trainer.enable_checkpointing is False:
            yield (
                f"{name} {value}: best.ckpt is measured, and trainer.enable_checkpointing False keeps none; leave out "
                "one of the two."
            )
        elif name == "calibrated" and config.ckpt_path is None and config.model.init_from is not None:
            yield (
                f"{name} {value}: a temperature is kept in a run's folder; give --ckpt_path RUN_FOLDER, and leave out "
                "model.init_from."
            )


def measurements(options: Any, data: "HFImageDataModule") -> "Asked | None":
    """Return what is to be measured by the flags of `validate`; None where it is accuracy alone."""
    if not (options.corruptions or options.tta or options.out_of_distribution or options.calibrate):
        return None
    from shvit_pl.callbacks.robustness import Asked

    others = None if options.out_of_distribution is None else _open_others(options.out_of_distribution, data)
    return Asked(corruption_names(options.corruptions), options.tta, others, options.calibrate)


def _open_others(path: str, data: "HFImageDataModule") -> "HFImageDataModule":
    """Open images of another dataset, which are prepared as the run's own."""
    from shvit_pl.data.datamodule import HFImageDataModule
    from shvit_pl.fit.resume import is_same_data

    if is_same_data(path, data.config.path):
        raise UserError(
            f"out_of_distribution {path!r}: these are the images that the network knows; give others, or leave it out."
        )
    own: dict[str, Any] = {each.name: each.default for each in fields(data.config) if each.name in DATASET_SETTINGS}
    others = HFImageDataModule(replace(data.config, path=path, **own))
    try:
        others.setup("predict")
    except UserError as error:
        raise UserError(str(error).replace("data.path", "out_of_distribution")) from error
    return others


def temperature_of(checkpoint: str, averaged: bool) -> float:
    """Return the temperature that was found for a run's weights; raises `UserError` where there is none."""
    folder = run_of(checkpoint)
    if folder is not None:
        found = read_measured(folder, weights_of(Path(checkpoint), averaged)).get("calibration")
        if found is not None:
            return float(found["temperature"])
    of_average = " --model.use_ema true" if averaged else ""
    raise UserError(
        f"calibrated true: no temperature was found for {checkpoint!r} (in {ROBUSTNESS} of its run's folder). Find one "
        f"on its validation images first: shvit-pl validate --ckpt_path {checkpoint}{of_average} --calibrate"
    )
