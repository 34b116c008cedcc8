"""Images per second and core of the decoders that could serve, from the bytes of a JPEG to RGB pixels."""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from jsonargparse import auto_cli
from PIL import Image

from benchmarks.images import HEIGHT, WIDTH, photograph
from benchmarks.report import environment, publish, table
from shvit_pl.data.decoding import decode

_OPTIONAL = ("simplejpeg", "torchcodec")  # measured where they are installed
Decoder = Callable[[bytes], Any]


def main(images: int = 128, rounds: int = 9, out: Path = Path("benchmarks/results")) -> None:
    """Measure all decoders, print the table, and write it to `out`.

    Args:
        images: Number of generated JPEGs.
        rounds: Rounds, in each of which every decoder reads all of them once.
        out: Folder of the results.
    """
    torch.set_num_threads(1)
    generator = np.random.default_rng(0)
    files = [_encoded(photograph(generator)) for _ in range(images)]
    decoders = _decoders()
    rates: dict[str, list[float]] = {name: [] for name in decoders}
    for _ in range(rounds):
        for name, decoder in decoders.items():
            rates[name].append(_rate(decoder, files))
    rows = [_row(name, decoders[name], rates, files[0]) for name in decoders]
    text = table(("decoder", "images/s", "lowest", "highest", "to PIL", "levels off PIL"), rows)
    packages = ["torch", "torchvision", "pillow", *(name for name in _OPTIONAL if find_spec(name))]
    title = f"Decoders, JPEGs of {WIDTH} x {HEIGHT} pixels"
    publish(out / "decoders", title, text, environment(packages), images=images, rates=rates)


def _encoded(image: Image.Image) -> bytes:
    file = BytesIO()
    image.save(file, "JPEG", quality=93)
    return file.getvalue()


def _decoders() -> dict[str, Decoder]:
    decoders: dict[str, Decoder] = {
        "PIL": lambda data: Image.open(BytesIO(data)).convert("RGB"),
        "PIL, draft for 224": _draft,
        "ours (torchvision)": lambda data: decode({"bytes": data, "path": None}, "").permute(1, 2, 0),
    }
    if find_spec("torchcodec"):
        by_torchcodec = import_module("torchcodec.decoders").decode_jpeg
        decoders["torchcodec"] = lambda data: by_torchcodec(data).permute(1, 2, 0)
    if find_spec("simplejpeg"):
        by_simplejpeg = import_module("simplejpeg").decode_jpeg
        decoders["simplejpeg"] = by_simplejpeg
        decoders["simplejpeg, fast"] = lambda data: by_simplejpeg(data, fastdct=True, fastupsample=True)
    return decoders


def _draft(data: bytes) -> Image.Image:
    image = Image.open(BytesIO(data))
    image.draft("RGB", (224, 224))
    return image.convert("RGB")


def _rate(decoder: Decoder, files: list[bytes]) -> float:
    start = time.process_time()
    for data in files:
        decoder(data)
    return len(files) / (time.process_time() - start)


def _row(name: str, decoder: Decoder, rates: dict[str, list[float]], data: bytes) -> list[str]:
    ratio = median(mine / pil for mine, pil in zip(rates[name], rates["PIL"], strict=True))
    pixels, expected = (np.asarray(by(data)).astype(int) for by in (decoder, _decoders()["PIL"]))
    off = str(np.abs(pixels - expected).max()) if pixels.shape == expected.shape else "other size"
    figures = (median(rates[name]), min(rates[name]), max(rates[name]))
    return [name, *(format(figure, ".0f") for figure in figures), f"{ratio:.2f}", off]


if __name__ == "__main__":
    auto_cli(main)
