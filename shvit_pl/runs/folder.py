"""The run folder: its files, its metrics, and a run that ended well, read from it.

`<default_root_dir>/<name>/version_<k>/` holds `config.yaml`, `summary.json`, `metrics.csv`, `events.out.tfevents.*`,
`figures/` and `checkpoints/{best,last}.ckpt`.
"""

import json
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from math import inf, isnan, nan
from pathlib import Path
from typing import Any, Literal, Self, get_args

import yaml

from shvit_pl.designs.cost import Cost, cost
from shvit_pl.designs.design import Design, design_of
from shvit_pl.errors import UserError, one_line
from shvit_pl.files import read_rows, write_whole

SUMMARY = "summary.json"
CONFIG = "config.yaml"
METRICS = "metrics.csv"
CHECKPOINTS = "checkpoints"
SWEEP = "sweep.yaml"  # in the folder of a sweep, whose runs are in runs/NAME/version_<k>
BEST, LAST = "best.ckpt", "last.ckpt"
FIGURES = "figures"

EMA = "_ema"  # ends the names of metrics that the averaged weights reach
Monitor = Literal[
    "val/acc1",
    "val/acc1_ema",
    "val/acc5",
    "val/acc5_ema",
    "val/loss",
    "val/loss_ema",
    "val/acc1_macro",
    "val/acc1_macro_ema",
    "val/f1_macro",
    "val/f1_macro_ema",
    "val/precision_macro",
    "val/precision_macro_ema",
    "val/auroc",
    "val/auroc_ema",
    "val/ece",
    "val/ece_ema",
]
DetectionMonitor = Literal["val/map", "val/map_ema", "val/map_50", "val/map_50_ema", "val/mask_map", "val/mask_map_ema"]
MONITORS: tuple[str, ...] = (*get_args(Monitor), *get_args(DetectionMonitor))
CORRUPTED = "val/corrupted_acc1"  # mean accuracy over corruptions and strengths
AT_END = (CORRUPTED, f"{CORRUPTED}{EMA}")  # metrics that are measured once, at the end of a run
Weights = Literal["raw", "ema"]
AVERAGED: dict[Weights | None, bool | None] = {None: None, "raw": False, "ema": True}  # take the moving average?


def better(metric: str) -> Literal["min", "max"]:
    """Return the direction that is better: a loss or calibration error should be low, all else high."""
    return "min" if "loss" in metric or metric.removesuffix(EMA).endswith("/ece") else "max"


def loss_beside(metric: str) -> str:
    """Return the name of the validation loss of the weights that a metric is of."""
    return "val/loss" + EMA * metric.endswith(EMA)


def is_improved(metrics: Mapping[str, float], best: Mapping[str, float], monitor: str) -> bool:
    """Return whether validation metrics beat the best so far: by `monitor`, and by the loss where that is equal.

    Not a number is worse than any number. Where both are equal, the earlier ones stay the best.
    """
    return not best or rank(metrics, monitor) < rank(best, monitor)


def rank(metrics: Mapping[str, float], monitor: str) -> tuple[float, float]:
    """Return a key by which the better metrics come first: by `monitor`, then by the loss of the same weights."""
    value, loss = metrics.get(monitor, nan), metrics.get(loss_beside(monitor), nan)
    value = value if better(monitor) == "min" else -value
    return (inf if isnan(value) else value, inf if isnan(loss) else loss)


def run_of(checkpoint: str) -> Path | None:
    """Return the folder of the run that wrote `checkpoint`; None for a file that lies elsewhere."""
    path = Path(checkpoint)
    folder = path.parent.parent
    return folder if path.absolute().parent.name == CHECKPOINTS and (folder / CONFIG).is_file() else None


def started_in(weights: str | Path | None, path: str) -> Path | None:
    """Return the folder in which a run was started, where a relative path of its settings leads there and not here.

    `weights` are the run's folder or a checkpoint in it. None where that folder isn't known: its place follows from
    that of the run's, if `trainer.default_root_dir` was relative.
    """
    run = None if weights is None else run_of(str(weights)) or Path(weights)
    if run is None or not (run / CONFIG).is_file() or Path(path).expanduser().exists():
        return None
    try:
        config = yaml.safe_load((run / CONFIG).read_text())
        root = Path(config["trainer"]["default_root_dir"])
        below = len(Path(root, config["run_name"] or "name", "version").parts)
    except (OSError, yaml.YAMLError, LookupError, TypeError):
        return None
    place = run.absolute()
    start = place.parents[below - 1] if below <= len(place.parents) else place
    leads = not Path(path).expanduser().is_absolute() and (start / path).exists()
    return start if leads and place.is_relative_to(start / root) and not root.is_absolute() else None


