"""From a stored image to a tensor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.io import decode_image

from shvit_pl.errors import UserError


class BrokenImage(ValueError):
    """x"""


def decode(image: dict[str, Any], where: str, exif_rotation: bool = False) -> Tensor:
    """Decode one image as `datasets` stores it (`{"bytes", "path"}`) to a uint8 tensor `(3, H, W)`.

    Gray, palette, CMYK and RGBA images become RGB. EXIF rotation is not applied, as in torchvision's `ImageFolder`.

    Args:
        image: The stored image.
        where: Its name, for the error.

    Raises:
        UserError: names the image that can't be decoded.
    """
    data = image["bytes"] or Path(image["path"]).read_bytes()
    try:
        return decode_image(torch.frombuffer(bytearray(data), dtype=torch.uint8), mode="RGB")
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise BrokenImage(f"{where}: not a readable image ({reason}). Repair or remove it.") from error
