"""`--optimize` of validate, test and predict: the fastest equal network runs."""

import time
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_only
from timm.utils import ModelEmaV3

from shvit_pl.deploy.optimization import NotCompiledError, optimize
from shvit_pl.errors import UserError

_DTYPES = {"bf16": torch.bfloat16, "16": torch.float16}  # how Lightning's names of precisions begin


class OptimizedNetwork(L.Callback):
    """A callback that replaces the network, and its average, by their optimized forms, for the data's batches."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Check devices and precision; raises `UserError` for several devices, and for 64 bits."""
        if trainer.world_size > 1:
            raise UserError("optimize true: works on one device; give --trainer.devices 1, or leave it out.")
        if str(trainer.precision).startswith("64"):
            raise UserError(f"trainer.precision {trainer.precision}: optimize true computes in 32 or 16 bits.")

    def on_validation_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Optimize what will run before the first batch: to predict one network, to measure all."""
        data = trainer.datamodule.hparams  # type: ignore[attr-defined]
        batch = torch.randn(data.batch_size, 3, data.image_size, data.image_size, device=pl_module.device)
        dtype = _DTYPES.get(str(trainer.precision).split("-")[0], torch.float32)
        names = ["model"] if pl_module.ema is None else ["model", "ema"]
        if trainer.predicting and pl_module.ema is not None:
            names = ["ema" if pl_module.hparams["use_ema"] else "model"]
        for name in names:
            network = getattr(pl_module, name)
            network = network.module if isinstance(network, ModelEmaV3) else network
            setattr(pl_module, name, _optimized(network, batch, dtype))

    on_test_start = on_predict_start = on_validation_start


def _optimized(network: torch.nn.Module, batch: torch.Tensor, dtype: torch.dtype) -> torch.nn.Module:
    say, start = rank_zero_only(print), time.monotonic()
    say("optimizing for batches of", "x".join(map(str, batch.shape)), "...", flush=True)
    try:
        fast = optimize(network, batch, dtype)
    except NotCompiledError as error:
        raise UserError(f"optimize: the network can't be compiled here ({error}). Leave out --optimize.") from error
    rates = ", ".join(f"{name} {rate:.0f}" for name, rate in fast.rates.items())
    refused = "".join(f"; not {name}: {reason}" for name, reason in fast.refused.items())
    say(f"{fast.recipe}, in {time.monotonic() - start:.0f} s; images/s of all that was tried: {rates}{refused}")
    return fast
