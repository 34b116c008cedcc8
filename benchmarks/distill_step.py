"""Images per second of a training step of S1: without a teacher, with its logits from a cache, and with it online.

The teacher is a RegNetY-160 with random weights. Everything is `shvit-pl fit` on generated JPEGs with the paper's
augmentation, in interleaved rounds; loading is in, the first step is not.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median

import timm
from jsonargparse import auto_cli
from safetensors.torch import save_file

from benchmarks.images import write_images
from benchmarks.report import environment, publish, table
from benchmarks.runs import fit
from shvit_pl.cli import main as shvit_pl

TEACHER = "regnety_160"
_PACKAGES = ("torch", "torchvision", "timm", "datasets", "lightning")
_RECIPE = [
    "--config=s1.yaml",
    "--config=recipes/imagenet_300e.yaml",
    "--data.repeats=1",
    "--trainer.limit_val_batches=0",
]
Rates = dict[str, list[float]]


def main(
    images: int = 128, batch_size: int = 16, steps: int = 8, rounds: int = 5, out: Path = Path("benchmarks/results")
) -> None:
    """Measure the three ways, print the table, and write it to `out`.

    Args:
        images: Number of generated JPEGs.
        batch_size: Images per step.
        steps: Steps of a run.
        rounds: Rounds, in each of which every way runs once.
        out: Folder of the results.
    """
    with tempfile.TemporaryDirectory() as root:
        folder, _ = write_images(Path(root), images)
        flags = [*_RECIPE, f"--data.path={folder}", f"--data.batch_size={batch_size}"]
        taught = [*flags, *_teacher(Path(root))]
        cached = [*taught, f"--model.distill.cache={root}/cache", "--model.distill.views=1"]
        assert shvit_pl(["cache-teacher", *cached]) == 0
        ways = {"no teacher": flags, "cached teacher": cached, f"online {TEACHER}": taught}
        rates = _measure({name: [*way, f"--trainer.max_steps={steps}"] for name, way in ways.items()}, rounds)
    title = "A training step with a teacher"
    publish(out / "distill_step", title, _describe(rates, batch_size), environment(_PACKAGES), rates=rates)


def _teacher(root: Path) -> list[str]:
    """Flags of a teacher with random weights for the two classes of the images."""
    save_file(timm.create_model(TEACHER, num_classes=2).state_dict(), root / "teacher.safetensors")
    weights = f"--model.distill.weights={root}/teacher.safetensors"
    return [f"--model.distill.teacher={TEACHER}", weights, "--model.distill.check=false"]


def _measure(ways: dict[str, list[str]], rounds: int) -> Rates:
    rates: Rates = {name: [] for name in ways}
    for _ in range(rounds):
        for name, flags in ways.items():
            rates[name].append(fit(*flags)["images_per_second"])
    return rates


def _describe(rates: Rates, batch_size: int) -> str:
    reference, cached, online = rates.values()
    rows = [
        [name, f"{median(found):.1f}", f"{median(map(_ratio, found, reference)):.2f}"] for name, found in rates.items()
    ]
    text = table(["teacher", "images/s", "of no teacher"], rows)
    return text + (
        f"\n\nS1 at 224 pixels, batches of {batch_size}; medians of {len(reference)} interleaved rounds, the ratios "
        f"round by round. Cached against online: {median(map(_ratio, cached, online)):.1f} times."
    )


def _ratio(rate: float, reference: float) -> float:
    return rate / reference


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
