"""Whether a teacher helps S1 on the embedded digits with few labels.

Teachers are S3, trained by `fit`: on the same few labels as the student, or on all of them.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from jsonargparse import auto_cli

from benchmarks.report import environment, publish, table
from benchmarks.runs import few_digits, fit, spread

BATCH = 16
OBJECTIVES = {
    "hard": ["--model.distill.objective=hard"],
    "soft, tau 3": ["--model.distill.objective=soft", "--model.distill.tau=3"],
    "soft_batchmean, tau 3": ["--model.distill.objective=soft_batchmean", "--model.distill.tau=3"],
    "feature": ["--model.distill.objective=feature"],
}
_NONE = "labels alone"
_PACKAGES = ("torch", "timm", "lightning")
Run = dict[str, Any]


def main(
    fraction: float = 0.05,
    seeds: int = 3,
    steps: int = 200,
    image_size: int = 64,
    out: Path = Path("benchmarks/results"),
) -> None:
    """Train all combinations, print the table, and write it to `out`.

    Args:
        fraction: Share of the 1437 training images that the student trains on.
        seeds: Runs of each combination; each has teachers of its own.
        steps: Training steps of a run, about.
        image_size: Side of the images in pixels.
        out: Folder of the results.
    """
    runs = [_runs(fraction, steps, seed, f"--data.image_size={image_size}") for seed in range(seeds)]
    found = {name: [_figures(of_seed[name]) for of_seed in runs] for name in runs[0]}
    rows = [[name, spread([run["top1"] for run in of_name]), *_losses(of_name)] for name, of_name in found.items()]
    text = table(["S1 taught by, or teacher", "top-1", "its loss at first", "at last"], rows)
    text += (
        f"\n\nTop-1 on the 360 validation digits after about {steps} steps of {BATCH} images at "
        f"{image_size} pixels, students with {fraction:.0%} of the training images, {seeds} seeds, mean +- stdev; "
        "`train/loss_distill` as first and last logged, median of the seeds."
    )
    publish(out / "distill_digits", "Distillation", text, environment(_PACKAGES), runs=found)


def _runs(fraction: float, steps: int, seed: int, size: str) -> dict[str, Run]:
    """The summaries of every student and teacher of a seed."""
    student = [*few_digits(fraction, steps, BATCH, seed), size]
    found = {_NONE: fit(*student)}
    with tempfile.TemporaryDirectory() as root:
        for labels, share in (("the same images", fraction), ("all images", 1.0)):
            teacher = fit(*few_digits(share, steps, BATCH, seed), size, "--model.design.name=s3", root=Path(root))
            found[f"teacher: S3 of {labels}"] = teacher
            taught = [*student, f"--model.distill.teacher={teacher['folder']}"]
            for name, objective in OBJECTIVES.items():
                found[f"{name}, by S3 of {labels}"] = fit(*taught, *objective)
    return found


def _figures(run: Run) -> Run:
    return {"top1": run["last_metrics"]["val/acc1"], "losses": run["losses"][:1] + run["losses"][-1:]}


def _losses(runs: list[Run]) -> list[str]:
    """Medians of the first and of the last loss, where there is a teacher."""
    if not runs[0]["losses"]:
        return ["", ""]
    return [f"{median(values):.3g}" for values in zip(*(run["losses"] for run in runs), strict=True)]


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
