"""Images per second and core of the input pipeline, against torchvision's ImageFolder and timm's `hfds` reader.

Everything runs in one process with one thread, from encoded JPEGs to normalized float32 batches, in interleaved rounds.
"""

from __future__ import annotations

import random
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import datasets
import numpy as np
import torch
from jsonargparse import auto_cli

from benchmarks.images import HEIGHT, WIDTH, mean_kilobytes, write_images
from benchmarks.pipelines import SETTINGS, SIZE, Pipeline, Setting, image_folder, ours, timm_hfds
from benchmarks.report import environment, publish, table

_PACKAGES = ("torch", "torchvision", "timm", "pillow", "datasets", "lightning")
_THEIRS = {"ours, folder": "ImageFolder", "ours, parquet": "timm hfds"}  # on the same files
Rates = dict[str, list[float]]


def main(images: int = 512, rounds: int = 9, batch_size: int = 64, out: Path = Path("benchmarks/results")) -> None:
    """Measure all pipelines, print the table, and write it to `out`.

    Args:
        images: Number of generated JPEGs; a round reads them once.
        rounds: Rounds, in each of which every pipeline runs once, after one that does not count.
        batch_size: Images per batch.
        out: Folder of the results.
    """
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as root:
        datasets.config.HF_DATASETS_CACHE = Path(root) / "cache"  # leave the user's alone
        datasets.disable_progress_bars()
        folder, parquet = write_images(Path(root), images)
        kilobytes = mean_kilobytes(folder)
        pipelines = {name: _pipelines(folder, parquet, setting, batch_size) for name, setting in SETTINGS.items()}
        rates = _measure(pipelines, rounds)
    text = _describe(rates, images, kilobytes)
    results = {"images": images, "kilobytes": kilobytes, "rates": rates}
    publish(out / "input_pipeline", "Input pipeline", text, environment(_PACKAGES), **results)


def _pipelines(folder: Path, parquet: Path, setting: Setting, batch_size: int) -> dict[str, Pipeline]:
    return {
        "ImageFolder": image_folder(folder, setting, batch_size),
        "timm hfds": timm_hfds(parquet, setting, batch_size),
        "ours, folder": ours(folder, setting, batch_size),
        "ours, parquet": ours(parquet, setting, batch_size),
    }


def _measure(pipelines: dict[str, dict[str, Pipeline]], rounds: int) -> dict[str, Rates]:
    """Images per second of processor time in every round, by setting and pipeline."""
    rates: dict[str, Rates] = {setting: {name: [] for name in of_setting} for setting, of_setting in pipelines.items()}
    for number in range(rounds + 1):
        for setting, of_setting in pipelines.items():
            for name, pipeline in of_setting.items():
                rate = _rate(pipeline, seed=number)
                if number > 0:  # the first one warms up
                    rates[setting][name].append(rate)
    return rates


def _rate(pipeline: Pipeline, seed: int) -> float:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    start = time.process_time()
    seen = sum(len(batch) for batch in pipeline())
    return seen / (time.process_time() - start)


def _describe(rates: dict[str, Rates], images: int, kilobytes: float) -> str:
    rows = [_row(setting, name, of_setting) for setting, of_setting in rates.items() for name in of_setting]
    header = ("augmentation, pipeline", "images/s", "lowest", "highest", "ratio", "lowest", "highest")
    return "\n\n".join(
        (
            f"{images} JPEGs of {WIDTH} x {HEIGHT} pixels ({kilobytes:.0f} kB each) to {SIZE} x {SIZE}; images/s "
            "of one core's time, median and range of the rounds. The ratio is to the other pipeline on the same files "
            "(ours, folder to ImageFolder; ours, parquet to timm hfds), median and range of the rounds' ratios.",
            table(header, rows),
            *(f"{name}: {_settings(setting)}" for name, setting in SETTINGS.items()),
        )
    )


def _settings(setting: Setting) -> str:
    extra = f", {setting.auto_augment}, random erasing {setting.erasing}" if setting.auto_augment else ""
    ending = "; without what is done on the device" if setting.loader_only else ""
    return f"random resized crop (bicubic) and horizontal flip{extra}{ending}."


def _row(setting: str, name: str, rates: Rates) -> list[str]:
    cells = [f"{setting}, {name}", *_figures(rates[name], ".0f")]
    if name not in _THEIRS:
        return [*cells, "", "", ""]
    ratios = [mine / theirs for mine, theirs in zip(rates[name], rates[_THEIRS[name]], strict=True)]
    return [*cells, *_figures(ratios, ".2f")]


def _figures(values: list[float], spec: str) -> list[Any]:
    return [format(value, spec) for value in (median(values), min(values), max(values))]


if __name__ == "__main__":
    auto_cli(main)
