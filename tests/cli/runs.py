"""Running the command in this process, on the embedded digits, for a few steps, and what it leaves."""

import csv
import os
import resource
from contextlib import contextmanager

import pytest
import torch
import yaml
from datasets import load_from_disk

from shvit_pl.callbacks.checkpoints import StepSeed
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

SMALL_DETECTOR = ["--config=detection/retinanet_tiny.yaml", "--model.detector.width=16", "--model.detector.convs=1"]
SMALL_DETECTOR += ["--trainer.max_epochs=2", "--trainer.check_val_every_n_epoch=1", "--plain"]
MASKS = ["--model.detector.name=mask_rcnn", "--model.detector.box_loss=l1", "--model.detector.regions=8"]
SCENES = [*SMALL_DETECTOR, "--data.scenes=16", "--data.batch_size=4", "--trainer.limit_val_batches=2"]

needs_two_cores = pytest.mark.skipif(
    hasattr(os, "sched_getaffinity") and len(os.sched_getaffinity(0)) < 2, reason="a process per core, and there is one"
)


def fit(*flags):
    """`shvit-pl fit` with a quick setting and further flags; returns the exit code."""
    return main(["fit", *QUICK, *flags])


def cache_teacher(*flags):
    """`shvit-pl cache-teacher` with a quick setting and further flags."""
    return main(["cache-teacher", *QUICK, *flags])


def cache_flags(teacher, folder, *more):
    """A distillation from a cache of a tenth of the digits, three views of them."""
    few = ["--data.train_fraction=0.1", "--model.distill.views=3", "--model.distill.objective=soft"]
    names = [f"--model.distill.teacher={teacher}", f"--model.distill.cache={folder}"]
    return [*names, *few, "--model.distill.teacher_precision=fp32", *more]


def columns(folder):
    """All columns of all shards of a cache."""
    shards = sorted(path for path in folder.iterdir() if path.is_dir())
    tables = [load_from_disk(str(shard)).with_format("torch")[:] for shard in shards]
    return {f"{shard.name} {name}": table[name] for shard, table in zip(shards, tables, strict=True) for name in table}


def only_run(folder):
    (found,) = (folder / "runs" / "tiny").glob("version_*")
    return found


def content(folder, name="last"):
    """A checkpoint of a run folder."""
    return torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)


def weights(folder, name="last"):
    return content(folder, name)["state_dict"]


def assert_same(first, second):
    assert first.keys() == second.keys()
    for key, tensor in first.items():
        assert torch.equal(tensor, second[key]), key


def metrics(folder, name):
    """The values of a column of a run's table where there are any."""
    return [row[name] for row in csv.DictReader((folder / "metrics.csv").open()) if row[name]]


def stopped(epoch, batch, *flags):
    """`fit`, ended as if by Ctrl-C before this batch."""
    stopped_by(lambda: fit(*flags), epoch, batch)


def stopped_by(command, epoch, batch):
    """A command that fits, ended as if by Ctrl-C before this batch."""
    original = StepSeed.on_train_batch_start

    def stop(self, trainer, pl_module, data, batch_idx):
        if (trainer.current_epoch, batch_idx) == (epoch, batch):
            raise KeyboardInterrupt
        original(self, trainer, pl_module, data, batch_idx)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StepSeed, "on_train_batch_start", stop)
        assert command() == 130


def printed(capsys, *flags):
    """The settings that these flags stand for, without a run."""
    capsys.readouterr()
    assert main(["fit", *flags, "--print_config"]) == 0
    return yaml.safe_load(capsys.readouterr().out)


@contextmanager
def files_up_to(size):
    """No file of this process may grow beyond `size` bytes: real writes fail, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
