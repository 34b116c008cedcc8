"""The table of training settings in a model card."""

from __future__ import annotations

from typing import Any

from shvit_pl.display.words import counted, joined
from shvit_pl.runs.finished_run import FinishedRun


def recipe(run: FinishedRun) -> dict[str, str]:
    """Return the settings that decide a training, by name."""
    config, summary = run.config, run.summary
    rows = {
        "images": _images(summary["dataset"]),
        "resolution": f"{config['data']['image_size']} pixels, {_resize(config['data'])}",
        "augmentation": _augmentation(config["data"]),
        "mixing": _mixing(config["model"]["mix"]),
        "label smoothing": f"{config['model']['label_smoothing']:g}",
        "initial weights": summary["init"],
        "optimizer": _optimizer(config["model"]["optim"], summary),
        "schedule": _schedule(config["model"]["optim"], summary),
        "batch": f"{summary['global_batch']} images",
        "moving average": _average(config["model"]["ema"]),
        "precision": str(summary["precision"]),
        "device": f"{summary['device']}, {_duration(summary['wall_seconds'])}",
        "seed": str(summary["seed"]),
        "versions": ", ".join(f"{name} {version}" for name, version in summary["versions"].items()),
    }
    return {name: text for name, text in rows.items() if text}


def _images(dataset: dict[str, Any]) -> str:
    parts = [" ".join(str(dataset[key]) for key in ("path", "name", "revision") if dataset[key])]
    if dataset["train_images"] is not None:
        parts.append(f"{dataset['train_images']} images to train on, {dataset['validation_images']} to validate")
    parts += [f"{dataset['train_fraction']:.0%} of the training images"] * (dataset["train_fraction"] < 1)
    return ", ".join([*parts, *(["streamed"] if dataset["streaming"] else []), dataset["validation"]])


def _resize(data: dict[str, Any]) -> str:
    if data["resize"] == "squash":
        return "squashed to a square"
    return f"the central {data['crop_pct']:.1%} in evaluation" if data["crop_pct"] < 1 else "no crop in evaluation"


def _augmentation(data: dict[str, Any]) -> str:
    names = {"crop": "random resized crop and flip", "shift": "shifts by up to an eighth", "none": ""}
    jitter, erasing = data["color_jitter"], data["erasing"]
    parts = [
        names[data["augment"]],
        data["auto_augment"] or "",
        f"color jitter {jitter:g}" if jitter else "",
        f"random erasing {erasing:g}" if erasing else "",
        f"each image {data['repeats']} times" if data["repeats"] > 1 else "",
    ]
    return joined(*parts) or "none"


def _mixing(mix: dict[str, Any]) -> str:
    return joined(
        f"Mixup {mix['mixup']:g}" if mix["mixup"] else "",
        f"CutMix {mix['cutmix']:g}" if mix["cutmix"] else "",
    )


def _optimizer(optim: dict[str, Any], summary: dict[str, Any]) -> str:
    peak, decay = summary["peak_lr"], summary["weight_decay"]
    parts = [
        optim["name"],
        f"peak learning rate {peak:.3g}" if peak else "",
        f"weight decay {decay:g}" if decay is not None else "",
        f"layer decay {optim['layer_decay']:g}" if optim["layer_decay"] else "",
        f"adaptive clipping {optim['agc']:g}" if optim["agc"] else "",
    ]
    return joined(*parts)


def _schedule(optim: dict[str, Any], summary: dict[str, Any]) -> str:
    length = f"{summary['steps_trained']} steps in {counted(summary['epochs_trained'], 'epoch')}"
    return f"{length}; warm-up (warmup_epochs {optim['warmup_epochs']:g}), then a cosine, every {optim['interval']}"


def _average(ema: dict[str, Any]) -> str:
    return f"decay {ema['decay']:g}" if ema["decay"] else ""


def _duration(seconds: float) -> str:
    for unit, name in ((3600, "hours"), (60, "minutes")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.1f} {name}"
    return f"{seconds:.0f} seconds"
