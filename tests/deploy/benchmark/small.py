"""The command on small networks, for a moment."""

import csv
import json
from pathlib import Path

from shvit_pl.cli import main

TINY = ["tiny", "--device=cpu", "--batch-size=2", "--image-size=64"]
QUICK = ["--blocks=5", "--seconds=0.01"]


def benchmark(*flags, models=TINY, beside=()):
    """`shvit-pl benchmark` of `tiny` at 64 pixels; returns the exit code."""
    return main(["benchmark", *beside, *models, *QUICK, *flags])


def rows(folder="benchmark"):
    with (Path(folder) / "benchmark.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def environment(folder="benchmark"):
    return json.loads((Path(folder) / "environment.json").read_text())
