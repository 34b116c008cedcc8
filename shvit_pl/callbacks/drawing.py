"""Pictures with boxes and masks of objects, and sheets of several pictures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from shvit_pl.data import transforms
from shvit_pl.data.objects.masks import run_library
from shvit_pl.plots import color, short_name

Picture = NDArray[np.uint8]
"""Pixels `(height, width, 3)`."""

_FONT = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
_LEAST_SIDE = 512  # pixels of a picture, for names to be legible in it
_VEIL = 0.45  # share of a mask's color in the pixels below it
_BORDER = 4


def image_of(batch: Mapping[str, Any], index: int, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """Return one image of a batch `image` `(B, 3, H, W)`, without its padding, as uint8 `(3, h, w)` on the CPU."""
    height, width = map(int, batch["sizes"][index])
    image = batch["image"][index : index + 1, :, :height, :width].float()
    return (transforms.denormalize(image, tuple(mean), tuple(std))[0] * 255).round().to(torch.uint8).cpu()


def drawn_score(best: float | None) -> float:
    """Return the least score of detections to draw: that of the best F1, or 0.5 while it is not known."""
    return 0.5 if best is None else best


def above(found: Mapping[str, Any], score: float) -> dict[str, Any]:
    """Return the detections of a score or above."""
    chosen = (found["scores"] >= score).nonzero().flatten().tolist()
    return {
        name: [values[index] for index in chosen] if isinstance(values, list) else values[chosen]
        for name, values in found.items()
    }


def draw_objects(
    image: torch.Tensor,
    objects: Mapping[str, Any],
    names: Sequence[str],
    size: tuple[int, int] | None = None,
    side: int | None = None,
) -> Picture:
    """Draw the boxes, masks, names and scores of objects into an image, enlarged where it is small.

    Args:
        image: `(3, H, W)` in uint8.
        objects: `boxes` `(N, 4)`, `labels` `(N,)` and, where there are any, `scores` `(N,)`, `iscrowd` `(N,)`, and
            `masks` `(N, h, w)` or the list `rles` of COCO's RLE dicts.
        names: Of the classes.
        size: Height and width that the boxes are in; default: those of the image.
        side: Longer side of the result in pixels; default: that of the image, and at least 512.
    """
    height, width = image.shape[-2:]
    side = side or max(height, width, _LEAST_SIDE)
    scale = side / max(height, width)
    target = max(1, round(width * scale)), max(1, round(height * scale))
    picture = Image.fromarray(image.cpu().permute(1, 2, 0).numpy())
    picture = picture.resize(target, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS)
    order, labels, captions = _captions(objects, names)
    pixels = np.array(picture)
    for index, mask in zip(order, _masks(objects, order), strict=False):  # strict: there may be none
        inside = np.asarray(Image.fromarray(mask).resize(target, Image.Resampling.NEAREST)) > 0
        veil = _VEIL * np.array(_rgb(labels[index]))
        pixels[inside] = ((1 - _VEIL) * pixels[inside] + veil).round().astype(np.uint8)
    picture = Image.fromarray(pixels)
    of_height, of_width = size or (height, width)
    factors = torch.tensor([target[0] / of_width, target[1] / of_height] * 2)
    boxes = (objects["boxes"].detach().cpu().float() * factors).tolist()
    _draw_boxes(picture, [(boxes[index], captions[index], _rgb(labels[index])) for index in order], side)
    return np.asarray(picture)


def _captions(objects: Mapping[str, Any], names: Sequence[str]) -> tuple[list[int], list[int], list[str]]:
    """Return the order to draw in, the highest score last and so on top, and each object's label and caption."""
    labels: list[int] = objects["labels"].tolist()
    captions = [short_name(names[label]) for label in labels]
    if "iscrowd" in objects:
        crowds = objects["iscrowd"].tolist()
        captions = [f"{text} (crowd)" if crowd else text for text, crowd in zip(captions, crowds, strict=True)]
    if "scores" not in objects:
        return list(range(len(labels))), labels, captions
    scores = objects["scores"].tolist()
    captions = [f"{text} {score:.2f}" for text, score in zip(captions, scores, strict=True)]
    return sorted(range(len(labels)), key=scores.__getitem__), labels, captions


def _masks(objects: Mapping[str, Any], order: Sequence[int]) -> list[NDArray[np.uint8]]:
    if "masks" in objects:
        return [objects["masks"][index].detach().cpu().to(torch.uint8).numpy() for index in order]
    if not objects.get("rles"):
        return []
    return [np.ascontiguousarray(run_library().decode(objects["rles"][index])) for index in order]


def _draw_boxes(picture: Image.Image, boxes: Sequence[tuple[list[float], str, tuple[int, ...]]], side: int) -> None:
    """Draw frames, then captions: above the box, or in it where there is no room."""
    draw = ImageDraw.Draw(picture)
    line, font = max(2, side // 350), ImageFont.truetype(str(_FONT), max(12, side // 55))
    for box, _, rgb in boxes:
        draw.rectangle((box[0], box[1], max(box[2], box[0]), max(box[3], box[1])), outline=rgb, width=line)
    height = sum(font.getmetrics())
    for box, text, rgb in boxes:
        width = draw.textlength(text, font) + 2 * line
        left = max(0.0, min(box[0], picture.width - width))
        top = box[1] - height if box[1] >= height else max(box[1], 0.0)
        draw.rectangle((left, top, left + width, top + height), fill=rgb)
        draw.text((left + line, top), text, fill="white", font=font)


def _rgb(label: int) -> tuple[int, ...]:
    return tuple(bytes.fromhex(color(label + 1)[1:]))


def sheet(pictures: Sequence[Picture], captions: Sequence[str], columns: int) -> Picture:
    """Return pictures in rows, from the left, each below its caption."""
    font = ImageFont.truetype(str(_FONT), 13)
    head = sum(font.getmetrics()) + _BORDER
    width = max(picture.shape[1] for picture in pictures)
    rows = [list(range(first, min(first + columns, len(pictures)))) for first in range(0, len(pictures), columns)]
    heights = [head + max(pictures[index].shape[0] for index in row) for row in rows]
    whole = Image.new("RGB", (min(columns, len(pictures)) * (width + _BORDER), sum(heights) + _BORDER), "white")
    draw, top = ImageDraw.Draw(whole), _BORDER
    for row, height in zip(rows, heights, strict=True):
        for column, index in enumerate(row):
            left = column * (width + _BORDER) + _BORDER // 2
            draw.text((left, top), captions[index], fill="black", font=font)
            whole.paste(Image.fromarray(pictures[index]), (left, top + head - _BORDER))
        top += height
    return np.asarray(whole)
