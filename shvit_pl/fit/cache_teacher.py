"""`cache-teacher`: run a teacher once, and store its logits for `fit`."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only
from rich.filesize import decimal

from shvit_pl.callbacks.progress import RunProgress
from shvit_pl.errors import UserError
from shvit_pl.files import check_writable
from shvit_pl.fit.lightning_cli import ShvitCLI
from shvit_pl.modules.classification import ClassificationModule, make_mixup
from shvit_pl.modules.distillation import DistillationModule
from shvit_pl.runs.writing import claim
from shvit_pl.teachers.cache import FLAG, NAME, Manifest, TeacherCacher, begin, begun, missing
from shvit_pl.teachers.teacher import Teacher


class CacheCLI(ShvitCLI):
    """A command with all flags of `fit` that writes the teacher's logits to `model.distill.cache`."""

    command = "fit"
    planned: Manifest

    def run(self) -> None:
        """Run the teacher for the missing files."""
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
            files, left = len(manifest.shards), len(missing(folder, manifest))
            unfinished = f"{files - left} of {files} files are there; the same command goes on"
            _show(unfinished if left else "complete: train with the same flags by shvit-pl fit")

    def _begin(self, model: DistillationModule, teacher: Teacher, folder: Path) -> Manifest:
        """Measure the teacher, and prepare the folder."""
        model.measure_teacher(self.datamodule, self.trainer.strategy.root_device)
        check = str(model.teacher_check or "not checked")
        manifest = begin(folder, replace(self.planned, check=check, precision=teacher.precision))
        if manifest.precision != teacher.precision:
            raise UserError(
                f"{FLAG} {str(folder)!r}: it was begun in {manifest.precision}, and here the teacher computes in "
                f"{teacher.precision}. Complete it on a device as before, or write another folder."
            )
        claim(folder, NAME, FLAG)
        size = f"{manifest.views} views of {manifest.slots} images: {decimal(manifest.estimate())}"
        left = len(missing(folder, manifest))
        _show(f"teacher: {model.teacher_note}")
        _show(f"{size} in {folder}; {left} of {len(manifest.shards)} files to write")
        epochs = self.config.trainer.max_epochs
        if 0 < (epochs or 0) < manifest.views:
            _show(f"note: {epochs} epochs read {epochs} of these views; --model.distill.views {epochs} would do")
        return manifest

    def _find_checkpoint(self) -> None:
        if self.config.ckpt_path is not None:
            raise UserError(f"ckpt_path {self.config.ckpt_path}: cache-teacher trains nothing; leave it out.")

    def open_inputs(self) -> None:
        """Open the data, and the teacher unless the folder is complete."""
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

    def _callbacks(self, config: Any) -> list[L.Callback]:
        return [RunProgress(plain=self.options.plain)]


@rank_zero_only
def _show(line: str) -> None:
    print(line, flush=True)
