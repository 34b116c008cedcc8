"""Running the command in this process, on the embedded digits, for a few steps, and what it leaves."""

import csv

import torch
import yaml

from shvit_pl.callbacks.run_identity import StepSeed
from shvit_pl.cli import main

QUICK = [
    "--config=cli_configs/s1.yaml",
    "--model.design.name=tiny",
    "--data.image_size=64",
    "--data.batch_size=16",
    "--data.num_workers=0",
    "--trainer.max_epochs=2",
    "--trainer.limit_train_batches=4",
    "--trainer.limit_val_batches=4",
]
EVERYTHING = [
    "--model.design.drop_path=0.2",
    "--model.ema.decay=0.9",
    "--model.mix.mixup=0.8",
    "--model.mix.cutmix=1.0",
    "--model.optim.agc=0.02",
    "--data.repeats=3",
    "--data.erasing=0.5",
    "--data.auto_augment=rand-m9-mstd0.5-inc1",
    "--data.num_workers=1",
]


def fit(*flags):
    """`shvit-pl fit` with a quick setting and further flags; returns the exit code."""
    return main(["fit", *QUICK, *flags])


def weights(folder, name="last"):
    return torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)["state_dict"]


def assert_same(first, second):
    assert first.keys() == second.keys()
    for key, tensor in first.items():
        assert torch.equal(tensor, second[key]), key


def logged_steps(folder):
    return [row["step"] for row in csv.DictReader((folder / "metrics.csv").open())]


def stop_at(monkeypatch, epoch, batch):
    """Let the run end as if by Ctrl-C before this batch."""

    def stop(self, trainer, pl_module, data, batch_idx):
        if (trainer.current_epoch, batch_idx) == (epoch, batch):
            raise KeyboardInterrupt
        original(self, trainer, pl_module, data, batch_idx)

    original = StepSeed.on_train_batch_start
    monkeypatch.setattr(StepSeed, "on_train_batch_start", stop)


def printed(capsys, *flags):
    """The settings that these flags stand for, without a run."""
    capsys.readouterr()
    assert main(["fit", *flags, "--print_config"]) == 0
    return yaml.safe_load(capsys.readouterr().out)