def explain_moved(flag: str, path: str, start: Path, instead: str = "", ending: str = "") -> str:
    """Say that a path of a run leads on from where it was `started_in`, and name the flag that gives it from here."""
    cure = f"{instead}Give --{flag} {shlex.quote(str(start / path))}{ending}"
    return f"{flag} {path!r}: relative to {start}, where the run was started. {cure}."


def write_summary(folder: Path, summary: dict[str, Any]) -> None:
    """Write the `summary.json` of a run that ended well."""
    write_whole(folder / SUMMARY, (json.dumps(summary, indent=2) + "\n").encode())


def read_summary(folder: Path) -> dict[str, Any]:
    """Read the `summary.json` of a run that ended well."""
    summary: dict[str, Any] = json.loads((folder / SUMMARY).read_text())
    return summary


def finished_run(folder: Path) -> Path | None:
    """Return the newest run folder `version_<k>` in `folder` whose run ended well, if there is one."""
    return next((run for run in newest_runs(folder) if (run / SUMMARY).is_file()), None)


def newest_runs(folder: Path) -> list[Path]:
    """Return the run folders `version_<k>` in `folder`, the newest first."""
    numbered = [run for run in folder.glob("version_*") if run.name[8:].isdecimal()]
    return sorted(numbered, key=lambda run: int(run.name[8:]), reverse=True)


def checkpoint_of_run(folder: Path) -> Path | None:
    """Return the best checkpoint of a run folder, else its last one, if there is one."""
    return next((path for name in (BEST, LAST) if (path := folder / CHECKPOINTS / name).is_file()), None)


def run_near(path: Path) -> Path | None:
    """Return the newest run with a checkpoint in a folder of runs, or of such folders, or around a run's file."""
    if checkpoint_of_run(path.parent) is not None:
        return path.parent
    folders = [path, *sorted(path.glob("*/"), key=os.path.getmtime, reverse=True)]
    return next((run for folder in folders for run in newest_runs(folder) if checkpoint_of_run(run)), None)


def last_checkpoint(folder: Path) -> Path | None:
    """Return the newest checkpoint of the newest run folder in `folder` that has one and has not ended well, if any.

    Where there is none, and the newest run has ended, it is that run's last one.
    """
    runs = newest_runs(folder)
    for run in runs:
        files = [path for name in (LAST, "hpc_ckpt_*.ckpt") for path in (run / CHECKPOINTS).glob(name)]  # or by SLURM
        if files and not (run / SUMMARY).exists():
            return max(files, key=os.path.getmtime)
    ended = (run / CHECKPOINTS / LAST for run in runs[:1] if (run / SUMMARY).exists())
    return next(filter(Path.is_file, ended), None)


def read_curves(folder: Path) -> dict[str, list[tuple[float, float]]]:
    """Read validation metrics over the epochs of a run (from 1) from `metrics.csv`: of each epoch, the last."""
    curves: dict[str, dict[float, float]] = {}
    if (folder / METRICS).is_file():
        for row in read_rows(folder / METRICS):
            for name, value in row.items():
                if name.startswith("val/") and value and (row.get("epoch") or "").isdecimal():
                    curves.setdefault(name, {})[int(row["epoch"]) + 1] = float(value)
    return {name: sorted(values.items()) for name, values in curves.items()}


