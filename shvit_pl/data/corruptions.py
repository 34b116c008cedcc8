"""The fifteen corruptions of ImageNet-C at five strengths (Hendrycks & Dietterich 2019), for square images of any size.

Parameters are as published, by the side in pixels: those of CIFAR-10-C up to 48, of Tiny ImageNet-C up to 112, and of
ImageNet-C above; lengths in them are pixels of images of 32, 64 and 224. Two things differ from ImageNet-C: `frost`
lays a drawn texture over the image instead of photographs, and images are not stored as JPEG again. Motion is blurred,
and large images are bent, as in the package `imagecorruptions`, with which a test compares all.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from io import BytesIO
from math import ceil, cos, radians, sin
from typing import Any

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from shvit_pl.data.config import CORRUPTIONS

STRENGTHS = (1, 2, 3, 4, 5)
_SIDES = (48, 112)  # the largest of CIFAR-10-C's parameters and of Tiny ImageNet-C's
_FROST = 640  # pixels of the texture's side
_GRAY = np.array([0.299, 0.587, 0.114], np.float32)

Pixels = NDArray[np.float32]
"""Intensities from 0 to 1, `(S, S, 3)` or `(S, S)`."""


def corrupt(image: Tensor, name: str, strength: int, key: tuple[int, ...]) -> Tensor:
    """Return a corrupted uint8 image `(3, S, S)`; random numbers are drawn by the key, of non-negative integers."""
    function, tables = _KINDS[name]
    table = tables[sum(image.shape[-1] > side for side in _SIDES)]
    random = np.random.default_rng([*key, CORRUPTIONS.index(name), strength])
    pixels = image.permute(1, 2, 0).numpy().astype(np.float32) / 255
    parameters = table[strength - 1]
    changed = function(pixels, random, *(parameters if isinstance(parameters, tuple) else (parameters,)))
    whole = (np.clip(changed, 0, 1) * 255 + 1e-4).astype(np.uint8)  # cut off, as published
    return torch.from_numpy(whole).permute(2, 0, 1).contiguous()


# ---- noise


def _gaussian_noise(image: Pixels, random: Generator, deviation: float) -> Any:
    return image + random.normal(scale=deviation, size=image.shape)


def _shot_noise(image: Pixels, random: Generator, photons: float) -> Any:
    return random.poisson(image * photons) / photons


def _impulse_noise(image: Pixels, random: Generator, share: float) -> Any:
    hit, salt = random.random(image.shape) < share, random.random(image.shape) < 0.5
    return np.where(hit, salt, image)


# ---- blur


def _defocus_blur(image: Pixels, random: Generator, radius: float, smoothing: float) -> Any:
    reach = 8 if radius <= 8 else int(radius)
    line = np.arange(-reach, reach + 1)
    disk = (line[:, None] ** 2 + line**2 <= radius**2).astype(np.float32)
    disk = _blur(disk / disk.sum(), smoothing, reach=1 if radius <= 8 else 2, edge="reflect")
    near = reach - int(radius) - 1 if radius <= 7 else 0  # zeros around it
    return _convolve(image, disk[near : len(disk) - near, near : len(disk) - near], "reflect")


def _glass_blur(image: Pixels, random: Generator, deviation: float, most: int, times: int) -> Any:
    pixels = (_blur(image, deviation) * 255).astype(np.uint8)
    side = len(image)
    inner = np.arange(most + 1, side - most + 1)
    for _ in range(times if len(inner) else 0):
        # every pixel becomes one near it, from the last to the first; those behind it have been moved before
        sources = np.arange(side * side).reshape(side, side)
        across, down = random.integers(-most, most, (2, len(inner), len(inner)))
        sources[inner[:, None], inner] = (inner[:, None] + down) * side + inner + across
        source, itself = sources.reshape(-1), np.arange(side * side)
        moved = np.where(source > itself, source, itself)
        while (moved[moved] != moved).any():  # follow what has been moved to where it came from
            moved = moved[moved]
        pixels = pixels.reshape(side * side, -1)[source[moved]].reshape(pixels.shape)
    return _blur((pixels / 255).astype(np.float32), deviation)


def _motion_blur(image: Pixels, random: Generator, radius: int, deviation: float) -> Any:
    return _moved(image, radius, deviation, random.uniform(-45, 45))


def _zoom_blur(image: Pixels, random: Generator, most: float, step: float) -> Any:
    factors = np.arange(1, most, step)
    return (image + sum(_zoomed(image, factor) for factor in factors)) / (len(factors) + 1)


# ---- weather


def _snow(
    image: Pixels, random: Generator, mean: float, deviation: float, zoom: float, least: float, *rest: Any
) -> Any:
    radius, blur, share = rest
    side = len(image)
    flakes = _zoomed(random.normal(mean, deviation, image.shape[:2]).astype(np.float32), zoom)
    flakes = np.where(flakes < least, 0, flakes).clip(0, 1)
    flakes = _moved(flakes, radius, blur, random.uniform(-135, -45))[:side, :side, None]
    whitened = np.maximum(image, (image @ _GRAY)[..., None] * 1.5 + 0.5)
    return share * image + (1 - share) * whitened + flakes + np.rot90(flakes, 2)


def _frost(image: Pixels, random: Generator, share: float, of_frost: float) -> Any:
    side = len(image)
    # published small images had pictures made smaller
    scale = (0.2, 0.3, 1.0)[sum(side > each for each in _SIDES)]
    texture = _frost_texture(max(round(_FROST * scale), side + 1))
    top, left = random.integers(0, len(texture) - side, 2)
    return share * image + of_frost * texture[top : top + side, left : left + side]


def _fog(image: Pixels, random: Generator, amount: float, decay: float) -> Any:
    side = len(image)
    brightest = image.max()
    clouds = _clouds(1 << (side - 1).bit_length(), decay, random)[:side, :side, None]
    return (image + amount * clouds) * brightest / (brightest + amount)


# ---- digital


def _brightness(image: Pixels, random: Generator, more: float) -> Any:
    value = image.max(axis=2, keepdims=True)
    brighter = (value + more).clip(0, 1)  # hue and saturation stay
    return np.where(value > 0, image * brighter / np.where(value > 0, value, 1), brighter)


def _contrast(image: Pixels, random: Generator, factor: float) -> Any:
    mean = image.mean(axis=(0, 1), keepdims=True)
    return (image - mean) * factor + mean


def _elastic_transform(image: Pixels, random: Generator, reach: float, deviation: float, corners: float) -> Any:
    """Bend by a smooth field; all three lengths are shares of the side."""
    side = len(image)
    grid = np.stack(np.meshgrid(np.arange(side), np.arange(side), indexing="ij"), -1).astype(np.float32)
    places = grid
    if corners:  # three points of the image move, and the others with them
        center, third = side // 2, side // 3
        before = np.array([[third, third], [third, -third], [-third, -third]], np.float64) + center
        after = before + random.uniform(-corners * side, corners * side, before.shape)
        ones = np.ones((3, 1))
        back = np.linalg.lstsq(np.hstack([after, ones]), before, rcond=None)[0]  # from a new place to the old
        places = grid[..., ::-1] @ back[:2].astype(np.float32) + back[2].astype(np.float32)
        image = _sampled(image, places[..., ::-1], "reflect")
    field = random.uniform(-reach * side, reach * side, (side, side, 2)).astype(np.float32)
    return _sampled(image, grid + _blur(field, deviation * side, truncate=3, edge="symmetric"), "symmetric")


def _pixelate(image: Pixels, random: Generator, share: float) -> Any:
    small = max(1, int(len(image) * share))
    picture = _picture(image).resize((small, small), Image.Resampling.BOX)
    return np.asarray(picture.resize(image.shape[:2], Image.Resampling.NEAREST), np.float32) / 255


def _jpeg_compression(image: Pixels, random: Generator, quality: int) -> Any:
    file = BytesIO()
    _picture(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file), np.float32) / 255


def _picture(image: Pixels) -> Image.Image:
    return Image.fromarray((image * 255).round().astype(np.uint8))


# ---- what several share


def _convolve(image: Pixels, kernel: Pixels, edge: Any) -> Pixels:
    """Correlate `(S, S)` or `(S, S, C)` with a kernel of odd sides."""
    down, across = (length // 2 for length in kernel.shape)
    planes = image.reshape(*image.shape[:2], -1)
    padded = np.pad(planes, ((down, down), (across, across), (0, 0)), edge)
    stacked = torch.from_numpy(padded).permute(2, 0, 1)[:, None].contiguous()
    result = nn.functional.conv2d(stacked, torch.from_numpy(kernel)[None, None])
    return result[:, 0].permute(1, 2, 0).reshape(image.shape).numpy()


def _blur(image: Pixels, deviation: float, truncate: float = 4, edge: Any = "edge", reach: int | None = None) -> Pixels:
    """Blur by a Gaussian of so many pixels, cut off at `truncate` deviations or at `reach` pixels."""
    reach = int(truncate * deviation + 0.5) if reach is None else reach
    if not reach or not deviation:
        return image
    line = np.exp(-0.5 * (np.arange(-reach, reach + 1) / deviation) ** 2).astype(np.float32)
    line /= line.sum()
    return _convolve(_convolve(image, line[:, None], edge), line[None], edge)


def _moved(image: Pixels, radius: int, deviation: float, angle: float) -> Pixels:
    """Blur along a line of `2 * radius + 1` pixels, with weights of half a Gaussian; `angle` in degrees."""
    weights = np.exp(-0.5 * (np.arange(2 * radius + 1) / deviation) ** 2)
    reach, (height, width) = 2 * radius + 1, image.shape[:2]
    padded = np.pad(image, ((reach, reach), (reach, reach), *[(0, 0)] * (image.ndim - 2)), "edge")
    result = np.zeros_like(image)
    for place, weight in enumerate(weights / weights.sum()):
        top = reach + ceil(place * sin(radians(angle)) - 0.5)
        left = reach + ceil(place * cos(radians(angle)) - 0.5)
        result += np.float32(weight) * padded[top : top + height, left : left + width]
    return result


def _zoomed(image: Pixels, factor: float) -> Pixels:
    """Magnify the middle, bilinear; of what is a pixel too large, the upper left part remains."""
    side = len(image)
    kept = ceil(side / factor)
    first = (side - kept) // 2
    middle = image[first : first + kept, first : first + kept].reshape(kept, kept, -1)
    planes = torch.from_numpy(np.ascontiguousarray(middle)).permute(2, 0, 1)[None]
    large = nn.functional.interpolate(planes, (round(kept * factor),) * 2, mode="bilinear", align_corners=True)
    return large[0].permute(1, 2, 0).numpy()[:side, :side].reshape(image.shape)


def _sampled(image: Pixels, places: Pixels, edge: Any) -> Pixels:
    """Return an image at places `(S, S, 2)` of rows and columns, bilinear; beyond it, it is mirrored."""
    reach = ceil(max(-places.min(), places.max() - len(image) + 1, 0)) + 1
    padded = np.pad(image, ((reach, reach), (reach, reach), (0, 0)), edge)
    planes = torch.from_numpy(padded).permute(2, 0, 1)[None]
    centers = torch.from_numpy(np.ascontiguousarray(places[..., ::-1] + reach))[None]
    grid = centers * (2 / (padded.shape[0] - 1)) - 1
    sampled = nn.functional.grid_sample(planes, grid, padding_mode="border", align_corners=True)
    return sampled[0].permute(1, 2, 0).numpy()


def _clouds(side: int, decay: float, random: Generator) -> Pixels:
    """Draw a plasma fractal `(side, side)` from 0 to 1, by the diamond-square algorithm on a torus."""
    heights = np.zeros((side, side))
    step, rough = side, 100.0
    while step >= 2:
        half = step // 2

        def near(total: Any) -> Any:
            return total / 4 + random.uniform(-(rough**2), rough**2, total.shape)  # noqa: B023

        corners = heights[::step, ::step]
        beside = corners + np.roll(corners, -1, 0)
        middles = near(beside + np.roll(beside, -1, 1))
        heights[half::step, half::step] = middles
        heights[::step, half::step] = near(corners + np.roll(corners, -1, 1) + middles + np.roll(middles, 1, 0))
        heights[half::step, ::step] = near(corners + np.roll(corners, -1, 0) + middles + np.roll(middles, 1, 1))
        step, rough = half, rough / decay
    heights -= heights.min()
    return (heights / max(heights.max(), 1e-9)).astype(np.float32)


@lru_cache(maxsize=2)
def _frost_texture(side: int) -> Pixels:
    """Draw ice `(side, side, 3)`: needles in all directions, denser in some places, on a bluish gray."""
    random = np.random.default_rng(0)
    full = 1 << (side - 1).bit_length()
    clouds = _clouds(full, 2.0, random)[:side, :side]
    needles = np.zeros((side, side), np.float32)
    for angle in random.uniform(0, 180, 12):
        seeds = (random.random((side, side)) < 0.003 * clouds**2).astype(np.float32)
        needles = np.maximum(needles, _moved(seeds, 30, 12, angle) * 10)
    ice = (0.32 + 0.4 * clouds + 0.3 * needles.clip(0, 1))[..., None] * np.array([0.85, 1.0, 1.08], np.float32)
    return ice.clip(0, 1).astype(np.float32)


# ---- parameters of the five strengths: of CIFAR-10-C, Tiny ImageNet-C and ImageNet-C

_SMALL_SNOW = [(0.1, 0.2, 1, 0.6, 8, 3), (0.1, 0.2, 1, 0.5, 10, 4), (0.15, 0.3, 1.75, 0.55, 10, 4),
               (0.25, 0.3, 2.25, 0.6, 12, 6), (0.3, 0.3, 1.25, 0.65, 14, 12)]  # fmt: skip
_SMALL_ZOOM = tuple((most, 0.01) for most in (1.06, 1.11, 1.16, 1.21, 1.26))
_KINDS: dict[str, tuple[Callable[..., Any], Sequence[Any]]] = {
    "gaussian_noise": (_gaussian_noise, (
        (0.04, 0.06, 0.08, 0.09, 0.10), (0.04, 0.08, 0.12, 0.15, 0.18), (0.08, 0.12, 0.18, 0.26, 0.38))),
    "shot_noise": (_shot_noise, ((500, 250, 100, 75, 50), (250, 100, 50, 30, 15), (60, 25, 12, 5, 3))),
    "impulse_noise": (_impulse_noise, (
        (0.01, 0.02, 0.03, 0.05, 0.07), (0.01, 0.02, 0.05, 0.08, 0.14), (0.03, 0.06, 0.09, 0.17, 0.27))),
    "defocus_blur": (_defocus_blur, (
        ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
        ((0.5, 0.6), (1, 0.1), (1.5, 0.1), (2.5, 0.01), (3, 0.1)),
        ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)))),
    "glass_blur": (_glass_blur, (
        ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
        ((0.1, 1, 1), (0.5, 1, 1), (0.6, 1, 2), (0.7, 2, 1), (0.9, 2, 2)),
        ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)))),
    "motion_blur": (_motion_blur, (
        ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)), ((10, 1), (10, 1.5), (10, 2), (10, 2.5), (12, 3)),
        ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)))),
    "zoom_blur": (_zoom_blur, (
        _SMALL_ZOOM, _SMALL_ZOOM, ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)))),
    "snow": (_snow, (
        tuple((*row, share) for row, share in zip(_SMALL_SNOW, (0.95, 0.9, 0.9, 0.85, 0.8), strict=True)),
        tuple((*row, share) for row, share in zip(_SMALL_SNOW, (0.8, 0.8, 0.7, 0.65, 0.6), strict=True)),
        ((0.1, 0.3, 3, 0.5, 10, 4, 0.8), (0.2, 0.3, 2, 0.5, 12, 4, 0.7), (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
         (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65), (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55)))),
    "frost": (_frost, (
        ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),
        ((1, 0.3), (0.9, 0.4), (0.8, 0.45), (0.75, 0.5), (0.7, 0.55)),
        ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)))),
    "fog": (_fog, (
        ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)), ((0.4, 3), (0.7, 3), (1, 2.5), (1.5, 2), (2, 1.75)),
        ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)))),
    "brightness": (_brightness, ((0.05, 0.1, 0.15, 0.2, 0.3), *[(0.1, 0.2, 0.3, 0.4, 0.5)] * 2)),
    "contrast": (_contrast, ((0.75, 0.5, 0.4, 0.3, 0.15), *[(0.4, 0.3, 0.2, 0.1, 0.05)] * 2)),
    "elastic_transform": (_elastic_transform, (
        ((0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)),
        ((0, 0, 0.08), (0.05, 0.3, 0.06), (0.1, 0.08, 0.06), (0.1, 0.03, 0.03), (0.16, 0.03, 0.02)),
        tuple((1.25 * factor, 0.01, 0) for factor in (0.05, 0.065, 0.085, 0.1, 0.12)))),
    "pixelate": (_pixelate, (
        (0.95, 0.9, 0.85, 0.75, 0.65), (0.9, 0.8, 0.7, 0.6, 0.5), (0.6, 0.5, 0.4, 0.3, 0.25))),
    "jpeg_compression": (_jpeg_compression, ((80, 65, 58, 50, 40), (65, 58, 50, 40, 25), (25, 18, 15, 10, 7))),
}  # fmt: skip
