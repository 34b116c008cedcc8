"""What suits photographs: the settings of a design's config against the digits', and fine-tuning with few images.

Pretrained weights can't be downloaded everywhere, so that a network is trained on crops of eight photographs, and then
fine-tuned on a few crops of the seven others. Weights of ImageNet know more, so that they should bring more.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from jsonargparse import auto_cli

from benchmarks import photo_crops
from benchmarks.report import environment, publish, table
from benchmarks.runs import fit, spread

DIGITS = ["--data.augment=shift", "--data.crop_pct=1.0"]
RECIPE_EPOCHS = 30
RECIPE = "--config=recipes/finetune.yaml"
FINE_TUNED = {  # flags after the recipe
    "the recipe": [],
    "no layer decay": ["--model.optim.layer_decay=null"],
    "layer decay 0.3: nearly the classifier alone": ["--model.optim.layer_decay=0.3"],
    "BatchNorm's statistics frozen": ["--model.freeze_bn=true"],
    "a quarter of the learning rate": ["--model.optim.lr=0.002"],
    "four times the learning rate": ["--model.optim.lr=0.032"],
}
_PACKAGES = ("torch", "timm", "lightning", "scikit-image")


def main(
    seeds: int = 3, epochs: int = 20, design: str = "tiny", few: int = 20, out: Path = Path("benchmarks/results")
) -> None:
    """Train all combinations, print both tables, and write them to `out`.

    Args:
        seeds: Runs of each combination.
        epochs: Of the runs from random weights.
        design: A design with a config.
        few: Training crops of each photograph for fine-tuning.
        out: Folder of the results.
    """
    with tempfile.TemporaryDirectory() as temporary:
        root, (first, others) = Path(temporary), (photo_crops.PHOTOGRAPHS[::2], photo_crops.PHOTOGRAPHS[1::2])
        photo_crops.main(root / "all")
        photo_crops.main(root / "many", crops=120, photographs=first)
        photo_crops.main(root / "few", crops=few, validation_crops=40, photographs=others)
        own = [f"--config={design}.yaml", "--data.num_workers=0"]
        whole = [*own, f"--data.path={root}/all", *_length(epochs)]
        found = {
            "photographs' (the default)": _accuracies(seeds, whole),
            "the digits'": _accuracies(seeds, [*whole, *DIGITS]),
        }
        pretrained = fit(*own, f"--data.path={root}/many", *_length(epochs), root=root / "runs")
        tuned = [*own, RECIPE, f"--data.path={root}/few", *_length(RECIPE_EPOCHS)]
        start = f"--model.init_from={pretrained['folder']}"
        scratch = {"random weights": _accuracies(seeds, tuned)}
        fine_tuned = {name: _accuracies(seeds, [*tuned, start, *flags]) for name, flags in FINE_TUNED.items()}
    text = table(["settings of the data", "val/acc1"], [[name, spread(values)] for name, values in found.items()])
    text += f"\n\nCrops of 15 photographs, 60 to train on of each, {epochs} epochs.\n\n"
    rows = [[name, spread(values)] for name, values in {**scratch, **fine_tuned}.items()]
    text += table(["fine-tuning", "val/acc1"], rows)
    text += (
        f"\n\nCrops of 7 photographs, {few} to train on of each, from weights trained on 120 crops of each of 8 others"
    )
    text += f" ({epochs} epochs). Both: {design}.yaml, {seeds} seeds, mean +- stdev, after the last epoch."
    results = {"settings": found, **scratch, "fine_tuned": fine_tuned}
    publish(out / "fine_tune", "Fine-tuning", text, environment(_PACKAGES), accuracies=results)


def _length(epochs: int) -> list[str]:
    """Measure after the last epoch alone: the best one, chosen by the validation images, would flatter all runs."""
    return [f"--trainer.max_epochs={epochs}", f"--trainer.check_val_every_n_epoch={epochs}"]


def _accuracies(seeds: int, flags: list[str]) -> list[float]:
    seeded = [[*flags, "--trainer.enable_checkpointing=false", f"--seed_everything={seed}"] for seed in range(seeds)]
    return [float(fit(*each)["last_metrics"]["val/acc1"]) for each in seeded]


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
