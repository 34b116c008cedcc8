"""Images whose values stay as they are stored: gray, of 16 bits, of floating-point numbers, of many channels."""

from io import BytesIO
from typing import Any, NamedTuple

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


class WrongChannels(ValueError):
    """An image with other channels than asked for."""


class _Stored(NamedTuple):
    values: NDArray[Any]
    """`(H, W)`, or with an axis of channels."""
    axis: int | None
    """That of the channels, where the file tells it."""
    color: bool = False
    """True if the first three channels are red, green and blue, or one is gray with its transparency."""


def read_channels(
    data: bytes, channels: int, intensity_range: tuple[float, float] | None = None, exif_rotation: bool = False
) -> Tensor:
    """Read an image's stored values as float32 `(channels, H, W)`.

    Whole numbers of 8 and 16 bits are divided by the largest of their type (255, 65535, ...); those of more bits and
    floating-point numbers stay. With `intensity_range`, values of more than 8 bits are mapped from it to 0 to 1, and
    clipped. For one channel, red, green and blue become their luma.

    Raises `WrongChannels` for an image of other channels, `ValueError` for numbers that are not finite, and what the
    readers raise.
    """
    stored = _stored(data, channels, exif_rotation)
    values = _channels_first(stored, channels)
    scaled = _scaled(values, intensity_range)
    if channels == 1 and len(scaled) > 1:  # color, or gray with its transparency
        scaled = np.tensordot(_LUMA, scaled[:3], 1)[None] if len(scaled) > 2 else scaled[:1]
    with np.errstate(over="ignore"):  # infinity is refused
        result = torch.from_numpy(np.ascontiguousarray(scaled, np.float32))
    if not result.isfinite().all():
        raise ValueError("it holds NaN or infinity")
    return result


def _stored(data: bytes, channels: int, exif_rotation: bool) -> _Stored:
    if data.startswith(_NPY):
        return _Stored(np.asarray(np.load(BytesIO(data), allow_pickle=False)), None)
    if data.startswith(_TIFF) and (channels > 1 or not _is_simple(data)):
        return _tiff(data)
    if data.startswith(_PNG) and data[_PNG_BITS] == 16:  # PIL would reduce color to 8 bits
        encoded = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        pixels = decode_image(encoded, ImageReadMode.UNCHANGED, apply_exif_orientation=exif_rotation)
        return _Stored(pixels.numpy(), 0, True)
    picture: Image.Image = Image.open(BytesIO(data))
    if exif_rotation:
        picture = ImageOps.exif_transpose(picture)
    if picture.mode == "1" or (channels == 1 and picture.mode in ("P", "PA", "CMYK", "YCbCr", "LAB", "HSV")):
        picture = picture.convert("L" if picture.mode == "1" else "RGB")
    values = np.asarray(picture)
    if picture.mode == "I":  # beside TIFF, of 16 bits, as in PGM
        values = values.astype(np.uint16)
    return _Stored(values, 2 if values.ndim == 3 else None, True)


def _is_simple(data: bytes) -> bool:
    """Return whether this TIFF is one page that PIL reads exactly: of 8 bits, one channel of 16, or one of float32."""
    try:
        picture = Image.open(BytesIO(data))
    except OSError:  # of numbers that it doesn't know
        return False
    if getattr(picture, "n_frames", 1) > 1:  # its pages may be channels
        return False
    tags: Any = picture.tag_v2  # type: ignore[attr-defined]
    bits, kinds = (np.atleast_1d(tags.get(tag, default)) for tag, default in ((258, 1), (339, 1)))
    return bool((bits <= 8).all() and (kinds == 1).all()) or picture.mode in ("F", "I;16", "I;16L", "I;16B")


def _tiff(data: bytes) -> _Stored:
    try:
        from tifffile import TiffFile
    except ImportError as error:
        raise UserError(
            "data.channels: a TIFF of several channels, or of 32 or 64 bits, is read by tifffile. Install it: pip "
            "install 'shvit-pl[images]'."
        ) from error
    with TiffFile(BytesIO(data)) as file:
        series = file.series[0]
        axis = next((series.axes.index(name) for name in "SC" if name in series.axes), None)  # else pages of any kind
        return _Stored(series.asarray(), axis, file.pages.first.photometric == 2)


def _channels_first(stored: _Stored, channels: int) -> NDArray[Any]:
    """Return `(channels, H, W)`, or for one channel also a color image with all of its channels."""
    values, axis, color = stored
    if values.ndim == 2:
        values, axis = values[None], 0
    shown = " x ".join(map(str, values.shape))
    if values.ndim != 3:
        raise WrongChannels(f"an array of {shown} is no image")
    places = [place for place in (0, 2) if values.shape[place] == channels] if axis is None else [axis]
    if len(places) > 1:
        raise WrongChannels(f"in {shown}, channels may be first or last; store it in another size")
    if not places:
        raise WrongChannels(f"it is of {shown}, without {channels} channel{'s' * (channels != 1)}")
    found = np.moveaxis(values, places[0], 0)
    if len(found) != channels and not (channels == 1 and color):
        raise WrongChannels(f"it has {len(found)} channel{'s' * (len(found) != 1)}, not {channels}")
    return found


def _scaled(values: NDArray[Any], limits: tuple[float, float] | None) -> NDArray[np.float64]:
    if values.dtype.kind not in "buif":
        raise ValueError(f"its numbers are {values.dtype}")
    numbers = values.astype(np.float64)
    if limits is not None and values.dtype.itemsize > 1:
        low, high = limits
        return ((numbers - low) / (high - low)).clip(0, 1)
    is_fraction = values.dtype.kind in "ui" and values.dtype.itemsize <= 2
    return numbers / np.iinfo(values.dtype).max if is_fraction else numbers
