"""Made-up sweeps with known effects."""

from dataclasses import asdict, replace
from itertools import product

import numpy as np

from shvit_pl.designs.config import resolve_design
from shvit_pl.sweep.engine.reading import Cell, Results, Run

LEVELS = {
    "model.design.patch_size": (4, 16),
    "model.design.stages": (3, 4),
    "model.design.stage1": ("conv", "attention"),
}
EFFECTS = {"patch_size": -0.012, "stages": 0.001, "stage1": 0.002}  # of the second level, as fractions
_SEEDS = (0, 1, 2)
_VERSIONS = {"python": "3.12.3", "shvit-pl": "0.1.0", "torch": "2.9.1", "lightning": "2.6.6", "timm": "1.0.31"}


def cube(effects=EFFECTS, noise=0.002, seeds=_SEEDS, draw=0, interaction=0.0):
    """A full 2 x 2 x 2 cube: accuracy is the sum of the effects, an offset of the seed and noise of its own.

    `interaction` is added where patch_size and stages both are at their second level.
    """
    rng = np.random.default_rng(draw)
    offsets = {seed: rng.normal(0, 0.004) for seed in seeds}
    cells = []
    for values in product(*LEVELS.values()):
        choices = dict(zip(LEVELS, values, strict=True))
        second = {flag.split(".")[-1]: value == LEVELS[flag][1] for flag, value in choices.items()}
        mean = 0.94 + sum(effects.get(name, 0.0) for name, is_second in second.items() if is_second)
        mean += interaction * (second["patch_size"] and second["stages"])
        runs = [done(choices, seed, mean + offsets[seed] + rng.normal(0, noise), rng) for seed in seeds]
        name = ", ".join(f"{short} {value}" for short, value in zip(second, values, strict=True))
        cells.append(Cell(name, choices, tuple(runs)))
    return Results("macro cube on digits", "grid", {"val/acc1": "max"}, tuple(cells))


def done(choices, seed, accuracy, rng=None):
    """A run that ended well with this accuracy."""
    rng = rng or np.random.default_rng(seed)
    flags = " ".join(f"--{flag} {value}" for flag, value in choices.items())
    command = f"shvit-pl fit --config s1.yaml {flags} --seed_everything {seed}"
    noise = [*rng.normal(0, 0.004, size=9), 0.0]
    curve = [(epoch, accuracy - 0.6 * 0.4**epoch + off) for epoch, off in enumerate(noise, start=1)]
    folder = f"runs/{'-'.join(str(value) for value in choices.values())}-s{seed}"
    return Run(seed, "done", summary(choices, seed, accuracy, rng), {"val/acc1": curve}, folder, command)


def summary(choices, seed, accuracy, rng):
    """A summary as `fit` writes it, with costs that follow the choices."""
    patch, attention = choices.get("model.design.patch_size", 16), choices.get("model.design.stage1") == "attention"
    stages = choices.get("model.design.stages", 3)
    design = resolve_design("s1", patch_size=patch, stages=stages, stage1="attention" if attention else "conv")
    return {
        "design": {"name": "s1", **asdict(design)},
        "params": int({4: 0.5e6, 16: 6.01e6}.get(patch, 1e6) * (1.01 if attention else 1) * (1 + 0.2 * (stages - 3))),
        "macs": int(74.8e6 * (1 + 0.6 * attention * (patch == 4))),
        "dataset": {
            "path": "digits", "name": None, "revision": None, "train_fraction": 1.0, "image_size": 128,
            "train_images": 1437, "validation_images": 360, "validation": "20% of 'train' held out (seed 0)",
        },
        "epochs": 10, "steps": 220, "global_batch": 64, "precision": "32-true", "device": "1 x cpu (2 threads)",
        "seed": seed, "teacher": None, "classes": [str(digit) for digit in range(10)],
        "metrics": {"val/acc1": accuracy, "val/loss": 2.5 * (1 - accuracy), "val/acc1_ema": accuracy + 0.001},
        "monitor": "val/acc1", "best_epoch": 8, "epochs_trained": 10, "wall_seconds": 151.2 + 3 * seed,
        "images_per_second": round(61 * (patch / 4) ** 0.5 * (0.8 if attention else 1) * rng.uniform(0.95, 1.05), 1),
        "peak_memory_mb": 812.0 / (patch / 4) ** 0.5 + 5 * seed, "peak_memory_of": "the process",
        "versions": _VERSIONS,
    }  # fmt: skip


