"""Decoding: a row of a Hugging Face dataset becomes a decoded, transformed image with its label."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torchvision.io import decode_image
from torchvision.transforms.v2.functional import pil_to_tensor

from shvit_pl.data.channels import WrongChannels, read_channels
from shvit_pl.data.config import DataConfig
from shvit_pl.data.splits import ChosenRows
from shvit_pl.data.transforms import PlannedCrop, eval_transform, train_transform
from shvit_pl.errors import UserError, first_line
from shvit_pl.files import from_text
from shvit_pl.randomness import seeded

Item = dict[str, Any]
Limits = tuple[float, float] | None
IGNORED = -1  # the label of what is not evaluated: padding, and images that can't be decoded
Image.MAX_IMAGE_PIXELS = None  # torchvision, which reads JPEG and PNG, has no limit either
_PNG_BITS = 24  # place of the bits per channel in a file
_BITS, _SAMPLE_FORMAT, _SIGNED = 258, 339, 2  # tags of TIFF, and a value
_ROTATED_BY_TORCHVISION = (b"\xff\xd8", b"\x89PNG")  # JPEG and PNG; it leaves the others as they are


@dataclass(frozen=True)
class RowReader:
    """Makes an item of one row: `image`, `file`, `broken` and, where there is a label, `label`.

    The image is uint8 `(3, S, S)`, of other channels than RGB float32 `(C, S, S)`.
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
    intensity_range: tuple[float, float] | None = None
    """Intensities of black and white in images of more than 8 bits."""
    channels: int | None = None
    """Number of channels of images whose values are kept; None for RGB of 8 bits."""

    @classmethod
    def of(cls, config: DataConfig, chosen: ChosenRows, train: bool) -> Self:
        """Return the reader of images to train on (ready to be augmented, with `augment_on` device) or to evaluate."""
        transform: Any = eval_transform(config.side, config.crop_pct, config.resize)
        if train:
            on_device = config.augment_on == "device"
            transform = PlannedCrop(config.side, config.color_jitter) if on_device else train_transform(config)
        columns, kept = (chosen.image_column, chosen.label_column), (config.exif_rotation, config.intensity_range)
        return cls(*columns, transform, config.side, *kept, None if config.is_rgb else config.in_chans)

    def read(self, row: dict[str, Any], name: str, key: tuple[int, ...] = ()) -> Item:
        """Decode and transform, drawing random numbers by `key`."""
        stored = row[self.image_column]
        file = (stored and stored["path"]) or name
        try:
            pixels = self.decoded(stored, file)
        except BrokenImage as error:
            return self.placeholder(file, str(error))
        with seeded(*key):
            image = self.transform(pixels)
        plan = {}
        if isinstance(image, tuple):
            image, plan["plan"] = image
        label = {} if self.label_column is None else {"label": row.get(self.label_column, IGNORED)}
        return {"image": image, "file": file, "broken": "", **plan, **label}

    def decoded(self, stored: dict[str, Any] | None, name: str) -> Tensor:
        """Decode one image as it is stored; raises `BrokenImage`."""
        file = (stored and stored["path"]) or name
        return decode(stored, file, self.exif_rotation, self.intensity_range, self.channels)

    def placeholder(self, file: str = "", broken: str = "") -> Item:
        """Return an item that is not evaluated."""
        kind = torch.uint8 if self.channels is None else torch.float32
        image = torch.zeros(self.channels or 3, self.size, self.size, dtype=kind)
        label = {} if self.label_column is None else {"label": IGNORED}
        return {"image": image, "file": file, "broken": broken, **label}


# ---- decoding


class BrokenImage(ValueError):
    """An image that can't be decoded; the message is one line with its name and the reason."""


def decode(
    image: dict[str, Any] | None,
    where: str,
    exif_rotation: bool = False,
    intensity_range: tuple[float, float] | None = None,
    channels: int | None = None,
) -> Tensor:
    """Decode one image as `datasets` stores it (`{"bytes", "path"}`) to a uint8 tensor `(3, H, W)`.

    By torchvision's decoder, whose pixels are PIL's, and by PIL where that fails. Gray, palette, CMYK and transparent
    images become RGB as by PIL's `convert("RGB")`, and of an animation the first frame. Intensities of more than 8
    bits are mapped from `intensity_range` to 0 to 255, and clipped; without a range, the upper 8 of 16 bits are kept,
    also of gray images, which PIL would clip to white. With `exif_rotation` the image is turned as its EXIF data say;
    ImageNet's figures are without, as in `ImageFolder`.

    With `channels`, values are kept: float32 `(channels, H, W)`, as `read_channels` gives them.

    Raises `BrokenImage` for an image without bytes, for one that can't be decoded to its end, and for one of 32 bits
    (whole or floating-point numbers) without a range; names `where`.
    """
    data = _encoded(image, where)
    if channels is not None:
        return _kept_values(data, where, channels, exif_rotation, intensity_range)
    if not exif_rotation or data.startswith(_ROTATED_BY_TORCHVISION):
        with suppress(RuntimeError):  # a format that it doesn't know, or a broken file: PIL gives the reason
            encoded = torch.frombuffer(bytearray(data), dtype=torch.uint8)
            pixels = decode_image(encoded, mode="RGB", apply_exif_orientation=exif_rotation)
            if pixels.dtype == torch.uint16:
                pixels = torch.from_numpy(_in_8_bits(pixels.numpy(), intensity_range))
            return pixels[0] if pixels.ndim == 4 else pixels
    try:
        picture: Image.Image = Image.open(BytesIO(data))
        picture.load()
        if exif_rotation:
            with suppress(Exception):  # a broken EXIF or XMP block rotates nothing
                picture = ImageOps.exif_transpose(picture)
        values = np.asarray(picture) if picture.mode[0] in "IF" else _signed(picture)
        if values is not None and not picture.mode.startswith("I;16"):
            _check_range(values, intensity_range, where)
        if intensity_range is not None and picture.mode == "RGB" and max(_tiff_tag(picture, _BITS)) > 8:
            raise BrokenImage(
                f"{where}: --data.intensity_range can't be applied to a color TIFF of 16 bits; convert it to PNG."
            )
        if values is not None:
            picture = Image.fromarray(_in_8_bits(values, intensity_range))
        return pil_to_tensor(picture.convert("RGB"))
    except BrokenImage:
        raise
    except UnidentifiedImageError as error:
        raise BrokenImage(f"{where}: not an image of a known format.") from error
    except Exception as error:  # PIL's readers raise whatever their parsing runs into
        raise BrokenImage(f"{where}: not a readable image ({first_line(error)}).") from error


