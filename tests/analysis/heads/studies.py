"""The command on small networks, and what it leaves behind."""

import csv
import json
from pathlib import Path

from shvit_pl.cli import main

QUICK = ["--images=6", "--ablation_images=8", "--batch_size=4", "--device=cpu"]


def heads(network, *flags):
    """`shvit-pl analyze heads` on a few images; returns the exit code."""
    return main(["analyze", "heads", str(network), *QUICK, *flags])


def rows(name="heads", folder="heads"):
    """Of `heads.csv` or `layers.csv`."""
    with (Path(folder) / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def summary(folder="heads"):
    return json.loads((Path(folder) / "summary.json").read_text())


def files(folder="heads"):
    """The names of all files in a folder, without what differs from time to time."""
    names = (path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())
    return sorted("events" if "tfevents" in name else name for name in names)
