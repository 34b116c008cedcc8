"""The three input pipelines, each from stored JPEGs to normalized float32 batches with the same augmentation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from timm.data import create_dataset, create_loader, create_transform
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder

from shvit_pl import HFImageDataModule
from shvit_pl.data.transforms import repair

SIZE = 224


@dataclass(frozen=True)
class Setting:
    """An augmentation: timm's name of the automatic one, and the share of images with an erased part.

    With `loader_only`, batches end where a GPU would take over: what a pipeline does on the device (normalizing and
    erasing, nothing of ImageFolder's) is left out.
    """

    auto_augment: str | None = None
    erasing: float = 0.0
    loader_only: bool = False


_LIGHT, _FULL = Setting(), Setting("rand-m9-mstd0.5-inc1", 0.25)
SETTINGS = {
    "light": _LIGHT,
    "full": _FULL,
    "light, loader only": replace(_LIGHT, loader_only=True),
    "full, loader only": replace(_FULL, loader_only=True),
}
Pipeline = Callable[[], Iterator[Tensor]]


def image_folder(folder: Path, setting: Setting, batch_size: int) -> Pipeline:
    """Torchvision's ImageFolder with timm's transforms, as in the official training code."""
    transform = create_transform(SIZE, is_training=True, **_timm_options(setting))
    dataset = ImageFolder(str(folder / "train"), transform=_repaired(transform))
    loader: DataLoader[Any] = DataLoader(dataset, batch_size, shuffle=True, drop_last=True)
    return lambda: (images for images, _ in loader)


def timm_hfds(parquet: Path, setting: Setting, batch_size: int) -> Pipeline:
    """Timm's `hfds` reader and `create_loader`, which normalizes and erases batches on the device, here the CPU."""
    dataset = create_dataset(f"hfds/{parquet}", root=None, split="train")
    options: dict[str, Any] = {"num_workers": 0, "persistent_workers": False, "device": torch.device("cpu")}
    loader = create_loader(dataset, (3, SIZE, SIZE), batch_size, is_training=True, **_timm_options(setting), **options)
    _repaired(dataset.transform)
    if setting.loader_only:
        loader = loader.loader
    return lambda: (images for images, _ in loader)


def ours(path: Path, setting: Setting, batch_size: int) -> Pipeline:
    """This package's data module."""
    data = HFImageDataModule(
        path=str(path),
        image_size=SIZE,
        batch_size=batch_size,
        num_workers=0,
        auto_augment=setting.auto_augment,
        erasing=setting.erasing,
    )
    data.setup("fit")
    loader = data.train_dataloader()
    if setting.loader_only:
        return lambda: (batch["image"] for batch in loader)
    return lambda: (_on_device(data, batch) for batch in loader)


def _on_device(data: HFImageDataModule, batch: dict[str, Any]) -> Tensor:
    return data.on_after_batch_transfer(data.on_before_batch_transfer(batch, 0), 0)["image"]


def _timm_options(setting: Setting) -> dict[str, Any]:
    return {
        "color_jitter": None,
        "auto_augment": setting.auto_augment,
        "interpolation": "bicubic",
        "re_prob": setting.erasing,
        "re_mode": "pixel",
    }


def _repaired(transform: Any) -> Any:
    """Without this, timm's RandAugment ends with an error when Pillow refuses to keep 0 bits."""
    for step in transform.transforms:
        if hasattr(step, "ops"):
            repair(step)
    return transform
