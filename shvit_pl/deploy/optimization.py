"""The fastest equal network for one shape of images."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from shvit_pl.deploy.compiling import NotCompiledError
from shvit_pl.deploy.fusing import fused
from shvit_pl.deploy.recipes import Recipe, recipes
from shvit_pl.deploy.timing import Progress, images_per_second

_TOLERANCES = {torch.float32: 1e-4, torch.bfloat16: 0.1, torch.float16: 0.1}  # far above what rounding makes of it


class Optimized(nn.Module):
    """An equal network, compiled for one shape of images.

    Smaller batches are filled up, larger ones run in parts: in evaluation, images do not see each other.

    Attributes:
        recipe: How it runs, in words.
        rates: Images per second of every way that was tried, by the same words.
    """

    def __init__(
        self, network: Callable[[Tensor], Tensor], example: Tensor, dtype: torch.dtype, rates: dict[str, float]
    ) -> None:
        super().__init__()
        self.recipe = max(rates, key=lambda name: rates[name])
        self.rates = rates
        self._network = network
        self._shape = example.shape
        self._dtype = dtype

    @torch.inference_mode()
    def forward(self, images: Tensor) -> Tensor:
        """Map `(B, 3, H, W)` to `(B, classes)`; raises `ValueError` for images of another size than the example's."""
        if images.shape[1:] != self._shape[1:]:
            raise ValueError(f"images {list(images.shape)}: the network is optimised for {list(self._shape)}.")
        parts = [self._part(part) for part in torch.split(images, self._shape[0])]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _part(self, images: Tensor) -> Tensor:
        missing = self._shape[0] - len(images)
        whole = F.pad(images, (0, 0, 0, 0, 0, 0, 0, missing)) if missing else images
        whole = whole.to(self._dtype).contiguous(memory_format=torch.channels_last)
        with torch.autocast(images.device.type, enabled=False):  # its dtype is settled
            return self._network(whole)[: len(images)].to(images.dtype)


@torch.inference_mode()
def optimize(
    model: nn.Module, example: Tensor, dtype: torch.dtype = torch.float32, progress: Progress | None = None
) -> Optimized:
    """An equal network that runs as fast as the device allows: several ways are compiled, and the fastest is kept.

    `model` stays as it is, and so does every global setting of torch.

    Args:
        model: A classifier `(B, 3, H, W)` to `(B, classes)`, of ours or of timm.
        example: A batch of the size to serve, on the device to serve it.
        dtype: What it computes in (float32, bfloat16 or float16); logits have the dtype of the images.
        progress: Told of every step.

    Raises:
        NotCompiledError: where the compiler is missing, or fails or computes something else in all ways.
    """
    images = example.to(dtype).contiguous(memory_format=torch.channels_last)
    expected = deepcopy(model).eval()(example.to(next(model.parameters(), example).dtype))
    networks = _compiled(fused(model).to(dtype), images, expected, progress)
    rates = images_per_second(networks, images, rounds=7, seconds=0.5, progress=progress)
    medians = {name: rate.median for name, rate in rates.items()}
    best = max(networks, key=lambda name: medians[name])
    return Optimized(networks[best], example, dtype, medians).eval()


def _compiled(
    model: nn.Module, images: Tensor, expected: Tensor, progress: Progress | None
) -> dict[str, Callable[[Tensor], Tensor]]:
    """All ways that compile to an equal network."""
    tried: tuple[Recipe, ...] = recipes(images.device)
    networks: dict[str, Callable[[Tensor], Tensor]] = {}
    for done, recipe in enumerate(tried, start=1):
        try:
            network = recipe.make(model, images)
            _check_equal(network(images), expected, images.dtype)
            networks[recipe.name] = network
        except NotCompiledError as error:
            problem = error
        if progress is not None:
            progress("compiling", done, len(tried))
    if not networks:
        raise problem
    return networks


def _check_equal(logits: Tensor, expected: Tensor, dtype: torch.dtype) -> None:
    error = (torch.linalg.vector_norm(logits - expected) / torch.linalg.vector_norm(expected)).item()
    if not error <= _TOLERANCES[dtype]:  # nor is it a number where a value has overflowed
        raise NotCompiledError(f"its logits differ by {error:.1e} in {dtype}")
