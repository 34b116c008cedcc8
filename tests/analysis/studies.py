"""Small networks with attention, what a study must not change in them, and what the commands have written."""

import csv
import json
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image

from shvit_pl.analysis.attention_layers import attention_layers
from shvit_pl.cli import main
from shvit_pl.models import create_model
from tests.hub.runs import lively

QUICK = ["--images=6", "--ablation_images=8", "--batch_size=4", "--device=cpu"]
OURS = {"mixers": ("multi_head", "multi_head", "single_head"), "num_heads": (2, 4, 1)}


def heads(network, *flags):
    """`shvit-pl analyze heads` on a few images; returns the exit code."""
    return main(["analyze", "heads", str(network), *QUICK, *flags])


def rows(path):
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


def facts(path):
    return json.loads(Path(path).read_text())


def files(folder):
    """The names of all files in a folder."""
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())


def colors(path):
    """The number of distinct colors that cover more than a thousandth of a picture."""
    pixels = np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3)
    _, counts = np.unique(pixels, axis=0, return_counts=True)
    return int((counts > len(pixels) / 1000).sum())


def deit():
    return perturbed(timm.create_model("deit_tiny_patch16_224", img_size=64, depth=3, num_classes=7)), images(64)


def swin():
    """Two layers in each of two stages: the second one of each has shifted windows."""
    changes = {"img_size": 56, "depths": (2, 2), "num_heads": (3, 6), "num_classes": 7}
    return perturbed(timm.create_model("swin_tiny_patch4_window7_224", **changes)), images(56)


def ours():
    return lively(create_model("tiny", num_classes=7, **OURS), seed=0).eval(), images(128)


NETWORKS = [deit, swin, ours]


def with_layers(network):
    model, batch = network()
    return model, attention_layers(model, batch), batch


def images(size):
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def perturbed(model):
    """Weights large enough that no head is without effect, nor like another one."""
    generator = torch.Generator().manual_seed(0)
    for weight in model.parameters():
        if weight.ndim > 1:
            weight.copy_(torch.randn(weight.shape, generator=generator) * weight[0].numel() ** -0.5)
    return model.eval()


def state(model):
    """All that a study sets in a network for a while."""
    return [
        (module.training, getattr(module, "fused_attn", None), len(module._forward_hooks | module._forward_pre_hooks))
        for module in model.modules()
    ]
