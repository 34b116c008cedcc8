"""Steps, batches and epochs of a run: how Lightning accumulates batches, also where a callback changes it by epoch."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import count
from math import ceil
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import GradientAccumulationScheduler

from shvit_pl.modules.config import Interval


@dataclass(frozen=True)
class StepCounts:
    """How many batches each step of a run takes; the last step of an epoch takes what is left."""

    batches: int
    """Batches of an epoch."""
    accumulated: Callable[[int], int]
    """Batches to accumulate in an epoch, counted from 0."""

    @classmethod
    def of(cls, trainer: L.Trainer) -> "StepCounts":
        """Return the counts of a trainer whose data is set up."""
        callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
        return cls.by(callbacks, int(trainer.num_training_batches), trainer.accumulate_grad_batches)

    @classmethod
    def by(cls, callbacks: Iterable[Any], batches: int, constant: int) -> "StepCounts":
        """Return the counts of epochs of so many batches: by a callback's scheduling, or else a constant."""
        schedulers = [each for each in callbacks if isinstance(each, GradientAccumulationScheduler)]
        return cls(batches, schedulers[-1].get_accumulate_grad_batches if schedulers else lambda epoch: constant)

    def per_step(self, epoch: int) -> int:
        """Return the batches of a whole step."""
        return min(self.accumulated(epoch), self.batches)

    def steps(self, epochs: int) -> int:
        """Return the steps of the first epochs."""
        return sum(ceil(self.batches / self.per_step(epoch)) for epoch in range(epochs))

    def batches_of(self, steps: int) -> int:
        """Return the batches of the first steps."""
        whole = next(epoch for epoch in count() if self.steps(epoch + 1) >= steps)
        return whole * self.batches + min(self.batches, (steps - self.steps(whole)) * self.per_step(whole))

    def step_of(self, batch: int) -> int:
        """Return the step that a batch belongs to, both counted from 0."""
        epoch, within = divmod(batch, self.batches)
        return self.steps(epoch) + within // self.per_step(epoch)

    def of_run(self, trainer: L.Trainer) -> int:
        """Return the steps of a trainer's run, which ends by its epochs or steps."""
        epochs, steps = trainer.max_epochs or -1, trainer.max_steps
        return min([*([self.steps(epochs)] if epochs > 0 else []), *([steps] if steps > 0 else [])])

    def per_steps(self, steps: int) -> list[int]:
        """Return the batches of a whole step in each epoch of a run."""
        return [self.per_step(epoch) for epoch in range(ceil(self.batches_of(steps) / self.batches))]

    def least(self, steps: int) -> int:
        """Return the batches of the smallest step of a run: the last of an epoch may be one."""
        whole = self.per_steps(steps)
        ends = (self.batches % each for epoch, each in enumerate(whole) if self.steps(epoch + 1) <= steps)
        return min([*whole, *filter(None, ends)])

    def shares(self, steps: int, interval: Interval) -> tuple[tuple[int, float], ...]:
        """Return from which step or epoch on the rate is which share of itself: it goes with the images of a step."""
        batches = self.per_steps(steps)
        starts = (epoch if interval == "epoch" else self.steps(epoch) for epoch in range(len(batches)))
        shares = zip(starts, (each / max(batches) for each in batches), strict=True)
        return tuple(shares) if min(batches) < max(batches) else ()
