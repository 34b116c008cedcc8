"""Run folders with weights whose every tensor shows in the output."""

import json
import shutil
from pathlib import Path

import torch
import yaml
from torch import nn

from shvit_pl.designs.config import DesignConfig
from shvit_pl.models import create_model
from tests.cli.runs import fit

AVERAGE = "ema.module."


def quick_fit(root, *flags):
    """The folder of a run of two steps, with averaged weights."""
    limits = ("--trainer.max_epochs=1", "--trainer.limit_train_batches=2", "--trainer.limit_val_batches=2")
    assert fit(f"--trainer.default_root_dir={root}", "--model.ema.decay=0.9", *limits, *flags) == 0
    return next(root.glob("*/version_0"))


def with_design(run, folder, **design):
    """A copy of a run as if it had trained another design; both its weights and their average are perturbed."""
    with_summary_of(run, folder, **design)
    content = torch.load(run / "checkpoints/best.ckpt", weights_only=True)
    content["hyper_parameters"]["design"] = {**content["hyper_parameters"]["design"], **design}
    content["state_dict"] = {**states("model.", 0, design), **states(AVERAGE, 1, design)}
    torch.save(content, folder / "checkpoints/best.ckpt")
    return folder


def with_summary_of(run, folder, **design):
    """A copy of a run whose summary names another design than its checkpoints hold."""
    shutil.copytree(run, folder)
    config = DesignConfig(**design)
    edit(folder / "summary.json", design={**vars(config.resolved), "name": config.name})
    return folder


def states(prefix, seed, design):
    model = lively(create_model(num_classes=10, **design), seed)
    return {f"{prefix}{key}": value for key, value in model.state_dict().items()}


@torch.no_grad()
def lively(model, seed):
    """Weights whose logits differ from image to image: normalized by what random images show, and nothing at zero."""
    generator = torch.Generator().manual_seed(seed)
    for key, tensor in model.named_parameters():
        if tensor.ndim == 1:
            tensor.copy_(torch.rand(tensor.shape, generator=generator) * (0.2 if key.endswith("bias") else 1) + 0.5)
        else:
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * tensor[0].numel() ** -0.5)
    for norm in (module for module in model.modules() if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d)):
        norm.momentum = None  # the mean of all batches
    for _ in range(2):
        model.train()(torch.randn(8, 3, 64, 64, generator=generator))
    return model


def network(checkpoint, averaged=False):
    """The network in a checkpoint as `fit` left it, in eval mode: a dual head is not merged."""
    content = torch.load(Path(checkpoint), weights_only=True)
    prefix = AVERAGE if averaged else "model."
    model = create_model(num_classes=10, **content["hyper_parameters"]["design"]).eval()
    state = {key.removeprefix(prefix): value for key, value in content["state_dict"].items() if key.startswith(prefix)}
    model.load_state_dict(state, strict=True)
    return model


def edit(path, **changes):
    """Change the top level of a JSON or YAML file."""
    read, write = (json.loads, json.dumps) if path.suffix == ".json" else (yaml.safe_load, yaml.safe_dump)
    path.write_text(write({**read(path.read_text()), **changes}))


def files(folder):
    """Every file in a folder by its path in it."""
    return {path.relative_to(folder).as_posix(): path for path in Path(folder).rglob("*") if path.is_file()}