@dataclass(frozen=True)
class FinishedRun:
    """A run folder, read once."""

    folder: Path
    summary: dict[str, Any]
    """Content of `summary.json`."""
    config: dict[str, Any]
    """Content of `config.yaml`."""
    checkpoint: Path
    """`best.ckpt`, or `last.ckpt` of a run without validation."""
    averaged: bool
    """Use the averaged weights instead of the raw ones."""

    @classmethod
    def open(cls, folder: Path, weights: Weights | None = None) -> Self:
        """Read the folder of a run that ended well; `weights` are by default those that the monitored metric is of.

        Raises `UserError` for any other folder, and for weights that the run does not have.
        """
        if not folder.is_dir():
            raise UserError(f"{str(folder)!r}: no such folder. Give a run folder, such as runs/s1/version_0.")
        if not (folder / CONFIG).is_file():
            newest = finished_run(folder)
            advice = f"give {newest}" if newest else "give one, such as runs/s1/version_0"
            raise UserError(f"{str(folder)!r}: not a run folder of shvit-pl fit (it has no {CONFIG}); {advice}.")
        if not (folder / SUMMARY).is_file():
            raise UserError(
                f"{str(folder)!r}: this run has not ended (it has no {SUMMARY}). Wait for its end, or resume it: "
                "the same shvit-pl fit with --ckpt_path last."
            )
        checkpoint = checkpoint_of_run(folder)
        if checkpoint is None:
            raise UserError(
                f"{str(folder)!r}: the run has no checkpoint ({CHECKPOINTS}/{BEST} or last.ckpt), so it has no "
                "weights. Give the folder of a run that kept them."
            )
        try:
            run = cls._read(checkpoint, AVERAGED[weights])
            has_average = bool(run.config["model"]["ema"]["decay"])
        except (ValueError, yaml.YAMLError, LookupError, TypeError) as error:
            problem = f"its {CONFIG} or {SUMMARY} is damaged ({one_line(error)[:120]})"
            raise UserError(f"{str(folder)!r}: {problem}.") from error
        if run.averaged and not has_average:
            raise UserError("--weights ema: the run has no averaged weights (its model.ema.decay was 0); leave it out.")
        return run

    @classmethod
    def of_checkpoint(cls, checkpoint: Path, averaged: bool | None = None) -> Self | None:
        """Read the run that wrote a checkpoint; None if it has not ended well, or the file lies elsewhere."""
        files = (checkpoint.parent.parent / name for name in (CONFIG, SUMMARY))
        return cls._read(checkpoint, averaged) if all(file.is_file() for file in files) else None

    @classmethod
    def _read(cls, checkpoint: Path, averaged: bool | None) -> Self:
        folder = checkpoint.parent.parent
        config: dict[str, Any] = yaml.safe_load((folder / CONFIG).read_text())
        summary = read_summary(folder)
        monitored = summary["monitor"].endswith(EMA)
        return cls(folder, summary, config, checkpoint, monitored if averaged is None else averaged)

    @property
    def task(self) -> str:
        """The kind of its training."""
        return str(self.summary.get("task", "classification"))

    @cached_property
    def design(self) -> Design:
        """The design that was trained."""
        return design_of(self.summary["design"])

    @cached_property
    def evaluated_design(self) -> Design:
        """The design with one classifier, as it is used after training."""
        return replace(self.design, distilled=False)

    @cached_property
    def cost(self) -> Cost:
        """Cost of the evaluated network at the run's image size."""
        return cost(self.evaluated_design, len(self.class_names), self.image_size)

    @property
    def dataset(self) -> dict[str, Any]:
        """Facts on the dataset."""
        facts: dict[str, Any] = self.summary["dataset"]
        return facts

    @property
    def image_size(self) -> int:
        """Side of the images in pixels."""
        return int(self.dataset["image_size"])

    @property
    def class_names(self) -> list[str]:
        """Names of the classes, index by index."""
        return [str(name) for name in self.summary["classes"]]

    @property
    def distillation(self) -> dict[str, Any] | None:
        """Settings of the teacher; None of a run without one."""
        settings: dict[str, Any] = self.config["model"].get("distill") or {}
        return settings if settings.get("teacher") is not None else None

    @property
    def is_best(self) -> bool:
        """True if the weights are those of the best epoch."""
        return self.checkpoint.name == BEST

    @property
    def metrics(self) -> dict[str, float]:
        """Validation metrics of the chosen weights, by names such as `acc1`."""
        return self.results.get(self.averaged, {})

    @cached_property
    def results(self) -> dict[bool, dict[str, float]]:
        """Validation metrics by whether the weights are averaged, the chosen ones first; without those never measured.

        Each by names such as `acc1`.
        """
        metrics: dict[str, float] = self.summary["metrics" if self.is_best else "last_metrics"]
        results = {}
        for averaged in (self.averaged, not self.averaged):
            names = [name for name in metrics if name.endswith(EMA) == averaged]
            if names:
                results[averaged] = {name.removeprefix("val/").removesuffix(EMA): metrics[name] for name in names}
        return results


@dataclass(frozen=True)
class SweepChoice:
    """The choice of a run as the best of a sweep."""

    reason: str
    """The choice of the run, in a sentence."""
    table: str
    """The sweep's `results.md`."""
    choices: list[dict[str, Any]]
    """Flags and values of all cells."""
