"""What the moving average and Mixup bring or cost on the embedded digits with few labels.

Every run reports its weights and their average, so that one run measures both.
"""

from __future__ import annotations

from pathlib import Path

from jsonargparse import auto_cli

from benchmarks.report import environment, publish, table
from benchmarks.runs import few_digits, fit, spread

BATCH = 32
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
        [labels, name, *(spread(found[metric]) for metric in COLUMNS)]
        for labels, by_mixing in accuracies.items()
        for name, found in by_mixing.items()
    ]
    text = table(["labels", "mixing", *COLUMNS.values()], rows)
    text += f"\n\nTop-1 on the 360 validation digits after about {steps} steps, {seeds} seeds, mean +- stdev."
    publish(out / "few_labels", "Few labels", text, environment(_PACKAGES), accuracies=accuracies)


def _runs(fraction: float, flags: list[str], seeds: int, steps: int) -> Accuracies:
    fixed = ["--model.ema.decay=0.99", *flags]
    measured = [fit(*few_digits(fraction, steps, BATCH, seed), *fixed)["last_metrics"] for seed in range(seeds)]
    return {metric: [metrics[metric] for metrics in measured] for metric in COLUMNS}


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
