"""A run that ended well, read from its folder."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import yaml

from shvit_pl.designs.cost import Cost, cost
from shvit_pl.designs.design import Design, design_of
from shvit_pl.errors import UserError, one_line
from shvit_pl.runs.folder import BEST, CHECKPOINTS, CONFIG, SUMMARY, checkpoint_of_run, finished_run, read_summary
from shvit_pl.runs.metrics import EMA

Weights = Literal["raw", "ema"]


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
    """Use the averaged weights instead of the weights themselves."""

    @classmethod
    def open(cls, folder: Path, weights: Weights | None = None) -> FinishedRun:
        """Read a run folder.

        Args:
            folder: Folder of a run that ended well.
            weights: Weights to use; by default those that the monitored metric was measured on.

        Raises:
            UserError: for any other folder, and for weights that the run does not have.
        """
        if not folder.is_dir():
            raise UserError(f"{str(folder)!r}: no such folder. Give a run folder, such as runs/s1/version_0.")
        if not (folder / CONFIG).is_file():
            newest = finished_run(folder)
            advice = f"give {newest}" if newest else "give one, such as runs/s1/version_0"
            raise UserError(f"{str(folder)!r}: no run folder of shvit-pl fit (it has no {CONFIG}); {advice}.")
        if not (folder / SUMMARY).is_file():
            raise UserError(
                f"{str(folder)!r}: this run has not ended (it has no {SUMMARY}). Wait for its end, or go on with it: "
                "the same shvit-pl fit with --ckpt_path last."
            )
        checkpoint = checkpoint_of_run(folder)
        if checkpoint is None:
            raise UserError(
                f"{str(folder)!r}: the run has no checkpoint ({CHECKPOINTS}/{BEST} or last.ckpt), so it has no "
                "weights. Give the folder of a run that kept them."
            )
        try:
            run = cls._read(checkpoint, None if weights is None else weights == "ema")
            has_average = bool(run.config["model"]["ema"]["decay"])
        except (ValueError, yaml.YAMLError, LookupError, TypeError) as error:
            problem = f"its {CONFIG} or {SUMMARY} is damaged ({one_line(error)[:120]})"
            raise UserError(f"{str(folder)!r}: {problem}.") from error
        if run.averaged and not has_average:
            raise UserError("--weights ema: the run has no averaged weights (its model.ema.decay was 0); leave it out.")
        return run

    @classmethod
    def of_checkpoint(cls, checkpoint: Path, averaged: bool | None = None) -> FinishedRun | None:
        """Read the run that wrote a checkpoint; None if it has not ended well, or the file lies elsewhere."""
        files = (checkpoint.parent.parent / name for name in (CONFIG, SUMMARY))
        return cls._read(checkpoint, averaged) if all(file.is_file() for file in files) else None

    @classmethod
    def _read(cls, checkpoint: Path, averaged: bool | None) -> FinishedRun:
        folder = checkpoint.parent.parent
        config: dict[str, Any] = yaml.safe_load((folder / CONFIG).read_text())
        summary = read_summary(folder)
        monitored = summary["monitor"].endswith(EMA)
        return cls(folder, summary, config, checkpoint, monitored if averaged is None else averaged)

    @cached_property
    def design(self) -> Design:
        """The design that was trained."""
        return design_of(self.summary)

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
        """Validation metrics of the chosen weights, by `acc1`, `acc5` and `loss`."""
        return self.results.get(self.averaged, {})

    @cached_property
    def results(self) -> dict[bool, dict[str, float]]:
        """Validation metrics by whether the weights are averaged, the chosen ones first; without those never measured.

        Each by `acc1`, `acc5` and `loss`.
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
