"""Objects in pixels: masks drawn at the size of a resized image or encoded as COCO's runs (RLE), and detections."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision.models.detection.roi_heads import paste_masks_in_image

from shvit_pl.data.objects.masks import run_library

Size = tuple[int, int]  # height, width
Rle = dict[str, Any]  # `size` [height, width] and `counts`, a text
_LEAST_PROBABILITY = 0.5  # of a pixel that belongs to a mask that is found


def drawn(objects: dict[str, Any], chosen: Tensor, size: Size, new: Size, flipped: bool = False) -> Tensor:
    """Return masks `(N, h, w)`, uint8, of chosen objects of an image of `size`, resized to `new` and perhaps flipped.

    Polygons are drawn at the new size, by PIL: COCO's own functions take ten times as long, and differ by pixels of
    the border alone. What is stored as pixels takes the nearest one.
    """
    if "masks" in objects:
        resized = _nearest(objects["masks"][chosen], new)
        return resized.flip(-1) if flipped else resized
    masks = np.zeros((len(chosen), *new), np.uint8)
    for mask, index in zip(masks, chosen.tolist(), strict=True):
        if objects["rle"][index]:
            stored = run_library().decode({"size": list(size), "counts": objects["rle"][index].encode()})
            pixels = _nearest(torch.from_numpy(stored)[None], new)[0].numpy()
            mask[:] = pixels[:, ::-1] if flipped else pixels
        else:
            _draw(mask, objects["polygons"][index], size, flipped)
    return torch.from_numpy(masks)


def _draw(mask: NDArray[np.uint8], rings: list[list[float]], size: Size, flipped: bool) -> None:
    """Draw rings of an image of `size` into a mask, as far as they reach."""
    height, width = mask.shape
    scaled = [np.asarray(ring).reshape(-1, 2) * (width / size[1], height / size[0]) for ring in rings]
    for points in scaled:
        points[:, 0] = width - points[:, 0] if flipped else points[:, 0]
        points -= 0.5  # a pixel's place is its center
    every = np.concatenate(scaled)
    left, top = every.min(0).astype(int).clip(0)  # whole pixels
    right, bottom = every.max(0).astype(int) + 1
    part = mask[top:bottom, left:right]
    image = Image.new("L", part.shape[::-1])
    canvas = ImageDraw.Draw(image)
    for points in scaled:
        canvas.polygon((points - (left, top)).ravel().tolist(), fill=1)
    part[:] = np.asarray(image)


def encoded(objects: dict[str, Any], size: Size) -> list[Rle]:
    """Return the runs of all objects of an image of `size`."""
    if "masks" in objects:
        return [encode(mask) for mask in objects["masks"]]
    return [
        {"size": list(size), "counts": rle} if rle else _as_text(_of_polygons(rings, size))
        for rle, rings in zip(objects["rle"], objects["polygons"], strict=True)
    ]


def encode(mask: Tensor) -> Rle:
    """Return the runs of a mask `(H, W)`."""
    return _as_text(run_library().encode(np.asfortranarray(mask.cpu().numpy().astype(np.uint8))))


def _of_polygons(rings: list[Any], size: Size) -> Rle:
    rles = run_library().frPyObjects([list(map(float, ring)) for ring in rings], *size)
    merged: Rle = run_library().merge(rles)
    return merged


def _as_text(rle: Rle) -> Rle:
    counts = rle["counts"]
    return {"size": list(rle["size"]), "counts": counts.decode() if isinstance(counts, bytes) else counts}


def _nearest(masks: Tensor, new: Size) -> Tensor:
    if tuple(masks.shape[1:]) == tuple(new):
        return masks
    return interpolate(masks[None], new, mode="nearest-exact")[0] if len(masks) else masks.new_zeros(0, *new)


def in_original(found: dict[str, Tensor], resized: tuple[int, int], size: tuple[int, int]) -> dict[str, Any]:
    """Return detections in pixels of the original image, on the CPU, with masks as runs."""
    moved = {
        name: value.detach().float().cpu() if value.is_floating_point() else value.cpu()
        for name, value in found.items()
    }
    factors = moved["boxes"].new_tensor([size[1] / resized[1], size[0] / resized[0]] * 2)
    moved["boxes"] = moved["boxes"] * factors
    if "masks" not in moved:
        return moved
    pasted = paste_masks_in_image(moved.pop("masks"), moved["boxes"], size) if min(size) else []
    return {**moved, "rles": [encode(mask[0] >= _LEAST_PROBABILITY) for mask in pasted]}
