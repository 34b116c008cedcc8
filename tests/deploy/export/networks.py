"""Networks as training leaves them: every tensor shows in the outputs, and outputs are of ordinary size."""

import torch
from torch import nn

from shvit_pl.data.datamodule import HFImageDataModule
from shvit_pl.models import create_model


def pictures(number, side):
    """Digits that a run holds out, normalized: `(number, 3, side, side)`."""
    data = HFImageDataModule(image_size=side, batch_size=2, num_workers=0)
    data.setup("fit")
    return torch.cat([batch["image"] for batch in data.validation_sample(number)])


@torch.no_grad()
def settle(name, side, seed=0, **design):
    """A network of a design, perturbed, whose BatchNorms have seen real images of this size."""
    model = create_model(name, num_classes=10, **design)
    generator = torch.Generator().manual_seed(seed)
    for key, tensor in model.named_parameters():
        if tensor.ndim == 1:
            tensor.copy_(torch.rand(tensor.shape, generator=generator) * 0.5 + (0 if key.endswith("bias") else 0.5))
        else:
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * tensor[0].numel() ** -0.5)
    for norm in (module for module in model.modules() if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d)):
        norm.momentum = None  # the mean of all batches
    model.train()(pictures(32, side))
    return model.eval()