def sweep(accuracies, kind="grid"):
    """Cells of one or two choices from `{(level, ...): {seed: accuracy in points}}`."""
    cells = []
    for levels, seeds in accuracies.items():
        choices = {f"model.{name}": level for name, level in zip("xy", levels, strict=False)}
        runs = tuple(done(choices, seed, points / 100) for seed, points in seeds.items())
        cells.append(Cell(", ".join(levels), choices, runs))
    return Results("made up", kind, {"val/acc1": "max"}, tuple(cells))


def with_speed(results, compiled=True):
    """The same with inference measured: patch size 16 is about three times as fast."""
    cells = {}
    for number, cell in enumerate(results.cells):
        rate = 400 * (cell.choices.get("model.design.patch_size", 16) / 4) ** 0.8 * (1 + 0.04 * (number % 4))
        fast = 1.6 * rate if compiled else None
        cells[cell.name] = {
            "eager": rate, "eager_iqr": [0.97 * rate, 1.02 * rate],
            "compiled": fast, "compiled_iqr": [0.98 * fast, 1.01 * fast] if fast else None,
            "compiled_why": None if fast else "no C++ compiler",
        }  # fmt: skip
    conditions = {
        "device": "NVIDIA H100 80GB HBM3", "batch": 256, "dtype": "float16", "image_size": 128, "threads": None,
        "layout": "channels_last", "fused": True, "rounds": 7, "torch": "2.9.1",
    }  # fmt: skip
    return replace(results, speed={"conditions": conditions, "cells": cells})


def with_runs(results, change):
    """The sweep with every run changed by a function."""
    cells = (replace(cell, runs=tuple(map(change, cell.runs))) for cell in results.cells)
    return replace(results, cells=tuple(cells))


def with_summaries(results, **values):
    """The sweep with these values in every summary."""
    return with_runs(results, lambda run: replace(run, summary={**run.summary, **values}))


def validated_once(results):
    """The same with the last validation alone, as after a single epoch."""
    return with_runs(results, lambda run: replace(run, curves={"val/acc1": [(1.0, run.curves["val/acc1"][-1][1])]}))


def at(run, state):
    """The run as it is in another state."""
    if state == "done":
        return run
    error = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB" if state == "failed" else None
    curves = {key: curve[:4] for key, curve in run.curves.items()} if state == "running" else {}
    folder = None if state == "waiting" else run.folder
    return replace(run, state=state, summary=None, curves=curves, folder=folder, error=error)


def unfinished():
    """A cube of which 12 runs are done, one failed, two run and the rest waits."""
    states = iter(["done"] * 4 + ["failed"] + ["done"] * 8 + ["running"] * 2 + ["waiting"] * 9)
    return with_runs(cube(), lambda run: at(run, next(states)))


def nothing_done():
    """A cube of which all runs wait."""
    return with_runs(cube(), lambda run: at(run, "waiting"))


def search(trials=20, objectives=None):
    """Trials at random, where the learning rate matters."""
    rng = np.random.default_rng(3)
    cells = []
    for number in range(trials):
        choices = {
            "model.optim.lr": float(10 ** rng.uniform(-4, -1)),
            "model.optim.weight_decay": float(10 ** rng.uniform(-3, -1)),
            "model.design.patch_size": int(rng.choice([4, 16])),
        }
        accuracy = 0.95 - 0.02 * (np.log10(choices["model.optim.lr"]) + 2.5) ** 2 + rng.normal(0, 0.003)
        run = done(choices, 0, accuracy, rng)
        cells.append(Cell(f"trial {number}", choices, (replace(run, state="pruned") if number % 5 == 4 else run,)))
    return Results("learning rate", "search", objectives or {"val/acc1": "max"}, tuple(cells))


def listed():
    """A recipe and what is changed in it: no product."""
    recipes = {"base": {}, "Mixup": {"model.mix.mixup": 0.8}, "averaged": {"model.ema.decay": 0.99}}
    gains = {"base": 0.0, "Mixup": -0.015, "averaged": 0.0005}
    rng, cells = np.random.default_rng(0), []
    for name, choices in recipes.items():
        runs = [done(choices, seed, 0.95 + gains[name] + rng.normal(0, 0.001), rng) for seed in _SEEDS]
        cells.append(Cell(name, choices, tuple(runs)))
    return Results("recipes", "list", {"val/acc1": "max"}, tuple(cells))
