"""`cache-teacher`: run a teacher once, and keep its answers for `fit`."""

from __future__ import annotations

from typing import Any

from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from shvit_pl.callbacks.progress import RunProgress
from shvit_pl.errors import UserError
from shvit_pl.flags import check_writable
from shvit_pl.lightning_cli import ShvitCLI, run_as
from shvit_pl.modules import ClassificationModule, DistillationModule
from shvit_pl.teachers.cache import begin, missing
from shvit_pl.teachers.caching import TeacherCacher
from shvit_pl.teachers.manifest import FLAG, Manifest


class CacheCLI(ShvitCLI):
    """Takes all flags of `fit`, and writes the teacher's answers to `model.distill.cache` instead of training."""

    def fit(self, model: ClassificationModule, **_: Any) -> None:
        """Ask the teacher for what is missing."""
        assert isinstance(model, DistillationModule)
        assert model.teacher is not None
        model.measure_teacher(self.datamodule, self.trainer.strategy.root_device)
        folder = str(model.distill_config.cache)
        manifest = begin(folder, model.planned_cache(self.datamodule))
        left = len(missing(folder, manifest))
        _show(f"teacher: {model.teacher_note}")
        _show(f"{_size(manifest)} in {folder}; {left} of {len(manifest.shards)} files to write")
        if left:
            mixup = model.mix_config.build(classes=2, label_smoothing=0.0)
            cacher = TeacherCacher(model.teacher.logits, self.datamodule, mixup, folder, manifest)
            self.trainer.predict(cacher, return_predictions=False)
        _show("whole: train with the same flags by shvit-pl fit")

    def _open_inputs(self) -> None:
        """Open the data and the teacher."""
        if not isinstance(self.model, DistillationModule) or self.model.distill_config.cache is None:
            raise UserError(
                "model.distill: cache-teacher needs a teacher and a folder. Give --model.distill.teacher and "
                "--model.distill.cache FOLDER, with all other flags as for shvit-pl fit."
            )
        check_writable(FLAG, self.model.distill_config.cache)
        self.datamodule.setup("fit")
        ClassificationModule.use_data(self.model, self.datamodule, "fit")
        self.model.open_teacher(self.datamodule)

    def _loggers(self, config: Any) -> list[Logger] | bool:
        return False

    def _callbacks(self, config: Any) -> list[Callback]:
        return [RunProgress(plain=config.plain)]


def _size(manifest: Manifest) -> str:
    size = manifest.estimate()
    unit, name = next((unit, name) for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")) if size >= unit)
    return f"{manifest.views} views of {manifest.slots} images: {size / unit:.1f} {name}"


@rank_zero_only
def _show(line: str) -> None:
    print(line, flush=True)


def run(args: list[str]) -> None:
    """Run the command."""
    run_as(CacheCLI, "fit", args)
