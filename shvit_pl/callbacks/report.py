"""The short tables at the start and at the end of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
from rich import box
from rich.console import Console
from rich.table import Table

from shvit_pl.callbacks.measuring import Throughput, find_callback
from shvit_pl.callbacks.progress import epoch_of
from shvit_pl.callbacks.summary import RunSummary, run_facts
from shvit_pl.display.words import counted
from shvit_pl.modules.classification import ClassificationModule
from shvit_pl.runs.folder import CHECKPOINTS, LAST, checkpoint_of_run
from shvit_pl.runs.loggers import run_folder

_MOST_CLASSES = 20  # that are listed


class RunReport(L.Callback):
    """Prints what a run is about to do, and what came out of it with the next steps.

    Args:
        plain: One line a fact, for log files.
    """

    def __init__(self, plain: bool = False) -> None:
        self.plain = plain

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The table at the start, and what the run changed in what was asked for."""
        if trainer.is_global_zero and isinstance(pl_module, ClassificationModule):
            facts = run_facts(trainer, pl_module)
            _show("run", _start_rows(facts, trainer, pl_module), self.plain)
            _warn_of_empty_classes(facts)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The table at the end."""
        summary = find_callback(trainer, RunSummary)
        if trainer.is_global_zero and summary is not None:
            _show("result", _end_rows(trainer, summary), self.plain)
            written = checkpoint_of_run(run_folder(trainer) or Path())
            if written is not None:
                print(f"use it: shvit-pl predict --data.path IMAGES --ckpt_path {written}")

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """How to go on, where there is something to go on from."""
        last = (run_folder(trainer) or Path()) / CHECKPOINTS / LAST
        if trainer.is_global_zero and last.is_file():
            print(f"the run stopped; the same command goes on with --ckpt_path {last}")


def _show(title: str, rows: dict[str, str], plain: bool) -> None:
    if plain:
        print("\n".join(f"{title}: {name or 'note'}: {value}" for name, value in rows.items()))
        return
    table = Table(box=box.SIMPLE, show_header=False, title=title, title_justify="left", title_style="bold")
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, value)
    Console().print(table, highlight=False, soft_wrap=True)


def _start_rows(facts: dict[str, Any], trainer: L.Trainer, module: ClassificationModule) -> dict[str, str]:
    design, dataset, size = facts["design"], facts["dataset"], facts["dataset"]["image_size"]
    grids = ", ".join(f"{side}x{side}" for side in module.design.grids(size))
    return {
        "design": f"{design['name']}: patch {design['patch_size']}, {module.design.stages} stages, "
        f"{', '.join(design['mixers'])}; tokens {grids} at {size} px",
        "cost": f"{facts['params'] / 1e6:.2f} M parameters, {facts['macs'] / 1e6:.1f} MMACs",
        "weights": facts["init"] if trainer.ckpt_path is None else f"those of {trainer.ckpt_path}",
        **({"teacher": facts["teacher"]} if facts["teacher"] else {}),
        "data": f"{_version(dataset)}: {_images(facts)}, {_classes(facts)}",
        "": dataset["validation"],
        "schedule": f"{_length(facts)} of {facts['global_batch']} images; {_learning_rate(module)}",
        "device": f"{facts['device']}, {facts['precision']}, seed {facts['seed']}",
        "folder": str(run_folder(trainer) or "none"),
    }


def _length(facts: dict[str, Any]) -> str:
    steps = counted(facts["steps"], "step")
    return f"{counted(facts['epochs'], 'epoch')}, {steps}" if (facts["epochs"] or 0) > 0 else steps


def _version(dataset: dict[str, Any]) -> str:
    """Which dataset; of the Hub, at which commit."""
    return f"{dataset['path']} at {dataset['commit'][:7]}" if dataset["commit"] else str(dataset["path"])


def _images(facts: dict[str, Any]) -> str:
    dataset = facts["dataset"]
    if dataset["train_images"] is None:
        return "streamed"
    return f"{dataset['train_images']} training and {dataset['validation_images']} validation images"


def _classes(facts: dict[str, Any]) -> str:
    counts = facts["dataset"]["images_per_class"]
    classes = f"{len(facts['classes'])} classes"
    if not counts or len(counts) > _MOST_CLASSES:
        return f"{classes} of {min(counts)} to {max(counts)} training images" if counts else classes
    each = ", ".join(f"{name}: {count}" for name, count in zip(facts["classes"], counts, strict=True))
    return f"{classes}; training images of each: {each}"


def _warn_of_empty_classes(facts: dict[str, Any]) -> None:
    counts = facts["dataset"]["images_per_class"] or []
    empty = [name for name, count in zip(facts["classes"], counts, strict=False) if count == 0]
    if empty:
        shown = ", ".join(empty[:5]) + (", ..." if len(empty) > 5 else "")
        print(f"warning: {len(empty)} of {len(counts)} classes have no training image and can't be learnt: {shown}")


def _learning_rate(module: ClassificationModule) -> str:
    config, schedule = module.config.optim, module.schedule
    if schedule is None:
        return config.name
    shrunk = " (a fifth of the run, which is shorter than warmup_epochs)" if schedule.warmup_shrunk else ""
    warmup = counted(schedule.warmup, f"warm-up {schedule.interval}")
    return f"{config.name}, peak lr {schedule.peak:.2g}, {warmup}{shrunk}"


def _end_rows(trainer: L.Trainer, summary: RunSummary) -> dict[str, str]:
    throughput = find_callback(trainer, Throughput)
    rows = {name: f"{value:.4f}" for name, value in summary.best.items()}
    if summary.best_epoch is None:
        rows[summary.monitor] = "not measured: there was no validation, so there is no best.ckpt"
    else:
        rows["best epoch"] = epoch_of(trainer, summary.best_epoch + 1).strip()
    if summary.broken_images(trainer):
        rows["broken images"] = f"{summary.broken_images(trainer)}, skipped; see the warnings"
    rows["speed"] = f"{throughput.images_per_second:.0f} images/s in training" if throughput else ""
    if throughput is not None and throughput.data_wait is not None:
        rows["data wait"] = f"{throughput.data_wait:.0%} of the time"
    rows["folder"] = str(run_folder(trainer) or "none")
    return rows
