"""Steps, batches and epochs of a run: how Lightning accumulates batches, also where a callback changes it by epoch."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import count
from math import ceil
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import GradientAccumulationScheduler


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
        before = 0
        for epoch in count():
            here = ceil(self.batches / self.per_step(epoch))
            if before + here >= steps:
                return epoch * self.batches + min(self.batches, (steps - before) * self.per_step(epoch))
            before += here
        raise AssertionError

    def step_of(self, batch: int) -> int:
        """Return the step that a batch belongs to, both counted from 0."""
        epoch, within = divmod(batch, self.batches)
        return self.steps(epoch) + within // self.per_step(epoch)
