"""Short tables at the start and at the end of a run."""

from pathlib import Path
from typing import Any

import lightning as L
from rich import box
from rich.console import Console
from rich.table import Table

from shvit_pl.callbacks.progress import epoch_of
from shvit_pl.callbacks.summary import RunSummary, run_facts
from shvit_pl.callbacks.throughput import Throughput, find_callback
from shvit_pl.display.words import counted
from shvit_pl.modules.classification import ClassificationModule
from shvit_pl.runs.folder import CHECKPOINTS, LAST, checkpoint_of_run
from shvit_pl.runs.loggers import run_folder

_MOST_CLASSES = 20  # that are listed


class RunReport(L.Callback):
    """Tables of what a run is about to do, and of its result with the next steps.

    Args:
        plain: One line a fact, for log files.
    """

    def __init__(self, plain: bool = False) -> None:
        self.plain = plain

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print the table at the start, and a warning of classes without images."""
        if not trainer.is_global_zero or not isinstance(pl_module, ClassificationModule):
            return
        facts = run_facts(trainer, pl_module)
        _show("run", _start_rows(facts, trainer, pl_module), self.plain)
        counts = facts["dataset"]["images_per_class"] or []
        empty = [name for name, count in zip(facts["classes"], counts, strict=False) if count == 0]
        if empty:
            names = ", ".join(empty[:5]) + (", ..." if len(empty) > 5 else "")
            print(
                f"warning: {len(empty)} of {len(counts)} classes have no training image and can't be learned: {names}"
            )

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print the table at the end."""
        summary = find_callback(trainer, RunSummary)
        if trainer.is_global_zero and summary is not None:
            _show("result", _end_rows(trainer, summary), self.plain)
            written = checkpoint_of_run(run_folder(trainer) or Path())
            if written is not None:
                print(f"use it: shvit-pl predict --data.path IMAGES --ckpt_path {written}")

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Print how to go on, where there is a checkpoint."""
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

    images, counts = "streamed", dataset["images_per_class"]
    if dataset["train_images"] is not None:
        images = f"{dataset['train_images']} training and {dataset['validation_images']} validation images"
    classes = f"{len(facts['classes'])} classes"
    if counts and len(counts) > _MOST_CLASSES:
        classes += f" of {min(counts)} to {max(counts)} training images"
    elif counts:
        each = ", ".join(f"{name}: {count}" for name, count in zip(facts["classes"], counts, strict=True))
        classes += f"; training images of each: {each}"
    version = f"{dataset['path']} at {dataset['commit'][:7]}" if dataset["commit"] else str(dataset["path"])

    length = counted(facts["steps"], "step")
    if (facts["epochs"] or 0) > 0:
        length = f"{counted(facts['epochs'], 'epoch')}, {length}"
    rate, schedule = module.config.optim.name, module.schedule
    if schedule is not None:
        rate += f", peak lr {schedule.peak:.2g}, {counted(schedule.warmup, f'warm-up {schedule.interval}')}"
        rate += " (a fifth of the run, which is shorter than warmup_epochs)" if schedule.warmup_shrunk else ""
    return {
        "design": f"{design['name']}: patch {design['patch_size']}, {module.design.stages} stages, "
        f"{', '.join(design['mixers'])}; tokens {grids} at {size} px",
        "cost": f"{facts['params'] / 1e6:.2f} M parameters, {facts['macs'] / 1e6:.1f} MMACs",
        "weights": facts["init"] if trainer.ckpt_path is None else f"those of {trainer.ckpt_path}",
        **({"teacher": facts["teacher"]} if facts["teacher"] else {}),
        "data": f"{version}: {images}, {classes}",
        "": dataset["validation"],
        "schedule": f"{length} of {facts['global_batch']} images; {rate}",
        "device": f"{facts['device']}, {facts['precision']}, seed {facts['seed']}",
        "folder": str(run_folder(trainer) or "none"),
    }


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
