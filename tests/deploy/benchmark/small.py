"""The command on small networks, for a moment."""

import csv
import json
from pathlib import Path

from shvit_pl.cli import main
from shvit_pl.command_line.parser import read_options
from shvit_pl.deploy.options import BenchmarkOptions

TINY = ["tiny", "--device=cpu", "--batch-size=2", "--image-size=64"]
QUICK = ["--blocks=5", "--seconds=0.002"]


def options(*args):
    return read_options(BenchmarkOptions, args, command="benchmark", description="", positional=["models"])


def benchmark(*flags, models=TINY, beside=()):
    """`shvit-pl benchmark` of `tiny` at 64 pixels; returns the exit code."""
    return main(["benchmark", *beside, *models, *QUICK, *flags])


def rows(folder="benchmark"):
    with (Path(folder) / "benchmark.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def environment(folder="benchmark"):
    return json.loads((Path(folder) / "environment.json").read_text())
