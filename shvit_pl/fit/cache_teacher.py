"""`cache-teacher`: run a teacher once, and keep its answers for `fit`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only
from rich.filesize import decimal

from shvit_pl.callbacks.progress import RunProgress
from shvit_pl.command_line.checks import check_writable
from shvit_pl.errors import UserError
from shvit_pl.fit.lightning_cli import ShvitCLI
from shvit_pl.modules.classification import ClassificationModule, make_mixup
from shvit_pl.modules.distillation import DistillationModule
from shvit_pl.runs.claim import claim
from shvit_pl.teachers.cache import TeacherCacher, begin, begun, missing
from shvit_pl.teachers.cache_manifest import FLAG, NAME, Manifest
from shvit_pl.teachers.teacher import Teacher


class CacheCLI(ShvitCLI):
    """Takes all flags of `fit`, and writes the teacher's answers to `model.distill.cache` instead of training."""

    command = "fit"
    planned: Manifest

    def run(self) -> None:
        """Ask the teacher for what is missing."""
        self.trainer, model = self.instantiate_trainer(), self.model
        assert isinstance(model, DistillationModule)
        folder = Path(str(model.config.distill.cache))
        manifest = self.planned if model.teacher is None else self._begin(model, model.teacher, folder)
        try:
            if model.teacher is not None:
                mixup = make_mixup(model.config.mix, classes=2, label_smoothing=0.0)
                cacher = TeacherCacher(model.teacher.logits, self.datamodule, mixup, folder, manifest)
                self.trainer.predict(cacher, return_predictions=False)
        finally:
            _show_state(manifest, len(missing(folder, manifest)))

    def _begin(self, model: DistillationModule, teacher: Teacher, folder: Path) -> Manifest:
        """Measure the teacher, and make the folder ready for its answers."""
        model.measure_teacher(self.datamodule, self.trainer.strategy.root_device)
        check = str(model.teacher_check or "not checked")
        manifest = begin(folder, replace(self.planned, check=check, precision=teacher.precision))
        if manifest.precision != teacher.precision:
            raise UserError(
                f"{FLAG} {str(folder)!r}: it was begun in {manifest.precision}, and here the teacher computes in "
                f"{teacher.precision}. Complete it on a device as before, or write another folder."
            )
        claim(folder, NAME, FLAG)
        left = len(missing(folder, manifest))
        _show(f"teacher: {model.teacher_note}")
        _show(f"{_size(manifest)} in {folder}; {left} of {len(manifest.shards)} files to write")
        epochs = self.config.trainer.max_epochs
        if 0 < (epochs or 0) < manifest.views:
            _show(f"note: {epochs} epochs read {epochs} of these views; --model.distill.views {epochs} would do")
        return manifest

    def _find_checkpoint(self, config: Any) -> None:
        if config.ckpt_path is not None:
            raise UserError(f"ckpt_path {config.ckpt_path}: cache-teacher trains nothing; leave it out.")

    def open_inputs(self) -> None:
        """Open the data, and the teacher where there is anything to ask it."""
        if not isinstance(self.model, DistillationModule) or self.model.config.distill.cache is None:
            raise UserError(
                "model.distill: cache-teacher needs a teacher and a folder. Give --model.distill.teacher and "
                "--model.distill.cache FOLDER, with all other flags as for shvit-pl fit."
            )
        folder = self.model.config.distill.cache
        check_writable(FLAG, folder)
        self.datamodule.setup("fit")
        ClassificationModule.use_data(self.model, self.datamodule, "fit")
        self.planned = self.model.planned_cache(self.datamodule)
        held = begun(folder, self.planned)
        if held is None or missing(folder, held):
            self.model.open_teacher(self.datamodule)
        else:
            self.planned = held

    def _loggers(self, config: Any) -> list[Logger] | bool:
        return False

    def _callbacks(self, config: Any) -> list[Callback]:
        return [RunProgress(plain=self.options.plain)]


def _size(manifest: Manifest) -> str:
    return f"{manifest.views} views of {manifest.slots} images: {decimal(manifest.estimate())}"


def _show_state(manifest: Manifest, left: int) -> None:
    if left:
        _show(f"{len(manifest.shards) - left} of {len(manifest.shards)} files are there; the same command goes on")
    else:
        _show("whole: train with the same flags by shvit-pl fit")


@rank_zero_only
def _show(line: str) -> None:
    print(line, flush=True)
