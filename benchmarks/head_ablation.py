"""How long the ablation of all heads takes with the trunk computed once, and with a whole forward pass per head.

DeiT-T with 6 heads in each of its 12 layers, with fresh weights, on generated photographs; each head is set to zero,
and all but it. Both ways do so by the same hook, and their logits are compared.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import timm
import torch
from jsonargparse import auto_cli
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.transforms.v2.functional import pil_to_tensor

from benchmarks.images import photograph
from benchmarks.report import environment, publish, table
from shvit_pl.analysis.heads.attention.ablation import ablations, removals, without_heads
from shvit_pl.analysis.heads.attention.layers import AttentionLayer, attention_layers
from shvit_pl.analysis.unfused import unfused
from shvit_pl.data.batch_transform import normalize
from shvit_pl.data.transforms import eval_transform

_PACKAGES = ("torch", "timm")
_WANTED = 1.7
_WHOLE, _TRUNK = "a whole forward pass per head", "the trunk computed once"
Seconds = dict[str, list[float]]


def main(batch_size: int = 8, rounds: int = 5, out: Path = Path("benchmarks/results")) -> None:
    """Measure both ways on one thread, print the table, and write it to `out`.

    Args:
        batch_size: Images per forward pass.
        rounds: Rounds, in each of which both ways run once.
        out: Folder of the results.
    """
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = timm.create_model("deit_tiny_patch16_224", num_heads=6).eval()
    images = _photographs(batch_size)
    layers = attention_layers(model, images)
    seconds = _measured(model, layers, images, rounds)
    limit = _limit(model, layers, images[:1])
    text = _describe(seconds, limit, batch_size)
    publish(out / "head_ablation", "Ablation of all heads", text, environment(_PACKAGES), seconds=seconds, limit=limit)


def _photographs(count: int) -> Tensor:
    generator, prepare = np.random.default_rng(0), eval_transform(224, 0.875)
    images = torch.stack([prepare(pil_to_tensor(photograph(generator))) for _ in range(count)])
    return normalize(images, IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)


def _measured(model: nn.Module, layers: Sequence[AttentionLayer], images: Tensor, rounds: int) -> Seconds:
    """Processor seconds of both ways in each round; they take turns layer by layer."""
    seconds: Seconds = {_WHOLE: [], _TRUNK: []}
    for _ in range(rounds):
        steps = ablations(model, layers, images)
        taken = [_step(model, layer, images, steps) for layer in layers]
        for way, found in zip(seconds, zip(*taken, strict=True), strict=True):
            seconds[way].append(sum(found))
    return seconds


def _step(model: nn.Module, layer: AttentionLayer, images: Tensor, steps: Iterator[Any]) -> tuple[float, float]:
    """Seconds of both ways for one layer; `steps` are the second one's."""
    times = [time.process_time()]
    expected = _by_whole_passes(model, layer, images)
    times.append(time.process_time())
    _, logits = next(steps)
    times.append(time.process_time())
    assert torch.equal(logits.flatten(0, 1), expected)
    return times[1] - times[0], times[2] - times[1]


@torch.no_grad()
def _by_whole_passes(model: nn.Module, layer: AttentionLayer, images: Tensor) -> Tensor:
    logits = []
    for heads in removals(layer.heads):
        with without_heads(model, layer, heads):
            logits.append(model(images))
    return torch.stack(logits)


@torch.no_grad()
def _limit(model: nn.Module, layers: Sequence[AttentionLayer], image: Tensor) -> float:
    """How much faster it could be by the floating-point operations alone: none before a projection is done twice."""
    before: list[int] = []
    hooks = []
    with FlopCounterMode(display=False) as counter, unfused(model.get_submodule(layer.name) for layer in layers):
        for layer in layers:
            note = model.get_submodule(layer.proj).register_forward_pre_hook
            hooks.append(note(lambda *_: before.append(counter.get_total_flops())))
        model(image)
    for hook in hooks:
        hook.remove()
    whole, passes = counter.get_total_flops(), [len(removals(layer.heads)) for layer in layers]
    after = sum(number * (whole - flops) for number, flops in zip(passes, before, strict=True))
    return sum(passes) * whole / (before[-1] + after)


def _describe(seconds: Seconds, limit: float, batch_size: int) -> str:
    whole, trunk = seconds[_WHOLE], seconds[_TRUNK]
    ratio = median(slow / fast for slow, fast in zip(whole, trunk, strict=True))
    rows = [[name, f"{median(found):.1f}"] for name, found in seconds.items()]
    return table(["way", "CPU seconds"], rows) + (
        f"\n\n{ratio:.2f} times as fast (wanted: {_WANTED}); {limit:.2f} would be the limit by floating-point "
        f"operations, of which this is {100 * ratio / limit:.0f} %. The logits are equal, bit by bit; what "
        "is between modules, as is attention itself, is computed again for every head.\n\nDeiT-T with 6 heads, "
        f"12 layers, each head out and each alone: 144 passes over a batch of {batch_size}, one thread. Medians "
        f"of {len(whole)} rounds, in which both ways take turns layer by layer; the ratio round by round."
    )


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
