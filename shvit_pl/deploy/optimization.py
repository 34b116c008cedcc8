"""The fastest equal network for one shape of images: recipes are compiled, checked, and measured in turns."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from math import isfinite
from textwrap import shorten
from typing import Any

import torch
from torch import Tensor, nn

from shvit_pl.command_line.parser import check_extra
from shvit_pl.compat import inductor_compile
from shvit_pl.deploy import formats, timing
from shvit_pl.deploy.passes import Pass, attention_over_tokens, depthwise_as_sum, fused, pointwise_as_linear, rewrite

Network = Callable[[Tensor], Tensor]
_ALLOWED = {torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 1e-2}  # relative error of any image's logits
_TIMES = 4  # times the error of the model itself in the same dtype is allowed too, where that is more
_GRAPH_WARM_UPS = 3  # as in torch's notes on CUDA graphs
_MAX_REASON = 160  # characters
_PRODUCTS: tuple[Pass, ...] = (attention_over_tokens, pointwise_as_linear)
_SUMS: tuple[Pass, ...] = (*_PRODUCTS, depthwise_as_sum)


class NotCompiledError(RuntimeError):
    """The reason why a network could not be compiled, in one short line."""


class Optimized(nn.Module):
    """An equal network, compiled for one shape of images.

    Smaller batches are padded, larger ones run in parts: in evaluation, images do not affect each other.
    """

    recipe: str
    rates: dict[str, float]
    """Images per second of every recipe that works, by name."""
    refused: dict[str, str]
    """Reasons why other recipes don't work, by name."""
    layout: torch.memory_format
    """Memory format of images that it takes without a copy."""

    def __init__(self, network: Network, recipe: "Recipe", example: Tensor, dtype: torch.dtype) -> None:
        super().__init__()
        self.recipe, self.layout = recipe.name, recipe.layout
        self._network = network
        self._shape, self._device, self._dtype = example.shape, example.device, dtype

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Map `(B, 3, H, W)` to `(B, classes)`; raises `ValueError` for images of another size, device or kind."""
        _check_images(images)
        if (images.shape[1:], images.device) != (self._shape[1:], self._device):
            raise ValueError(
                f"images {list(images.shape)} on {images.device}: the network is optimized for {list(self._shape)} on "
                f"{self._device}."
            )
        parts = [self._part(part) for part in torch.split(images, self._shape[0])]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _part(self, images: Tensor) -> Tensor:
        missing = self._shape[0] - len(images)
        whole = nn.functional.pad(images, (0, 0, 0, 0, 0, 0, 0, missing)) if missing else images
        whole = whole.to(self._dtype).contiguous(memory_format=self.layout)
        with torch.autocast(images.device.type, enabled=False):  # the network's own dtype is used
            return self._network(whole)[: len(images)].to(images.dtype)


@torch.no_grad()
def optimize(
    model: nn.Module,
    example: Tensor,
    dtype: torch.dtype = torch.float32,
    seconds: float = 0.5,
    real: Tensor | None = None,
) -> Optimized:
    """Compile an equal network in several ways, and return the fastest.

    `model` and all global settings of torch stay as they are. The result gives no gradients. Where ONNX Runtime (extra
    `[onnx]`) is the fastest on a CPU, the result keeps the number of threads that torch has now.

    Args:
        model: A classifier `(B, 3, H, W)` to `(B, classes)`, of ours or of timm.
        example: A batch of the size to serve, on the device to serve it; its values do not matter.
        dtype: Type to compute in (float32, bfloat16 or float16); logits have the dtype of the images.
        seconds: Approximate time of one measurement; every recipe has seven.
        real: Images of the example's shape, on which logits are compared besides those of noise.

    Raises:
        ValueError: for an example that is no batch of images, and for another dtype.
        NotCompiledError: where the compiler is missing, or no recipe compiles to an equal network.
    """
    _check_images(example)
    if dtype not in _ALLOWED:
        raise ValueError(f"dtype {dtype}: allowed are {', '.join(map(str, _ALLOWED))}.")
    noise = torch.randn(example.shape, generator=torch.Generator().manual_seed(0))  # the program's generators stay
    images = noise.to(example.device, dtype)
    if real is not None and real.shape != example.shape:
        raise ValueError(f"real images {list(real.shape)}: expected the example's shape {list(example.shape)}.")
    networks, refused = _compile_equal(model, images, real)
    batches = {recipe: images.contiguous(memory_format=recipe.layout) for recipe in networks}
    rates = timing.images_per_second(networks, batches, rounds=7, seconds=seconds)
    fastest = max(rates, key=lambda recipe: rates[recipe].median)
    optimized = Optimized(networks[fastest], fastest, example, dtype)
    optimized.rates, optimized.refused = {recipe.name: rate.median for recipe, rate in rates.items()}, refused
    return optimized.eval()


def _check_images(images: Tensor) -> None:
    if images.ndim != 4 or not len(images) or not images.is_floating_point():
        raise ValueError(
            f"images {list(images.shape)}, {images.dtype}: expected a batch (B, 3, H, W) of floating-point numbers."
        )


def _compile_equal(
    model: nn.Module, images: Tensor, real: Tensor | None
) -> tuple[dict["Recipe", Network], dict[str, str]]:
    """Return the networks of all recipes that compile to an equal one, and why others don't."""
    batches = [images.flip(-1)]  # detects a network that returns the logits of its first call again
    if real is not None:
        batches.append(real.to(images))
    precise = "cpu" if images.device.type == "mps" else images.device  # MPS has no float64
    double = deepcopy(model).eval().to(precise, torch.float64)
    exact = torch.cat([double(batch.to(precise, torch.float64)) for batch in batches])

    def error_of(network: Network, layout: torch.memory_format = torch.contiguous_format) -> float:
        """Return the largest relative error of one image's logits."""
        logits = torch.cat([network(batch.contiguous(memory_format=layout)).clone() for batch in batches])
        distances = torch.linalg.vector_norm(logits.to(exact) - exact, dim=1)
        return (distances / torch.linalg.vector_norm(exact, dim=1)).max().item()

    allowed = max(_ALLOWED[images.dtype], _TIMES * error_of(deepcopy(model).eval().to(images.dtype)))
    plain = fused(deepcopy(model).float()).to(images.dtype)
    networks: dict[Recipe, Network] = {}
    refused: dict[str, str] = {}
    for recipe in recipes(images.device):
        try:
            network = recipe.make(plain, images.contiguous(memory_format=recipe.layout))
            error = error_of(network, recipe.layout)
            if not (isfinite(error) and error <= allowed):
                raise NotCompiledError(f"its logits differ by {error:.1e} in {images.dtype}, allowed is {allowed:.0e}")
            networks[recipe] = network
        except NotCompiledError as reason:
            refused[recipe.name] = str(reason)
    if not networks:
        raise NotCompiledError("; ".join(dict.fromkeys(refused.values())))
    return networks, refused


