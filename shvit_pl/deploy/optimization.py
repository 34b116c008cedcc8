"""The fastest equal network for one shape of images."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from math import isfinite

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from shvit_pl.deploy.compiling import NotCompiledError
from shvit_pl.deploy.fusing import fused
from shvit_pl.deploy.recipes import Recipe, recipes
from shvit_pl.deploy.timing import Progress, images_per_second

_ALLOWED = {torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 1e-2}  # relative error of any image's logits
_TIMES = 4  # or so many times that of the model itself in the same dtype, where its own rounding is more


class Optimized(nn.Module):
    """An equal network, compiled for one shape of images.

    Smaller batches are filled up, larger ones run in parts: in evaluation, images do not see each other.

    Attributes:
        recipe: How it runs, in words.
        rates: Images per second of every way that works, by the same words.
        refused: Why other ways do not.
        layout: Of images that it takes without a copy.
    """

    def __init__(
        self,
        networks: dict[Recipe, Callable[[Tensor], Tensor]],
        example: Tensor,
        dtype: torch.dtype,
        rates: dict[Recipe, float],
        refused: dict[str, str],
    ) -> None:
        super().__init__()
        fastest = max(rates, key=lambda recipe: rates[recipe])
        self.recipe = fastest.name
        self.rates = {recipe.name: rate for recipe, rate in rates.items()}
        self.refused = refused
        self.layout = fastest.layout
        self._device = example.device
        self._network = networks[fastest]
        self._shape = example.shape
        self._dtype = dtype

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Map `(B, 3, H, W)` to `(B, classes)`; raises `ValueError` for images of another size, device or kind."""
        _check_images(images)
        if (images.shape[1:], images.device) != (self._shape[1:], self._device):
            raise ValueError(
                f"images {list(images.shape)} on {images.device}: the network is optimised for {list(self._shape)} on "
                f"{self._device}."
            )
        parts = [self._part(part) for part in torch.split(images, self._shape[0])]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _part(self, images: Tensor) -> Tensor:
        missing = self._shape[0] - len(images)
        whole = F.pad(images, (0, 0, 0, 0, 0, 0, 0, missing)) if missing else images
        whole = whole.to(self._dtype).contiguous(memory_format=self.layout)
        with torch.autocast(images.device.type, enabled=False):  # its dtype is settled
            return self._network(whole)[: len(images)].to(images.dtype)


@torch.no_grad()
def optimize(
    model: nn.Module,
    example: Tensor,
    dtype: torch.dtype = torch.float32,
    progress: Progress | None = None,
    seconds: float = 0.5,
) -> Optimized:
    """An equal network that runs as fast as the device allows: several ways are compiled, and the fastest is kept.

    `model` stays as it is, and so does every global setting of torch. What comes out gives no gradients. On a CPU it
    keeps the number of threads that torch has now, where it runs by ONNX Runtime (extra `[onnx]`).

    Args:
        model: A classifier `(B, 3, H, W)` to `(B, classes)`, of ours or of timm.
        example: A batch of the size to serve, on the device to serve it; its values do not matter.
        dtype: What it computes in (float32, bfloat16 or float16); logits have the dtype of the images.
        progress: Told of every step.
        seconds: Least time of one measurement; every way has seven.

    Raises:
        ValueError: for an example that is no batch of images, and for another dtype.
        NotCompiledError: where the compiler is missing, or fails or computes something else in all ways.
    """
    _check_images(example)
    if dtype not in _ALLOWED:
        raise ValueError(f"dtype {dtype}: allowed are {', '.join(map(str, _ALLOWED))}.")
    images = _noise_like(example).to(dtype)
    networks, refused = _compiled(model, images, progress)
    batches = {recipe: images.contiguous(memory_format=recipe.layout) for recipe in networks}
    rates = images_per_second(networks, batches, rounds=7, seconds=seconds, progress=progress)
    medians = {recipe: rate.median for recipe, rate in rates.items()}
    return Optimized(networks, example, dtype, medians, refused).eval()


def _check_images(images: Tensor) -> None:
    if images.ndim != 4 or not len(images) or not images.is_floating_point():
        raise ValueError(
            f"images {list(images.shape)}, {images.dtype}: needed is a batch (B, 3, H, W) of floating-point numbers."
        )


def _noise_like(example: Tensor) -> Tensor:
    """Images of its shape, that draw nothing from the program's generators."""
    return torch.randn(example.shape, generator=torch.Generator().manual_seed(0)).to(example.device)


def _compiled(
    model: nn.Module, images: Tensor, progress: Progress | None
) -> tuple[dict[Recipe, Callable[[Tensor], Tensor]], dict[str, str]]:
    """All ways that compile to an equal network, and why others don't."""
    others = images.flip(-1)  # for what only keeps its first logits
    precise = "cpu" if images.device.type == "mps" else images.device  # where float64 is to be had
    exact = deepcopy(model).eval().to(precise, torch.float64)(others.to(precise, torch.float64))
    own = deepcopy(model).eval().to(images.dtype)(others)
    allowed = max(_ALLOWED[images.dtype], _TIMES * _error(own, exact))
    plain = fused(deepcopy(model).float()).to(images.dtype)
    tried: tuple[Recipe, ...] = recipes(images.device)
    networks: dict[Recipe, Callable[[Tensor], Tensor]] = {}
    refused: dict[str, str] = {}
    for done, recipe in enumerate(tried, start=1):
        try:
            network = recipe.make(plain, images.contiguous(memory_format=recipe.layout))
            _check_equal(network(others.contiguous(memory_format=recipe.layout)), exact, allowed)
            networks[recipe] = network
        except NotCompiledError as error:
            refused[recipe.name] = str(error)
        if progress is not None:
            progress("compiling", done, len(tried))
    if not networks:
        raise NotCompiledError("; ".join(dict.fromkeys(refused.values())))
    return networks, refused


def _check_equal(logits: Tensor, exact: Tensor, allowed: float) -> None:
    error = _error(logits, exact)
    if not (isfinite(error) and error <= allowed):
        raise NotCompiledError(f"its logits differ by {error:.1e} in {logits.dtype}, allowed is {allowed:.0e}")


def _error(logits: Tensor, exact: Tensor) -> float:
    """The greatest relative error of one image's logits."""
    distances = torch.linalg.vector_norm(logits.to(exact) - exact, dim=1)
    return (distances / torch.linalg.vector_norm(exact, dim=1)).max().item()
