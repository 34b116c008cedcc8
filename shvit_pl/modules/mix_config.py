"""Mixup and CutMix."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Literal

from timm.data import Mixup

from shvit_pl.data.mixing import MixupOfEach
from shvit_pl.errors import UserError


@dataclass(frozen=True)
class MixConfig:
    """Mixup and CutMix by timm; the paper's recipe has mixup 0.8 and cutmix 1.0.

    Attributes:
        mixup: Parameter of Mixup's Beta distribution; 0 is none.
        cutmix: Parameter of CutMix's Beta distribution; 0 is none.
        prob: Probability of a batch (or pair, or image) to be mixed.
        switch_prob: Probability of CutMix where both are on.
        mode: What shares one draw: batch, pair or elem.
    """

    mixup: float = 0.0
    cutmix: float = 0.0
    prob: float = 1.0
    switch_prob: float = 0.5
    mode: Literal["batch", "pair", "elem"] = "batch"

    def __post_init__(self) -> None:
        for flag, ok, allowed in (
            ("mixup", 0 <= self.mixup < inf, "0 (none) or more; the paper's is 0.8"),
            ("cutmix", 0 <= self.cutmix < inf, "0 (none) or more; the paper's is 1.0"),
            ("prob", 0 <= self.prob <= 1, "from 0 to 1"),
            ("switch_prob", 0 <= self.switch_prob <= 1, "from 0 to 1"),
        ):
            if not ok:
                raise UserError(f"model.mix.{flag} {getattr(self, flag)}: allowed is {allowed}.")

    @property
    def active(self) -> bool:
        """Whether anything is mixed."""
        return (self.mixup > 0 or self.cutmix > 0) and self.prob > 0

    def check_batch_size(self, batch_size: int) -> None:
        """Raise `UserError` for an odd batch: images are mixed in pairs."""
        if self.active and batch_size % 2:
            raise UserError(
                f"data.batch_size {batch_size}: Mixup and CutMix need an even number; allowed are {batch_size - 1} or "
                f"{batch_size + 1}, or turn them off with --model.mix.mixup 0 --model.mix.cutmix 0."
            )

    def build(self, classes: int, label_smoothing: float) -> Mixup | None:
        """From images `(B, 3, S, S)` (changed in place) and labels `(B,)` to images and targets `(B, classes)`."""
        if not self.active:
            return None
        mixup = Mixup if self.mode == "batch" else MixupOfEach
        return mixup(
            mixup_alpha=self.mixup,
            cutmix_alpha=self.cutmix,
            prob=self.prob,
            switch_prob=self.switch_prob,
            mode=self.mode,
            label_smoothing=label_smoothing,
            num_classes=classes,
        )