def _kept_values(data: bytes, where: str, channels: int, exif_rotation: bool, limits: Limits) -> Tensor:
    try:
        return read_channels(data, channels, limits, exif_rotation)
    except UserError:
        raise
    except WrongChannels as error:
        raise BrokenImage(f"{where}: {error}.") from error
    except Exception as error:  # the readers raise whatever their parsing runs into
        raise BrokenImage(f"{where}: not a readable image ({first_line(error)}).") from error


def _encoded(image: dict[str, Any] | None, where: str) -> bytes:
    data, path = (image or {}).get("bytes"), (image or {}).get("path")
    if data is None and path:
        try:
            data = from_text(path).read_bytes()
        except OSError as error:
            raise BrokenImage(f"{where}: the file can't be read ({error.strerror}).") from error
    if not data:
        raise BrokenImage(f"{where}: the image is empty.")
    return bytes(data)


def dark_images(images: Iterable[dict[str, Any] | None]) -> str | None:
    """Return a warning where the largest intensity of images of 16 bits is below an eighth of the range, else None."""
    largest, count = 0, 0
    for image in images:
        with suppress(Exception):  # a broken one is named where it is read
            data = _encoded(image, "")
            picture = Image.open(BytesIO(data))
            if picture.mode.startswith("I;16"):
                largest, count = max(largest, int(np.asarray(picture).max())), count + 1
            elif data.startswith(b"\x89PNG") and data[_PNG_BITS] == 16:  # which PIL would reduce to 8 bits
                pixels = decode_image(torch.frombuffer(bytearray(data), dtype=torch.uint8), mode="RGB")
                largest, count = max(largest, int(pixels.numpy().max())), count + 1
    if not 0 < largest < 2**16 // 8:
        return None
    bits = max(8, largest.bit_length() + largest.bit_length() % 2)  # cameras and scanners have 10, 12 or 14
    return (
        f"data.intensity_range: the images use few of their 16 bits (the largest intensity of {count} of them is "
        f"{largest}), so they become dark. Give --data.intensity_range [0,{2**bits - 1}] if they hold {bits} bits."
    )


def _signed(picture: Image.Image) -> NDArray[np.int8] | None:
    """Return the intensities of a TIFF of signed 8 bits, which PIL takes for unsigned; None for other images."""
    is_signed = picture.mode == "L" and _tiff_tag(picture, _SAMPLE_FORMAT)[0] == _SIGNED
    return np.asarray(picture).view(np.int8) if is_signed else None


def _tiff_tag(picture: Image.Image, tag: int) -> tuple[int, ...]:
    value = getattr(picture, "tag_v2", {}).get(tag, (0,))
    return value if isinstance(value, tuple) else (value,)


def _check_range(values: Any, limits: tuple[float, float] | None, where: str) -> None:
    """Raise `BrokenImage` where intensities need limits, and there are none."""
    if limits is None:
        found = values[np.isfinite(values)]
        low, high = (float(found.min()), float(found.max())) if found.size else (0.0, 0.0)
        example = f"[{min(low, 0.0):g}, {high if high > min(low, 0.0) else 1:g}]"
        raise BrokenImage(
            f"{where}: intensities from {low:g} to {high:g}; give --data.intensity_range, such as {example}."
        )


def _in_8_bits(intensities: NDArray[Any], limits: tuple[float, float] | None) -> NDArray[np.uint8]:
    """Map intensities from their limits, by default those of 16 bits, to 0 to 255."""
    if limits is None:
        return (intensities.astype(np.int32) >> 8).astype(np.uint8)
    low, high = limits
    scaled = (np.nan_to_num(intensities.astype(np.float64)) - low) * (255 / (high - low))
    return scaled.round().clip(0, 255).astype(np.uint8)
