"""From a stored image to a tensor: torchvision's decoder, whose pixels are PIL's, and PIL for what it can't read."""

from __future__ import annotations

from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torchvision.io import decode_image
from torchvision.transforms.v2.functional import pil_to_tensor

from shvit_pl.errors import first_line

_ROTATED_BY_TORCHVISION = (b"\xff\xd8", b"\x89PNG")  # JPEG and PNG; it leaves the others as they are


class BrokenImage(ValueError):
    """An image that can't be decoded; the message is one line with its name and the reason."""


def decode(image: dict[str, Any], where: str, exif_rotation: bool = False) -> Tensor:
    """Decode one image as `datasets` stores it (`{"bytes", "path"}`) to a uint8 tensor `(3, H, W)`.

    Gray, palette, CMYK and transparent images become RGB as by PIL's `convert("RGB")`, and of an animation the first
    frame. Of 16 bits the upper 8 are kept, also of gray ones, which PIL would clip to white.

    Args:
        image: The stored image.
        where: Its name, for the error.
        exif_rotation: Turn the image as its EXIF data say; ImageNet's figures are without, as in `ImageFolder`.

    Raises:
        BrokenImage: for an image without bytes, and for one that can't be decoded to its end.
    """
    data = _bytes(image, where)
    try:
        if not exif_rotation or data.startswith(_ROTATED_BY_TORCHVISION):
            return _by_torchvision(data, exif_rotation)
    except RuntimeError:  # a format that it doesn't know, or a broken file: PIL will tell
        pass
    try:
        return _by_pil(data, exif_rotation)
    except UnidentifiedImageError as error:
        raise BrokenImage(f"{where}: not an image of a known format.") from error
    except Exception as error:  # PIL's readers raise whatever their parsing runs into
        raise BrokenImage(f"{where}: not a readable image ({first_line(error)}).") from error


def _bytes(image: dict[str, Any] | None, where: str) -> bytes:
    data, path = (image or {}).get("bytes"), (image or {}).get("path")
    if data is None and path:
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise BrokenImage(f"{where}: the file can't be read ({error.strerror}).") from error
    if not data:
        raise BrokenImage(f"{where}: the image is empty.")
    return data


def _by_torchvision(data: bytes, exif_rotation: bool) -> Tensor:
    encoded = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    pixels = decode_image(encoded, mode="RGB", apply_exif_orientation=exif_rotation)
    if pixels.dtype == torch.uint16:
        pixels = (pixels.int() >> 8).to(torch.uint8)
    return pixels[0] if pixels.ndim == 4 else pixels


def _by_pil(data: bytes, exif_rotation: bool) -> Tensor:
    picture: Image.Image = Image.open(BytesIO(data))
    picture.load()
    if exif_rotation:
        with suppress(Exception):  # a broken EXIF or XMP block turns nothing
            picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I;16"):
        picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    return pil_to_tensor(picture.convert("RGB"))
