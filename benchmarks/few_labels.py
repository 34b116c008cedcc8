"""What the moving average and Mixup bring or cost on the embedded digits with few labels.

Every run reports its weights and their average, so that one run measures both. The figure is that of the last epoch:
the best epoch, chosen by the validation images, would flatter all of them.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import mean, stdev

from jsonargparse import auto_cli

from benchmarks.report import environment, table, write
from shvit_pl.cli import main as shvit_pl
from shvit_pl.runs import read_summary

BATCH = 32
TRAINING_IMAGES = 1437
MIXING = {
    "none": [],
    "Mixup 0.2": ["--model.mix.mixup=0.2"],
    "Mixup 0.8, CutMix 1": ["--model.mix.mixup=0.8", "--model.mix.cutmix=1"],
}
COLUMNS = {"val/acc1": "weights", "val/acc1_ema": "their average"}
_PACKAGES = ("torch", "timm", "lightning")
Accuracies = dict[str, list[float]]


def main(
    fractions: tuple[float, ...] = (0.05, 0.2),
    seeds: int = 3,
    steps: int = 300,
    design: str = "tiny",
    image_size: int = 64,
    out: Path = Path("benchmarks/results"),
) -> None:
    """Train all combinations, print the table, and write it to `out`.

    Args:
        fractions: Shares of the 1437 training images.
        seeds: Runs of each combination.
        steps: Training steps of a run, about.
        design: A named design.
        image_size: Side of the images in pixels.
        out: Folder of the results.
    """
    flags = [f"--model.design.name={design}", f"--data.image_size={image_size}"]
    accuracies = {
        f"{fraction:.0%}": {name: _runs(fraction, [*flags, *mixing], seeds, steps) for name, mixing in MIXING.items()}
        for fraction in fractions
    }
    rows = [
        [labels, name, *(_figure(found[metric]) for metric in COLUMNS)]
        for labels, by_mixing in accuracies.items()
        for name, found in by_mixing.items()
    ]
    text = table(["labels", "mixing", *COLUMNS.values()], rows)
    text += (
        f"\n\nTop-1 in percent on the 360 validation digits after about {steps} steps, {seeds} seeds, mean +- stdev."
    )
    print(text)
    write(out / "few_labels", "Few labels", text, {"environment": environment(_PACKAGES), "accuracies": accuracies})


def _runs(fraction: float, flags: list[str], seeds: int, steps: int) -> Accuracies:
    found: Accuracies = {metric: [] for metric in COLUMNS}
    epochs = round(steps / (TRAINING_IMAGES * fraction // BATCH))
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as root:
            _fit(
                f"--data.train_fraction={fraction}",
                f"--trainer.max_epochs={epochs}",
                f"--trainer.check_val_every_n_epoch={epochs}",
                f"--seed_everything={seed}",
                f"--trainer.default_root_dir={root}",
                "--run_name=run",
                *flags,
            )
            metrics = read_summary(Path(root) / "run" / "version_0")["last_metrics"]
        for metric in COLUMNS:
            found[metric].append(metrics[metric])
    return found


def _fit(*flags: str) -> None:
    fixed = ["--config=s1.yaml", f"--data.batch_size={BATCH}", "--model.ema.decay=0.99", "--plain=true"]
    assert shvit_pl(["fit", *fixed, *flags]) == 0


def _figure(values: list[float]) -> str:
    return f"{100 * mean(values):.1f} +- {100 * stdev(values):.1f}" if len(values) > 1 else f"{100 * values[0]:.1f}"


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