@dataclass(frozen=True)
class Recipe:
    """One way to run a network."""

    name: str
    passes: tuple[Pass, ...] = ()
    """Rewritings of the fused network."""
    tuned: bool = False
    """Let the compiler measure its own kernels against the libraries'."""
    replayed: bool = False
    """Start all of a GPU's kernels at once, as a CUDA graph."""
    onnx: bool = False
    """Run by ONNX Runtime instead of torch's compiler."""

    @property
    def layout(self) -> torch.memory_format:
        """Memory format of the images that the network takes."""
        return torch.contiguous_format if self.onnx else torch.channels_last

    def make(self, model: nn.Module, images: Tensor) -> Network:
        """Compile a fused network for batches `(B, 3, H, W)` like this one; raises `NotCompiledError` if that fails."""
        with _compiling():
            if self.onnx:
                if images.dtype != torch.float32:
                    raise ValueError(f"ONNX Runtime computes in float32 here, not in {images.dtype}")
                check_extra("it", "onnx")
                return formats.onnx_network(deepcopy(model), images)
            rewritten = rewrite(deepcopy(model), *self.passes).to(memory_format=torch.channels_last)
            network = _frozen(rewritten, images, self.tuned)
            return _replayed(network, images) if self.replayed else network


_CPU_RECIPES = (
    Recipe("ONNX Runtime", onnx=True),
    Recipe("convolutions"),
    Recipe("matrix products", _PRODUCTS),
    Recipe("matrix products and sums", _SUMS),
)
_GPU_RECIPES = (
    Recipe("convolutions, CUDA graph", replayed=True),
    Recipe("matrix products, CUDA graph", _PRODUCTS, replayed=True),
    Recipe("convolutions, tuned kernels, CUDA graph", tuned=True, replayed=True),
    Recipe("matrix products, tuned kernels, CUDA graph", _PRODUCTS, tuned=True, replayed=True),
    Recipe("matrix products and sums, tuned kernels, CUDA graph", _SUMS, tuned=True, replayed=True),
)


