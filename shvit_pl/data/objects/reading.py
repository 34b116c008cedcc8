"""From a row to an item, and from items to a batch: decoded, resized and flipped in a worker, as uint8, then padded.

An item to train on holds `image` `(3, h, w)` and `objects`: `boxes` `(N, 4)` in its pixels, `labels` `(N,)`, `crowds`
`(M, 4)` that are no objects to learn, and where the detector wants them `masks` `(N, h, w)`. An item to evaluate holds
instead of these `truth`: boxes, labels, `area` and `iscrowd` of all objects, in the original image's pixels, and
`rles`.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

from shvit_pl.data.decoding import BrokenImage, decode
from shvit_pl.data.objects import rendering
from shvit_pl.data.objects.config import ObjectsConfig
from shvit_pl.data.objects.scenes import Scenes
from shvit_pl.data.transforms import Batch, Triple, normalize
from shvit_pl.randomness import generator_of

Item = dict[str, Any]
DIVISOR = 32  # of the sides of a padded batch, as in the official code
_NO_KEY = (0,)  # of scenes that are the same in every epoch


@dataclass(frozen=True)
class ObjectReader:
    """Makes an item of a row."""

    config: ObjectsConfig
    train: bool
    """Augment, and give what a training needs."""
    image_column: str = "image"
    """The column of encoded images."""
    with_masks: bool = False
    """Give masks."""
    scenes: Scenes | None = None
    """Draws the images, instead of reading them from rows."""

    def read(self, row: Item, name: str, key: tuple[int, ...] = ()) -> Item:
        """Decode, resize and flip, drawing random numbers by `key`; `broken` says why an image can't be decoded."""
        stored = row.get(self.image_column)
        file = (stored["path"] if isinstance(stored, dict) else None) or name
        try:
            pixels, objects = self._opened(row, file, key)
        except BrokenImage as error:
            return self.placeholder(file, str(error))
        size = (pixels.shape[1], pixels.shape[2])
        draws = generator_of(*key)
        side = self._side(draws) if self.train else self.config.min_size
        flipped = self.train and bool(torch.rand(1, generator=draws) < self.config.flip)
        pixels = pixels.flip(-1) if flipped else pixels  # before it is enlarged
        image, scale = resized(pixels, side, self.config.max_size)
        chosen = self._chosen(objects, draws) if self.train and objects is not None else None
        item: Item = {"image": image, "file": file, "broken": "", "counted": True, "size": size}
        item["stored"] = file if stored is not None and stored["bytes"] is None else ""
        item["rotated"] = self._rotates(row)
        item["image_id"] = json.dumps(row["number"]) if self.scenes is not None else row.get("image_id")
        if objects is not None and chosen is None:
            item["truth"] = self._truth(objects, size, item["image_id"])
        elif objects is not None and chosen is not None:
            item["objects"] = self._targets(objects, chosen, size, image, scale, flipped)
        return item

    def placeholder(self, file: str = "", broken: str = "") -> Item:
        """Return an item that does not count."""
        image = torch.zeros(3, DIVISOR, DIVISOR, dtype=torch.uint8)
        return {"image": image, "file": file, "broken": broken, "counted": False, "size": (0, 0), "image_id": None}

    def _opened(self, row: Item, file: str, key: tuple[int, ...]) -> tuple[Tensor, dict[str, Any] | None]:
        """Return pixels `(3, H, W)`, and the objects as columns of arrays; None where none are known."""
        if self.scenes is not None:
            return self.scenes.draw(key or (*_NO_KEY, row["number"]))
        pixels = decode(row[self.image_column], file, self._rotates(row), self.config.intensity_range)
        if "objects" not in row:
            return pixels, None
        if pixels.shape[1:] != (row["height"], row["width"]):  # boxes would be misplaced
            sides = f"{pixels.shape[2]} x {pixels.shape[1]} pixels, annotated are {row['width']} x {row['height']}"
            raise BrokenImage(f"{file}: {sides}.")
        return pixels, columns_of(row["objects"])

    def _rotates(self, row: Item) -> bool:
        """Return whether an image is turned as its EXIF block says: upright, unless annotations say otherwise."""
        rotate: bool = row.get("rotate", self.config.exif_rotation is not False)
        return rotate

    def _side(self, draws: torch.Generator) -> int:
        if self.config.scales is None:
            return self.config.min_size
        return self.config.scales[int(torch.randint(len(self.config.scales), (1,), generator=draws))]

    def _chosen(self, objects: dict[str, Any], draws: torch.Generator) -> Tensor:
        """Return the numbers of the objects to learn, drawn where there are too many."""
        learned = torch.arange(len(objects["labels"]))[~objects["iscrowd"]]
        most = self.config.most_objects
        if most is not None and len(learned) > most:
            learned = learned[torch.randperm(len(learned), generator=draws)[:most].sort().values]
        return learned

    def _targets(
        self,
        objects: dict[str, Any],
        chosen: Tensor,
        size: tuple[int, int],
        image: Tensor,
        scale: tuple[float, float],
        flipped: bool,
    ) -> dict[str, Tensor]:
        boxes = objects["boxes"] * torch.tensor([*scale, *scale])
        if flipped:
            boxes[:, 0::2] = image.shape[2] - boxes[:, [2, 0]]
        others = torch.ones(len(boxes), dtype=torch.bool)  # crowds, and what is too much: no objects, nor background
        others[chosen] = False
        targets = {"boxes": boxes[chosen], "labels": objects["labels"][chosen], "crowds": boxes[others]}
        if self.with_masks:
            new = image.shape[1], image.shape[2]
            targets["masks"] = rendering.drawn(objects, chosen, size, new, flipped)
        return targets

    def _truth(self, objects: dict[str, Any], size: tuple[int, int], image_id: str) -> dict[str, Any]:
        names = ("boxes", "labels", "area", "iscrowd")
        truth = {"image_id": image_id, "size": size, **{name: objects[name] for name in names}}
        return {**truth, "rles": rendering.encoded(objects, size)} if self.with_masks else truth


