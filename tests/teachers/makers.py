"""Networks that teach in the tests, and the files that hold them."""

import timm
import torch
from safetensors.torch import save_file
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from shvit_pl.teachers.config import DistillConfig
from shvit_pl.teachers.teacher import Teacher

DIGITS = [str(digit) for digit in range(10)]
TEN = [f"thing {number}" for number in range(10)]


def shaken(name, classes=10, seed=0, **options):
    """A model of timm whose every tensor shows in its answers: fresh ones have much at zero or one."""
    torch.manual_seed(seed)
    model = timm.create_model(name, num_classes=classes, **options)
    with torch.no_grad():
        for key, tensor in model.state_dict().items():
            if key.endswith("running_var"):
                tensor.copy_(torch.rand(tensor.shape) + 0.5)
            elif tensor.is_floating_point():
                tensor.add_(0.1 * torch.randn(tensor.shape))
    return model.eval()


def stored(model, path):
    """The path of a file with the model's weights."""
    save_file(model.state_dict(), path)
    return str(path)


def opened(class_names=TEN, mean=IMAGENET_DEFAULT_MEAN, std=IMAGENET_DEFAULT_STD, teacher_precision="fp32", **config):
    """Open the teacher of these settings for a student with ImageNet's normalization; in fp32 on any processor."""
    return Teacher(DistillConfig(teacher_precision=teacher_precision, **config), class_names, mean, std)


def some_images(count=3, size=64, seed=0):
    """Images as the student gets them."""
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def as_seen_by(model, images, size=None):
    """The student's images as the network's own pipeline would give them."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD))
    pixels = images * std + mean
    size = size or model.pretrained_cfg["input_size"][-1]
    pixels = torch.nn.functional.interpolate(pixels, size=size, mode="bicubic", antialias=True)
    mean, std = (torch.tensor(model.pretrained_cfg[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    return (pixels - mean) / std
