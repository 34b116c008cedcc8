"""The identity of a run: its folder, settings, seeds and end, also when it is interrupted and resumed."""

import shutil
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import lightning as L
from lightning.pytorch.plugins.environments import SLURMEnvironment

from shvit_pl.callbacks.checkpoints import before_validation
from shvit_pl.compat import cluster_environment, root_folder
from shvit_pl.data.datamodule import HFImageDataModule
from shvit_pl.errors import UserError
from shvit_pl.randomness import run_seed, seed_all
from shvit_pl.runs.folder import CHECKPOINTS
from shvit_pl.runs.writing import claim, release, run_folder


class OwnFolder(L.Callback):
    """A claim on the run's folder from the first step to the end; a run that stops in that step removes it."""

    def __init__(self) -> None:
        self._begun = False

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Claim the folder, once its config.yaml is written."""
        folder = run_folder(trainer)
        if folder is not None:
            claim(folder)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        """Note that the folder holds something."""
        self._begun = True

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Remove it if it holds nothing and is not an interrupted run's, and release it."""
        folder = run_folder(trainer)
        if folder is None:
            return
        if trainer.is_global_zero and not self._begun and not (folder / CHECKPOINTS).exists():
            shutil.rmtree(folder, ignore_errors=True)
            with suppress(OSError):
                folder.parent.rmdir()  # where no other run is in it
        release(folder)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Release the folder."""
        folder = run_folder(trainer)
        if folder is not None:
            release(folder)


class RunSettings(L.Callback):
    """Settings in checkpoints, for a resumed run to be compared with.

    Args:
        settings: Flat settings.
        allow_changes: A resumed run may have another number of processes.
    """

    def __init__(self, settings: dict[str, Any], allow_changes: bool = False) -> None:
        self.settings, self.allow_changes = settings, allow_changes
        self.processes, self.readers = 1, 0

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Count the processes, and a stream's readers."""
        self.processes = trainer.world_size
        data: HFImageDataModule = trainer.datamodule  # type: ignore[attr-defined]
        self.readers = data.stream_workers

    def state_dict(self) -> dict[str, Any]:
        """Return the state for checkpoints."""
        return {"settings": self.settings, "processes": self.processes, "readers": self.readers}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Compare what is known only once the processes run."""
        before = state_dict["processes"]
        if before != self.processes and not self.allow_changes:
            raise UserError(
                f"trainer.devices: the interrupted run had {before} processes, this one has {self.processes}; give "
                f"--trainer.devices {before}, or --allow_changes true to go on with another global batch."
            )
        before = state_dict["readers"]
        if before != self.readers and not self.allow_changes:
            raise UserError(
                f"data.num_workers {self.readers}: {before} read the interrupted run's stream, which decides its "
                f"order; give --data.num_workers {before}, or --allow_changes true to go on in another order."
            )


class StepSeed(L.Callback):
    """A seed for every training step, so that a run resumed anywhere draws what the uninterrupted one would have.

    Ranks draw different numbers (Mixup and drop path differ between them).
    """

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seed by seed, epoch, batch and rank."""
        seed_all(run_seed(), trainer.current_epoch, batch_idx, trainer.global_rank)


class LastValidation(L.Callback):
    """Validation after the last of `max_steps`, as after a whole epoch."""

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        """Stop where the run ends anyway: only then does Lightning validate first."""
        if 0 < trainer.max_steps <= trainer.global_step:
            trainer.should_stop = True


class Requeue(L.Callback):
    """Lightning's answer to SLURM's signal (save, requeue), put off until the step is complete.

    Within a step the checkpoint would hold half of it. Processes get the signal at different times, and so agree every
    `log_every_n_steps` steps.
    """

    def __init__(self) -> None:
        self._answer: Callable[..., Any] | None = None
        self._asked = False

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take the place of Lightning's handler."""
        environment = cluster_environment(trainer)
        if not (isinstance(environment, SLURMEnvironment) and environment.auto_requeue and environment.requeue_signal):
            return
        handler = signal.getsignal(environment.requeue_signal)
        self._answer = handler if callable(handler) else None
        signal.signal(environment.requeue_signal, self._note)

    def _note(self, signum: int, frame: Any) -> None:
        self._asked = True

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save and requeue where it was asked for."""
        if self._answer is None or before_validation(trainer, batch_idx):
            return
        alone = trainer.world_size == 1
        every = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if not alone and (batch_idx + 1) % every:
            return
        if not (self._asked if alone else trainer.strategy.reduce_boolean_decision(self._asked, all=False)):
            return
        self._asked = False
        # Lightning writes into the root, where any later job would take the file
        folder = run_folder(trainer)
        with root_folder(trainer, str(folder / CHECKPOINTS) if folder is not None else trainer.default_root_dir):
            self._answer(signal.SIGUSR1, None)
