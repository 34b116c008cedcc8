"""Run folders with weights whose every tensor shows in the output."""

import json
import shutil
from pathlib import Path

import torch
import yaml

from shvit_pl.designs.config import DesignConfig
from shvit_pl.models import create_model
from tests.cli.runs import fit
from tests.conftest import perturb_

AVERAGE = "ema.module."


def quick_fit(root, *flags):
    """The folder of a run of two steps, with averaged weights."""
    limits = ("--trainer.max_epochs=1", "--trainer.limit_train_batches=2", "--trainer.limit_val_batches=2")
    assert fit(f"--trainer.default_root_dir={root}", "--model.ema.decay=0.9", *limits, *flags) == 0
    return next(root.glob("*/version_0"))


def with_design(run, folder, **design):
    """A copy of a run as if it had trained another design; both its weights and their average are perturbed."""
    shutil.copytree(run, folder)
    config = DesignConfig(**design)
    for name in ("best.ckpt", "last.ckpt"):
        content = torch.load(run / "checkpoints" / name, weights_only=True)
        content["hyper_parameters"]["design"] = {**content["hyper_parameters"]["design"], **design}
        content["state_dict"] = {**states("model.", 0, design), **states(AVERAGE, 1, design)}
        torch.save(content, folder / "checkpoints" / name)
    edit(folder / "summary.json", design={**vars(config.resolve()), "name": config.name})
    return folder


def states(prefix, seed, design):
    model = perturb_(create_model(num_classes=10, **design), seed)
    return {f"{prefix}{key}": value for key, value in model.state_dict().items()}


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
