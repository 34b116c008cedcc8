"""Distillations for the tests: a small student, a small teacher, and what a step of one logs."""

import lightning as L
import pytest
import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from shvit_pl import DistillationModule, HFImageDataModule
from shvit_pl.teachers.teacher import Teacher
from tests.conftest import perturb_
from tests.teachers.makers import shaken, stored

TINY = {"name": "tiny"}
CLASSES = [str(number) for number in range(10)]


@pytest.fixture(scope="session")
def teacher(tmp_path_factory):
    """A network of timm, and what names it, at a size that is the student's too."""
    model = shaken("test_resnet")
    weights = stored(model, tmp_path_factory.mktemp("teacher") / "resnet.safetensors")
    named = {"teacher": "test_resnet", "weights": weights, "teacher_size": 64, "teacher_precision": "fp32"}
    return model, named | {"check": False}


def student_of(config, design=TINY, **settings):
    """A module whose teacher is open, its tensors all visible in its answers; and what its steps log."""
    module = DistillationModule(distill=config, design=design, class_names=CLASSES, **settings)
    module.teacher = Teacher(config, CLASSES, IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
    module.configure_model()
    perturb_(module.model)
    return module, logged_by(module)


def logged_by(module):
    """The values that the module logs from now on, outside of a trainer."""
    logged = {}
    module.log_dict = lambda values, **options: logged.update(values)
    module._lr = lambda: 0.0
    return logged


def batch_of(size=8, seed=0, side=64):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(size, 3, side, side, generator=generator)
    return {"image": images, "label": torch.randint(10, (size,), generator=generator)}


def digits(**settings):
    """The embedded digits, small."""
    return HFImageDataModule(**{"image_size": 64, "batch_size": 8, "num_workers": 0, "augment": "shift", **settings})


def train(module, steps=3, data=None, ckpt_path=None, **trainer):
    """A few steps of Lightning's own loop."""
    options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    options |= {"accelerator": "cpu", "limit_val_batches": 0, "enable_model_summary": False} | trainer
    L.Trainer(max_steps=steps, **options).fit(module, data or digits(), ckpt_path=ckpt_path)
    return module
