"""`--optimize` of validate, test and predict: the fastest equal network runs."""

from __future__ import annotations

import time
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_only
from timm.utils import ModelEmaV3
from torch import nn

from shvit_pl.deploy.optimization import NotCompiledError, Optimized, optimize
from shvit_pl.errors import UserError

_DTYPES = {"bf16": torch.bfloat16, "16": torch.float16}  # how Lightning's names of precisions begin


class OptimizedNetwork(L.Callback):
    """A callback that replaces the network, and its average, by their optimized forms, for the data's batches."""

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Optimize before the first batch."""
        self._optimize(trainer, pl_module)

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Optimize before the first batch."""
        self._optimize(trainer, pl_module)

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Optimize before the first batch."""
        self._optimize(trainer, pl_module)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Check devices and precision.

        Raises:
            UserError: for several devices, and for 64 bits.
        """
        if trainer.world_size > 1:
            raise UserError("optimize true: it is for one device; give --trainer.devices 1, or leave it out.")
        if str(trainer.precision).startswith("64"):
            raise UserError(f"trainer.precision {trainer.precision}: optimize true computes in 32 or 16 bits.")

    @staticmethod
    def _optimize(trainer: L.Trainer, module: Any) -> None:
        data = trainer.datamodule.hparams  # type: ignore[attr-defined]
        batch = torch.randn(data.batch_size, 3, data.image_size, data.image_size, device=module.device)
        dtype = _DTYPES.get(str(trainer.precision).split("-")[0], torch.float32)
        for name in _used(trainer, module):
            network = getattr(module, name)
            network = network.module if isinstance(network, ModelEmaV3) else network
            setattr(module, name, _optimized(network, batch, dtype))


def _used(trainer: L.Trainer, module: Any) -> list[str]:
    """Return the names of the networks that will run: one to predict, all to measure."""
    if module.ema is None:
        return ["model"]
    if trainer.predicting:
        return ["ema" if module.config.use_ema else "model"]
    return ["model", "ema"]


def _optimized(network: nn.Module, batch: torch.Tensor, dtype: torch.dtype) -> Optimized:
    say, began = rank_zero_only(print), time.monotonic()
    say("optimizing for batches of", "x".join(map(str, batch.shape)), "...", flush=True)
    try:
        fast = optimize(network, batch, dtype)
    except NotCompiledError as error:
        raise UserError(f"optimize: the network can't be compiled here ({error}). Leave it out.") from error
    rates = ", ".join(f"{name} {rate:.0f}" for name, rate in fast.rates.items())
    refused = "".join(f"; not {name}: {reason}" for name, reason in fast.refused.items())
    say(f"{fast.recipe}, in {time.monotonic() - began:.0f} s; images/s of all that was tried: {rates}{refused}")
    return fast
