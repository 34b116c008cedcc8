"""Teachers that `shvit-pl fit` has trained: a checkpoint or a run folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from shvit_pl.designs.config import DesignConfig
from shvit_pl.errors import UserError, one_line
from shvit_pl.models import build_network, load_weights
from shvit_pl.models.opened_network import OpenedNetwork
from shvit_pl.teachers.config import DistillConfig
from shvit_pl.teachers.sources.files import file_hash


@dataclass(frozen=True)
class OwnCheckpoint:
    """A checkpoint of ours."""

    config: DistillConfig
    path: Path

    def identity(self) -> dict[str, str]:
        """The file's SHA-256."""
        return {"checkpoint": file_hash(self.path)}

    def build(self) -> OpenedNetwork:
        """The trained network; raises `UserError` for a file that is no checkpoint of ours."""
        checkpoint = self._read()
        try:
            settings, size = checkpoint["hyper_parameters"], checkpoint["datamodule_hyper_parameters"]["image_size"]
            names, averaged = settings["class_names"], bool(settings["ema"]["decay"])
            model = build_network(DesignConfig(**settings["design"]).resolve(), num_classes=len(names))
        except (LookupError, TypeError, ValueError) as error:
            raise self._foreign(f"in its settings, {one_line(error)}") from error
        if self.config.use_ema and not averaged:
            raise UserError(
                f"model.distill.use_ema true: {str(self.path)!r} holds no averaged weights (its model.ema.decay was "
                "0); leave it out."
            )
        try:
            report = load_weights(model, self.path, averaged=self.config.use_ema)
        except UserError as error:
            raise self._foreign("its weights are not of the design in its settings") from error
        if report.reinitialised:
            raise self._foreign(f"it lacks {', '.join(report.reinitialised)}")
        opened = OpenedNetwork(self.config.source, model, "checkpoint", size, class_names=list(names))
        return replace(opened, averaged=self.config.use_ema)

    def _read(self) -> Mapping[str, Any]:
        try:
            content = torch.load(self.path, map_location="cpu", weights_only=True, mmap=True)
        except Exception as error:  # whatever torch runs into in a file that is something else, or cut short
            raise self._foreign("it can't be read") from error
        return content if isinstance(content, Mapping) else {}

    def _foreign(self, reason: str) -> UserError:
        return UserError(
            f"model.distill.teacher {str(self.path)!r}: not a whole checkpoint of shvit-pl fit ({reason}). Give a "
            "run's checkpoints/best.ckpt; for weights of another program, give a timm name, and the file with "
            "--model.distill.weights."
        )