def recipes(device: torch.device) -> tuple[Recipe, ...]:
    """Return the recipes to try on a device."""
    return _GPU_RECIPES if device.type == "cuda" else _CPU_RECIPES


@torch.inference_mode()
def compiled(
    model: nn.Module, images: Tensor, mode: str | None = None, backend: str | Callable[..., Any] = "inductor"
) -> nn.Module:
    """Compile a model in evaluation mode by `torch.compile`, for batches of exactly this shape `(B, 3, S, S)`.

    It is run once. Raises `NotCompiledError` where the compiler fails, or is missing.
    """
    with _compiling():
        # Export gives it a `forward` of its own: `torch.compile` keeps eight versions of the one that all networks of
        # a class share, and runs further networks uncompiled, with no more than a warning.
        exported = torch.export.export(model, (images,)).module()
        network: Any = torch.compile(exported, dynamic=False, mode=mode, backend=backend)
        network(images)
    return network


@contextmanager
def _compiling() -> Iterator[None]:
    """Turn whatever goes wrong into a `NotCompiledError`: exporting, tracing and backends have errors of their own."""
    try:
        yield
    except Exception as error:
        lines = [line for line in str(error).splitlines() if line.strip() and not line.endswith("raised:")]
        reason = shorten(lines[0] if lines else type(error).__name__, _MAX_REASON, placeholder=" ...")
        raise NotCompiledError(reason) from error


@torch.no_grad()  # weights are frozen only where no gradient can be asked for
def _frozen(model: nn.Module, images: Tensor, tuned: bool) -> Network:
    """Compile with the weights as constants, in the layout that the device's kernels take, and run once.

    The result skips torch's checks of its input, which cost more than some layers: give it batches of exactly this
    shape, dtype and layout. Where `tuned`, the compiler measures kernels of its own against the libraries'.
    """
    options = {
        "freezing": True,
        "cpp_wrapper": not images.is_cuda,  # without Python between kernels; a CUDA graph does the same
        "max_autotune": tuned,
        "conv_1x1_as_mm": tuned,
        "autotune_num_choices_displayed": 0,
        "max_autotune_report_choices_stats": False,
    }
    network = inductor_compile(torch.export.export(model, (images,)).module(), images, options)
    network(images)
    return network


@torch.no_grad()
def _replayed(network: Network, images: Tensor) -> Network:
    """Capture a network's work on batches of this shape; each call copies images in, replays, and copies logits out.

    Calls share one place for images and one for logits: make them from one thread and stream.
    """
    static_images = images.clone()
    with torch.cuda.device(images.device):
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(_GRAPH_WARM_UPS):
                network(static_images)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            result = network(static_images)

    @torch.no_grad()
    def replay(batch: Tensor) -> Tensor:
        with torch.cuda.device(static_images.device):
            static_images.copy_(batch)
            graph.replay()
            return result.clone()  # the next call writes over it

    return replay
