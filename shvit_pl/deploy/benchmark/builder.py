"""From cells to something that can be timed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from shvit_pl.deploy.benchmark.cells import ONNX, Cell
from shvit_pl.deploy.benchmark.memory import PeakMemory
from shvit_pl.deploy.benchmark.modes import inference
from shvit_pl.deploy.benchmark.networks import Deployed, deployed
from shvit_pl.deploy.benchmark.train_step import TrainStep
from shvit_pl.deploy.measuring import short_reason
from shvit_pl.deploy.passes import at_size
from shvit_pl.deploy.timing import Work
from shvit_pl.designs.cost import Cost
from shvit_pl.models.open_network import OpenedNetwork


class CannotRunError(RuntimeError):
    """Why something can't be measured, in one short line.

    Attributes:
        what: A cell, or a network at an image size that it can't take.
    """

    def __init__(self, what: str, error: Exception) -> None:
        super().__init__(short_reason(error))
        self.what = what


@dataclass(frozen=True)
class Built:
    """A cell to be timed.

    Attributes:
        work: One forward pass, or one step of training.
        memory: Its peak in bytes, as in `memory.PEAK_OF`, where the device tells.
        cost: Parameters and MACs.
        folded: What was done to the network.
    """

    work: Work
    memory: int | None
    cost: Cost
    folded: str


class Builder:
    """Builds cells one by one.

    Args:
        opened: The networks by name.
        device: What computes.
        train: Build steps of training instead of forward passes.
    """

    def __init__(self, opened: Mapping[str, OpenedNetwork], device: torch.device, train: bool) -> None:
        self.opened = opened
        self.device = device
        self.train = train
        self.deployed = cache(self._deployed)
        self.images = cache(self._images)

    def build(self, cell: Cell) -> Built:
        """Build a cell and run it once.

        Raises:
            CannotRunError: where that fails: networks, compilers and devices have errors of their own.
        """
        network = self.deployed(cell.model, cell.pixels)
        try:
            self.images(cell.batch, cell.pixels)  # before memory is watched
            memory = PeakMemory(self.device)
            call = self._call(cell, network)
            call()
            peak = None if cell.runtime == ONNX else memory.of(call) or None  # torch sees none of ONNX Runtime's
        except Exception as error:
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            raise CannotRunError(str(cell), error) from error
        folded = "not fused" if self.train else network.folded
        return Built(Work(call, cell.batch, self.device), peak, network.cost, folded)

    def _call(self, cell: Cell, network: Deployed) -> Callable[[], Tensor]:
        images = self.images(cell.batch, cell.pixels)
        if self.train:
            return TrainStep(cell, at_size(self.opened[cell.model], cell.pixels), images)
        return inference(cell, network.model, images)

    def _deployed(self, name: str, pixels: int) -> Deployed:
        try:
            return deployed(self.opened[name], pixels)
        except Exception as error:  # models of timm refuse images as they like
            raise CannotRunError(f"{name}, {pixels} px", error) from error

    def _images(self, batch: int, pixels: int) -> Tensor:
        return torch.randn(batch, 3, pixels, pixels).to(self.device)
