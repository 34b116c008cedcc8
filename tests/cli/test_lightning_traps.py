"""The traps of LightningCLI and its companions, each of which this package once could have fallen into."""

import pickle

import lightning as L
import pytest
import torch
import yaml

from shvit_pl import ClassificationModule, HFImageDataModule
from shvit_pl.cli import main
from shvit_pl.designs.config import DesignConfig
from shvit_pl.modules.config import EmaConfig, MixConfig, OptimConfig
from shvit_pl.runs.folder import read_summary
from tests.cli.runs import QUICK, fit


def count_calls(monkeypatch, method):
    """A list that grows with every call of a method of the module."""
    calls, original = [], getattr(ClassificationModule, method)
    monkeypatch.setattr(ClassificationModule, method, lambda *args: calls.append(1) or original(*args))
    return calls


@pytest.mark.parametrize("where", ["flag", "YAML"])
def test_a_limit_of_1_is_one_batch_and_not_all(where, tmp_path, monkeypatch):
    """Lightning's annotation lets the parser read 1 as 1.0, which is 100 %."""
    train, val = (count_calls(monkeypatch, f"{stage}_step") for stage in ("training", "validation"))
    limits = {"limit_train_batches": 1, "limit_val_batches": 1}
    (tmp_path / "limits.yaml").write_text(yaml.safe_dump({"trainer": limits}))
    by_flag = [f"--trainer.{key}={value}" for key, value in limits.items()]
    others = [flag for flag in QUICK if "limit_" not in flag]
    once = ["--trainer.max_epochs=1", "--trainer.num_sanity_val_steps=0"]
    assert main(["fit", *others, *once, *(by_flag if where == "flag" else ["--config=limits.yaml"])]) == 0
    assert (len(train), len(val)) == (1, 1)


def test_auto_in_a_config_is_the_designs_image_size(tmp_path):
    """What one setting takes from another (`link_arguments`) would be ignored in YAML without a word."""
    (tmp_path / "auto.yaml").write_text("model: {design: {name: tiny}}\ndata: {image_size: auto, batch_size: 4}\n")
    limits = ["--trainer.max_epochs=1", "--trainer.limit_train_batches=1", "--trainer.limit_val_batches=1"]
    assert main(["fit", "--config=auto.yaml", *limits]) == 0
    assert read_summary(tmp_path / "runs" / "tiny" / "version_0")["dataset"]["image_size"] == 128


def test_settings_given_as_dataclasses_come_back_with_weights_only(tmp_path):
    """Stored as dataclasses, they would need `weights_only=False`, which runs code from checkpoints."""
    options = {"accelerator": "cpu", "max_epochs": 2, "limit_train_batches": 1, "limit_val_batches": 1}
    options |= {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    data = HFImageDataModule(image_size=64, batch_size=4, augment="none", num_workers=0)

    def module():
        return ClassificationModule(
            design=DesignConfig("tiny", stage1="attention"),
            optim=OptimConfig(name="lamb", options={"betas": (0.9, 0.99)}),
            mix=MixConfig(mixup=0.8),
            ema=EmaConfig(decay=0.9),
        )

    trainer = L.Trainer(default_root_dir=tmp_path, **options)
    trainer.fit(module(), data)
    trainer.save_checkpoint(tmp_path / "it.ckpt")
    torch.load(tmp_path / "it.ckpt", weights_only=True)
    again = ClassificationModule.load_from_checkpoint(tmp_path / "it.ckpt", weights_only=True)
    assert again.config.design == DesignConfig("tiny", stage1="attention")
    assert (again.config.optim.name, again.config.mix.mixup, again.config.ema.decay) == ("lamb", 0.8, 0.9)
    resumed = L.Trainer(default_root_dir=tmp_path, **{**options, "max_epochs": 3})
    resumed.fit(module(), data, ckpt_path=tmp_path / "it.ckpt", weights_only=True)
    assert resumed.global_step == 3


def test_what_loads_images_holds_neither_trainer_nor_model():
    """A transform that is a method would drag them along: hashed by `datasets`, and copied into every worker."""
    data = HFImageDataModule(image_size=64, batch_size=4, num_workers=0)
    module = ClassificationModule(design=DesignConfig("tiny"))
    trainer = L.Trainer(
        accelerator="cpu", max_steps=1, logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    trainer.fit(module, data)
    for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()):
        assert loader.dataset.rows.format["type"] is None
        sent = pickle.dumps(loader.dataset)
        for name in (b"ClassificationModule", b"HFImageDataModule", b"Trainer"):
            assert name not in sent


def test_flags_are_not_overridden_by_the_checkpoint_that_is_resumed(tmp_path):
    """LightningCLI takes model settings from the checkpoint, over the flags; here a change is refused or holds."""
    assert fit("--trainer.max_epochs=1") == 0
    last = f"--ckpt_path={tmp_path / 'runs' / 'tiny' / 'version_0' / 'checkpoints' / 'last.ckpt'}"
    assert fit(last, "--allow_changes=true", "--model.label_smoothing=0.3", "--model.optim.lr=0.002") == 0
    config = yaml.safe_load((tmp_path / "runs" / "tiny" / "version_1" / "config.yaml").read_text())
    assert config["model"]["label_smoothing"] == 0.3
    assert config["model"]["optim"]["lr"] == 0.002
    checkpoint = torch.load(tmp_path / "runs" / "tiny" / "version_1" / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["hyper_parameters"]["label_smoothing"] == 0.3
