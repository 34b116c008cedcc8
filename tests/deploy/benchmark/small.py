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


def benchmark(*flags, models=TINY):
    """The rows and `environment.json` of `shvit-pl benchmark` of `tiny` at 64 pixels."""
    assert main(["benchmark", *models, *QUICK, *flags]) == 0
    with Path("benchmark/benchmark.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return rows, json.loads(Path("benchmark/environment.json").read_text())
