"""Images whose values stay as they are stored: gray, of 16 bits, of floating-point numbers, of many channels."""

from io import BytesIO
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.io import ImageReadMode, decode_image

from shvit_pl.errors import UserError

_NPY, _PNG = b"\x93NUMPY", b"\x89PNG"
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_LUMA = np.array([0.299, 0.587, 0.114])  # of red, green and blue: ITU-R BT.601, as PIL's gray
_PNG_BITS = 24  # place of the bits per channel in a file
_BITS = 258  # tag of TIFF
_GRAY = ("L", "I", "F", "I;16", "I;16L", "I;16B", "I;16N")  # modes of PIL


class WrongChannels(ValueError):
    """An image with other channels than asked for."""


def read_channels(
    data: bytes, channels: int, intensity_range: tuple[float, float] | None = None, exif_rotation: bool = False
) -> Tensor:
    """Read an image's stored values as float32 `(channels, H, W)`.

    Whole numbers are divided by the largest of their type (255, 65535, ...), floating-point numbers stay; of more than
    8 bits, `intensity_range` becomes 0 to 1, clipped. For one channel, red, green and blue become their luma.

    Raises `WrongChannels` for an image of other channels, `ValueError` for numbers that are not finite, and what the
    readers raise.
    """
    values = _channels_first(*_stored(data, channels, exif_rotation), channels)
    scaled = _scaled(values, intensity_range)
    if not np.isfinite(scaled).all():
        raise ValueError("it holds NaN or infinity")
    if channels == 1 and len(scaled) >= 3:
        scaled = np.tensordot(_LUMA, scaled[:3], 1)[None]
    return torch.from_numpy(np.ascontiguousarray(scaled, np.float32))


def _stored(data: bytes, channels: int, exif_rotation: bool) -> tuple[NDArray[Any], bool]:
    """Return the values of a file, `(H, W)` or with channels, and whether these are first for certain."""
    if data.startswith(_NPY):
        return np.asarray(np.load(BytesIO(data), allow_pickle=False)), False
    if data.startswith(_TIFF) and channels > 1:
        return _tiff(data), False
    if data.startswith(_PNG) and data[_PNG_BITS] == 16:  # PIL would reduce color to 8 bits
        encoded = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        return decode_image(encoded, ImageReadMode.UNCHANGED).numpy(), True
    picture: Image.Image = Image.open(BytesIO(data))
    bits = getattr(picture, "tag_v2", {}).get(_BITS, (8,))
    if picture.mode not in _GRAY and max(bits if isinstance(bits, tuple) else (bits,)) > 8:
        return _tiff(data), False
    if exif_rotation:
        picture = ImageOps.exif_transpose(picture)
    if channels == 1 and picture.mode not in _GRAY:
        picture = picture.convert("L" if picture.mode == "1" else "RGB")
    pixels = np.asarray(picture)
    return (np.moveaxis(pixels, 2, 0) if pixels.ndim == 3 else pixels[None]), True


def _tiff(data: bytes) -> NDArray[Any]:
    try:
        from tifffile import imread
    except ImportError as error:
        raise UserError(
            "data.channels: TIFF of several channels is read by tifffile. Install it: pip install 'shvit-pl[images]'."
        ) from error
    return np.asarray(imread(BytesIO(data)))


def _channels_first(values: NDArray[Any], certain: bool, channels: int) -> NDArray[Any]:
    """Return `(channels, H, W)`, or for one channel also `(3 or 4, H, W)` of color."""
    while values.ndim > 3 and values.shape[0] == 1:
        values = values[0]
    if values.ndim == 2:
        values = values[None]
    shown = " x ".join(map(str, values.shape))
    if values.ndim != 3:
        raise WrongChannels(f"an array of {shown} is no image")
    for allowed in ((channels,), (2, 3, 4)) if channels == 1 else ((channels,),):
        first, last = values.shape[0] in allowed, not certain and values.shape[2] in allowed
        if first and last:
            raise WrongChannels(f"in {shown}, channels may be first or last; store it in another size")
        if first or last:
            found = values if first else np.moveaxis(values, 2, 0)
            return found[:1] if len(found) == 2 and channels == 1 else found  # gray and its alpha
    raise WrongChannels(f"it is of {shown}, which has no {channels} channels")


def _scaled(values: NDArray[Any], limits: tuple[float, float] | None) -> NDArray[np.float64]:
    if values.dtype.kind not in "buif":
        raise ValueError(f"its numbers are {values.dtype}")
    numbers = values.astype(np.float64)
    if limits is not None and values.dtype.itemsize > 1:
        low, high = limits
        return ((numbers - low) / (high - low)).clip(0, 1)
    return numbers / np.iinfo(values.dtype).max if values.dtype.kind in "ui" else numbers
