"""A trained detector as a function of images: `shvit_pl.load`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageOps
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor

from shvit_pl.data.decoding import decode
from shvit_pl.data.objects.reading import collate, finish, resized
from shvit_pl.data.objects.rendering import in_original
from shvit_pl.errors import UserError
from shvit_pl.models.detection.detectors import OpenedDetector, open_detector

Picture = str | Path | Image.Image | Tensor


class Predictor:
    """Finds objects in images, as `shvit-pl predict` does.

    Args:
        opened: The detector.
        device: Where it computes.
    """

    def __init__(self, opened: OpenedDetector, device: str | torch.device = "cpu") -> None:
        self.opened, self.device = opened, torch.device(device)
        self.model = opened.model.to(self.device)
        self.class_names = opened.class_names
        self.mean, self.std = IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

    @torch.inference_mode()
    def __call__(self, images: Picture | Sequence[Picture], score: float = 0.0) -> Any:
        """Return what is found in images with at least this score; the score of the best F1 is `opened.best_score`.

        Args:
            images: A file, a PIL image or a uint8 tensor `(3, H, W)`, or a list of them.
            score: The least score.

        Returns:
            Of each image a dict of `boxes` `(N, 4)` (x1, y1, x2, y2 in its pixels), `scores` `(N,)`, `labels` `(N,)`,
            their `names`, and with masks the list `rles` of COCO's runs; of a list of images, a list.
        """
        if isinstance(images, Picture):
            return self._found(self._pixels(images), score)
        return [self._found(self._pixels(image), score) for image in images]

    def _pixels(self, image: Picture) -> Tensor:
        data = self.opened.data
        rotate = data["exif_rotation"] is not False
        if isinstance(image, Image.Image):
            return pil_to_tensor((ImageOps.exif_transpose(image) if rotate else image).convert("RGB"))
        if isinstance(image, Tensor):
            if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[0] != 3:
                raise UserError(f"images: a tensor is uint8 (3, H, W), and one is {image.dtype} {tuple(image.shape)}.")
            return image
        if not isinstance(image, str | Path):
            kind = type(image).__name__
            raise UserError(f"images: allowed are paths, PIL images and uint8 tensors (3, H, W), and one is of {kind}.")
        return decode({"path": str(image), "bytes": None}, str(image), rotate, data["intensity_range"])

    def _found(self, pixels: Tensor, score: float) -> dict[str, Any]:
        data = self.opened.data
        image, _ = resized(pixels, int(data["min_size"]), int(data["max_size"]))
        batch = collate([{"image": image}])
        batch["image"] = batch["image"].to(self.device)
        (objects,) = self.model(finish(batch, self.mean, self.std)["image"], batch["sizes"])
        objects = {name: values[objects["scores"] >= score] for name, values in objects.items()}
        height, width = pixels.shape[1:]
        found = in_original(objects, batch["sizes"][0], (height, width))
        return {**found, "names": [self.class_names[label] for label in found["labels"].tolist()]}


def load(name: str, device: str | torch.device = "cpu", averaged: bool | None = None) -> Predictor:
    """Open a detector as a function of images.

    Args:
        name: A run of detection, its checkpoint, a folder of a pushed repo, or the repo: `user/name`.
        device: Where it computes.
        averaged: Take averaged weights (default: those that the run's monitor selected).

    Raises `UserError` for any other name.
    """
    return Predictor(open_detector(name, averaged), device)
