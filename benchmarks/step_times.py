"""A profiler of Lightning's that sums up what the parts of a training step take."""

from __future__ import annotations

import time
from collections import defaultdict

import torch
from lightning.pytorch.profilers import Profiler

_LOOP = "logging, callbacks and loop"
_PARTS = {  # by what Lightning calls them; the first that fits
    "train_dataloader_next": "data wait",
    "batch_transfer": "copy and what the device does to images",
    "batch_to_device": "copy and what the device does to images",
    "configure_gradient_clipping": "clipping",
    "backward": "backward",
    "ema": "moving average",
    "training_step": "forward and loss",
    "optimizer": "optimizer",
}


class StepTimes(Profiler):
    """Seconds of each part of the steps after the first ones, without those of the parts within it."""

    skipped = 3
    wanted = 0  # the number of the last step that counts
    last: StepTimes

    def __init__(self) -> None:
        super().__init__()
        self.seconds: dict[str, float] = defaultdict(float)
        self.steps = 0
        self._open = [_LOOP]
        self._since = 0.0
        StepTimes.last = self

    def start(self, action_name: str) -> None:
        """A part begins."""
        if action_name.endswith("train_dataloader_next"):
            self.steps += 1
        self._account()
        self._open.append(next((part for name, part in _PARTS.items() if name in action_name), self._open[-1]))

    def stop(self, action_name: str) -> None:
        """A part ends; the last step ends with the epoch's callbacks, which are no part of it."""
        self._account()
        self._open.pop()

    def _account(self) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        now = time.perf_counter()
        if self.skipped < self.steps <= self.wanted:
            self.seconds[self._open[-1]] += now - self._since
        self._since = now
