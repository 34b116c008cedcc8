"""The traps of LightningCLI and its companions, each of which this package once could have fallen into."""

import pickle

import lightning as L
import torch

from shvit_pl import ClassificationModule, HFImageDataModule
from shvit_pl.cli import main
from shvit_pl.designs.config import DesignConfig
from shvit_pl.modules.config import EmaConfig, MixConfig, OptimConfig
from shvit_pl.runs.folder import read_summary
from tests.cli.runs import only_run


def count_calls(monkeypatch, method):
    """A list that grows with every call of a method of the module."""
    calls, original = [], getattr(ClassificationModule, method)
    monkeypatch.setattr(ClassificationModule, method, lambda *args: calls.append(1) or original(*args))
    return calls


def test_a_limit_of_1_is_one_batch_and_auto_in_a_config_is_the_designs_size(tmp_path, monkeypatch):
    """Lightning's annotation lets the parser read 1 as 1.0, which is 100 %; `link_arguments` would ignore YAML."""
    train, val = (count_calls(monkeypatch, f"{stage}_step") for stage in ("training", "validation"))
    (tmp_path / "mine.yaml").write_text("data: {image_size: auto, batch_size: 4}\ntrainer: {limit_val_batches: 1}")
    few = ["--trainer.limit_train_batches=1", "--trainer.max_epochs=1", "--trainer.num_sanity_val_steps=0"]
    assert main(["fit", "--config=mine.yaml", "--model.design.name=tiny", *few]) == 0
    assert (len(train), len(val)) == (1, 1)
    assert read_summary(only_run(tmp_path))["dataset"]["image_size"] == 128


def test_dataclasses_come_back_with_weights_only_and_loaders_hold_neither_trainer_nor_model(tmp_path):
    """Stored as dataclasses, settings would need `weights_only=False`, which runs code from checkpoints.

    A transform that is a method would be hashed by `datasets`, and copied into every worker, with all it belongs to.
    """
    options = {"accelerator": "cpu", "max_epochs": 2, "limit_train_batches": 1, "limit_val_batches": 1}
    options |= {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    data = HFImageDataModule(image_size=64, batch_size=4, num_workers=0)

    def module():
        return ClassificationModule(
            design=DesignConfig("tiny", stage1="attention"),
            optim=OptimConfig(name="lamb", options={"betas": (0.9, 0.99)}),
            mix=MixConfig(mixup=0.8),
            ema=EmaConfig(decay=0.9),
        )

    trainer = L.Trainer(default_root_dir=tmp_path, **options)
    trainer.fit(module(), data)
    for loader in (data.train_dataloader(), data.val_dataloader()):
        assert loader.dataset.rows.format["type"] is None
        sent = pickle.dumps(loader.dataset)
        assert not [name for name in (b"ClassificationModule", b"HFImageDataModule", b"Trainer") if name in sent]
    trainer.save_checkpoint(tmp_path / "it.ckpt")
    torch.load(tmp_path / "it.ckpt", weights_only=True)
    again = ClassificationModule.load_from_checkpoint(tmp_path / "it.ckpt", weights_only=True)
    assert again.config.design == DesignConfig("tiny", stage1="attention")
    assert (again.config.optim.name, again.config.mix.mixup, again.config.ema.decay) == ("lamb", 0.8, 0.9)
    resumed = L.Trainer(default_root_dir=tmp_path, **{**options, "max_epochs": 3})
    resumed.fit(module(), data, ckpt_path=tmp_path / "it.ckpt", weights_only=True)
    assert resumed.global_step == 3
