"""Masks as polygons or COCO's runs (RLE): drawn at the size of a resized image, or encoded at the image's own."""

from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn.functional import interpolate

from shvit_pl.data.objects.masks import run_library

Size = tuple[int, int]  # height, width
Rle = dict[str, Any]  # `size` [height, width] and `counts`, a text


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
            mask[:] = np.asarray(_of_rings(objects["polygons"][index], size, new, flipped))
    return torch.from_numpy(masks)


def _of_rings(rings: list[list[float]], size: Size, new: Size, flipped: bool) -> Image.Image:
    image = Image.new("L", (new[1], new[0]))
    canvas = ImageDraw.Draw(image)
    for ring in rings:
        x, y = (np.asarray(ring).reshape(-1, 2) * (new[1] / size[1], new[0] / size[0])).T
        x = new[1] - x if flipped else x
        canvas.polygon(np.stack([x - 0.5, y - 0.5], axis=1).ravel().tolist(), fill=1)  # a pixel's place is its center
    return image


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
