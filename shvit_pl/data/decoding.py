"""Decoding: a row of a Hugging Face dataset becomes a decoded, transformed image with its label."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torchvision.io import decode_image
from torchvision.transforms.v2.functional import pil_to_tensor

from shvit_pl.data.config import DataConfig
from shvit_pl.data.splits import ChosenRows
from shvit_pl.data.transforms import PlannedCrop, eval_transform, train_transform
from shvit_pl.errors import first_line
from shvit_pl.randomness import seeded

Item = dict[str, Any]
IGNORED = -1  # the label of what is not evaluated: padding, and images that can't be decoded
_ROTATED_BY_TORCHVISION = (b"\xff\xd8", b"\x89PNG")  # JPEG and PNG; it leaves the others as they are


@dataclass(frozen=True)
class RowReader:
    """Makes an item of one row: `image` uint8 `(3, S, S)`, `file`, `broken` and, where there is a label, `label`.

    `broken` is empty, or the reason why the image can't be decoded; then the image is black and the label `IGNORED`.
    """

    image_column: str
    """The column of encoded images."""
    label_column: str | None
    """The column of class indices, if there is one."""
    transform: Callable[[Tensor], Tensor | tuple[Tensor, Tensor]]
    """From uint8 `(3, H, W)` to `(3, S, S)`, or to a crop and its `plan` (see `transforms`)."""
    size: int
    """S."""
    exif_rotation: bool = False
    """Turn images upright as their EXIF block says."""

    @classmethod
    def of(cls, config: DataConfig, chosen: ChosenRows, train: bool) -> Self:
        """Return the reader of images to train on (ready to be augmented, with `augment_on` device) or to evaluate."""
        transform: Any = eval_transform(config.side, config.crop_pct, config.resize)
        if train:
            on_device = config.augment_on == "device"
            transform = PlannedCrop(config.side, config.color_jitter) if on_device else train_transform(config)
        return cls(chosen.image_column, chosen.label_column, transform, config.side, config.exif_rotation)

    def read(self, row: dict[str, Any], name: str, key: tuple[int, ...] = ()) -> Item:
        """Decode and transform, drawing random numbers by `key`."""
        stored = row[self.image_column]
        file = (stored and stored["path"]) or name
        try:
            pixels = decode(stored, file, self.exif_rotation)
        except BrokenImage as error:
            return self.placeholder(file, str(error))
        with seeded(*key):
            image = self.transform(pixels)
        plan = {}
        if isinstance(image, tuple):
            image, plan["plan"] = image
        label = {} if self.label_column is None else {"label": row.get(self.label_column, IGNORED)}
        return {"image": image, "file": file, "broken": "", **plan, **label}

    def placeholder(self, file: str = "", broken: str = "") -> Item:
        """Return an item that is not evaluated."""
        image = torch.zeros(3, self.size, self.size, dtype=torch.uint8)
        label = {} if self.label_column is None else {"label": IGNORED}
        return {"image": image, "file": file, "broken": broken, **label}


# ---- decoding


class BrokenImage(ValueError):
    """An image that can't be decoded; the message is one line with its name and the reason."""


def decode(image: dict[str, Any] | None, where: str, exif_rotation: bool = False) -> Tensor:
    """Decode one image as `datasets` stores it (`{"bytes", "path"}`) to a uint8 tensor `(3, H, W)`.

    By torchvision's decoder, whose pixels are PIL's, and by PIL where that fails. Gray, palette, CMYK and transparent
    images become RGB as by PIL's `convert("RGB")`, and of an animation the first frame. Of 16 bits the upper 8 are
    kept, also of gray ones, which PIL would clip to white. With `exif_rotation` the image is turned as its EXIF data
    say; ImageNet's figures are without, as in `ImageFolder`.

    Raises `BrokenImage` for an image without bytes, and for one that can't be decoded to its end; names `where`.
    """
    data, path = (image or {}).get("bytes"), (image or {}).get("path")
    if data is None and path:
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise BrokenImage(f"{where}: the file can't be read ({error.strerror}).") from error
    if not data:
        raise BrokenImage(f"{where}: the image is empty.")
    if not exif_rotation or data.startswith(_ROTATED_BY_TORCHVISION):
        with suppress(RuntimeError):  # a format that it doesn't know, or a broken file: PIL gives the reason
            encoded = torch.frombuffer(bytearray(data), dtype=torch.uint8)
            pixels = decode_image(encoded, mode="RGB", apply_exif_orientation=exif_rotation)
            if pixels.dtype == torch.uint16:
                pixels = (pixels.int() >> 8).to(torch.uint8)
            return pixels[0] if pixels.ndim == 4 else pixels
    try:
        picture: Image.Image = Image.open(BytesIO(data))
        picture.load()
        if exif_rotation:
            with suppress(Exception):  # a broken EXIF or XMP block rotates nothing
                picture = ImageOps.exif_transpose(picture)
        if picture.mode.startswith("I;16"):
            picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
        return pil_to_tensor(picture.convert("RGB"))
    except UnidentifiedImageError as error:
        raise BrokenImage(f"{where}: not an image of a known format.") from error
    except Exception as error:  # PIL's readers raise whatever their parsing runs into
        raise BrokenImage(f"{where}: not a readable image ({first_line(error)}).") from error
