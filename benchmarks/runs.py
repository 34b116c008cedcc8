"""Running `shvit-pl fit` in a folder that is thrown away, and what came out of it."""

from __future__ import annotations

import csv
import tempfile
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from shvit_pl.cli import main as shvit_pl
from shvit_pl.runs.folder import METRICS, read_summary

TRAINING_DIGITS = 1437


def fit(*flags: str, root: Path | None = None) -> dict[str, Any]:
    """Run `fit`, in `root` or a temporary folder.

    Returns:
        The run's summary, its `folder`, and the logged values of `train/loss_distill` under `losses`.
    """
    if root is None:
        with tempfile.TemporaryDirectory() as temporary:
            return fit(*flags, root=Path(temporary))
    assert shvit_pl(["fit", f"--trainer.default_root_dir={root}", "--run_name=run", "--plain=true", *flags]) == 0
    folder = max((root / "run").glob("version_*"), key=lambda path: int(path.name.removeprefix("version_")))
    rows = csv.DictReader((folder / METRICS).read_text().splitlines())
    losses = [float(row["train/loss_distill"]) for row in rows if row.get("train/loss_distill")]
    return {**read_summary(folder), "folder": str(folder), "losses": losses}


def few_digits(fraction: float, steps: int, batch: int, seed: int) -> list[str]:
    """Flags of a run of about so many steps on a share of the digits, measured after the last epoch alone.

    The best epoch, chosen by the validation images, would flatter all runs.
    """
    epochs = round(steps / (TRAINING_DIGITS * fraction // batch))
    return [
        "--config=s1.yaml",
        f"--data.train_fraction={fraction}",
        f"--data.batch_size={batch}",
        f"--trainer.max_epochs={epochs}",
        f"--trainer.check_val_every_n_epoch={epochs}",
        f"--seed_everything={seed}",
    ]


def spread(values: list[float]) -> str:
    """Mean and standard deviation of accuracies."""
    return f"{mean(values):.3f} +- {stdev(values):.3f}" if len(values) > 1 else f"{values[0]:.3f}"
