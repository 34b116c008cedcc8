"""Caches for the tests: the digits with every augmentation, and a small network as the teacher."""

from dataclasses import asdict, replace

import lightning as L
import pytest
import timm
import torch

from shvit_pl import HFImageDataModule
from shvit_pl.modules.classification import make_mixup
from shvit_pl.modules.config import MixConfig
from shvit_pl.teachers.cache import TeacherCacher, begin, plan
from shvit_pl.teachers.config import DistillConfig

MIX = MixConfig(mixup=0.8, cutmix=1.0)
CONFIG = DistillConfig(teacher="test_resnet", objective="soft", tau=2.0, views=2, top_k=4)
EVERYTHING = {"augment": "crop", "auto_augment": "rand-m9-mstd0.5-inc1", "erasing": 0.5, "repeats": 3}


def digits(seed=0, **settings):
    """Some of the digits with every augmentation."""
    settings = {"image_size": 32, "train_fraction": 0.1, "batch_size": 32, "num_workers": 0, **EVERYTHING} | settings
    data = HFImageDataModule(**settings)
    data.seed = seed
    data.setup("fit")
    return data


def planned(data, config=CONFIG, mix=MIX, **teacher):
    return replace(plan(config, {"name": "test_resnet", **teacher}, asdict(mix), data), shard_slots=60)


def network():
    torch.manual_seed(0)
    net = timm.create_model("test_resnet", num_classes=10)
    torch.nn.init.normal_(net.get_classifier().weight, std=2)  # far from uniform
    return net.eval()


def write(folder, teacher_logits, data, manifest, mix=MIX):
    """Begin a cache, or go on with it; returns its manifest."""
    manifest = begin(folder, manifest)
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
    cacher = TeacherCacher(teacher_logits, data, make_mixup(mix, 2, 0.0), folder, manifest)
    trainer.predict(cacher, return_predictions=False)
    return manifest


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    """A whole cache, what it was planned as, and the teacher's input of every slot."""
    folder, data, net, seen = tmp_path_factory.mktemp("logits") / "cache", digits(), network(), []

    def teacher_logits(images):
        seen.append(images.clone())
        return net(images)

    return folder, write(folder, teacher_logits, data, planned(data)), torch.cat(seen)