def columns_of(objects: dict[str, Any]) -> dict[str, Any]:
    """Return the objects of a row: tensors `boxes`, `labels`, `iscrowd`, an array `area`, `polygons` and `rle`."""
    return {
        "boxes": torch.from_numpy(np.asarray(objects["bbox"], np.float32).reshape(-1, 4)),
        "labels": torch.tensor(objects["category"], dtype=torch.int64),
        "area": np.asarray(objects["area"], np.float64),  # no tensor: Apple's GPUs have no float64
        "iscrowd": torch.tensor(objects["iscrowd"], dtype=torch.bool),
        "polygons": objects["polygons"],
        "rle": objects["rle"],
    }


def resized(pixels: Tensor, side: int, most: int) -> tuple[Tensor, tuple[float, float]]:
    """Resize uint8 `(3, H, W)` to a shorter `side`, or less for the longer one to have at most `most` pixels.

    Returns the image and the factors of x and y.
    """
    height, width = pixels.shape[1:]
    new = resized_sides(height, width, side, most)
    image = pixels
    if new != [height, width]:  # channels together in memory, as the kernel needs them
        together = pixels[None].contiguous(memory_format=torch.channels_last)
        image = functional.resize_image(together, new, antialias=True)[0]
    return image, (new[1] / width, new[0] / height)


def resized_sides(height: int, width: int, side: int, most: int) -> list[int]:
    """Return the sides of a resized image, rounded to the nearest."""
    scale = min(side / min(height, width), most / max(height, width))
    return [max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))]


def collate(items: Sequence[Item]) -> Batch:
    """Return a batch: images padded below and to the right, their sizes, and lists of all else."""
    height, width = (-(-max(item["image"].shape[i] for item in items) // DIVISOR) * DIVISOR for i in (1, 2))
    images = torch.zeros(len(items), 3, height, width, dtype=torch.uint8)
    for place, item in zip(images, items, strict=True):
        place[:, : item["image"].shape[1], : item["image"].shape[2]] = item["image"]
    batch: Batch = {"image": images, "sizes": [(item["image"].shape[1], item["image"].shape[2]) for item in items]}
    names = {name for item in items for name in item} - {"image", "key"}
    batch |= {name: [item.get(name) for item in items] for name in sorted(names)}
    if "key" in items[0]:
        batch["key"] = torch.tensor([item["key"] for item in items])
    return batch


def finish(batch: Batch, mean: Triple, std: Triple) -> Batch:
    """Return a batch on the device as the step sees it: `image` normalized, and 0 where it is padded."""
    images = normalize(batch["image"], mean, std)
    for image, (height, width) in zip(images, batch["sizes"], strict=True):
        image[:, height:] = 0
        image[:, :, width:] = 0
    return {**batch, "image": images}
