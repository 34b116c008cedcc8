"""Figures of a detector's run: inputs, detections beside the truth, average precision of classes, and curves."""

from collections.abc import Sequence
from typing import Any

import lightning as L
import numpy as np
from matplotlib.figure import Figure

from shvit_pl.callbacks.drawing import Picture, above, draw_objects, drawn_score, image_of, sheet
from shvit_pl.callbacks.run_curves import DETECTION, RunCurves, save_figure
from shvit_pl.callbacks.summary import RunSummary
from shvit_pl.callbacks.throughput import find_callback
from shvit_pl.files import write_rows
from shvit_pl.modules.average_precision import RECALLS, Results
from shvit_pl.plots import COLORS, short_name
from shvit_pl.runs.folder import EMA, FIGURES
from shvit_pl.runs.writing import run_folder

_IMAGES = 8
_COLUMNS = 4
_SIDE = 360  # pixels of an image in a sheet
_MOST_CLASSES = 60  # in a figure
_ABSENT = "-"


class DetectionFigures(RunCurves):
    """Figures of the first training batch and of the curves; of the best epoch's weights, detections and classes.

    The module has `class_names`, `category_ids`, and after a validation `results`: `val` and `val_ema`. Its
    `validation_step` returns `found` (and `found_ema`), an element for each row of the batch: `image`, `sizes`, `truth`
    and `counted`, which is false for padding and for an image that can't be decoded.
    """

    panels = DETECTION

    def __init__(self) -> None:
        super().__init__()
        self._shown: list[tuple[Any, Any, Any]] = []  # image, truth and found of the validation's first images

    def inputs(self, trainer: L.Trainer, pl_module: Any, batch: Any) -> Picture:
        """Draw the first images as the network saw them, with their boxes and masks."""
        data, names = trainer.datamodule, list(pl_module.class_names or [])  # type: ignore[attr-defined]
        pictures, captions = [], []
        for index, objects in enumerate(batch["objects"][:_IMAGES]):
            image = image_of(batch, index, data.mean, data.std)
            pictures.append(draw_objects(image, objects, names, side=_SIDE))
            captions.append(f"{image.shape[2]} x {image.shape[1]} pixels, objects: {len(objects['labels'])}")
        return sheet(pictures, captions, _COLUMNS)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Forget the images of the last validation."""
        self._shown = []

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, *args: Any
    ) -> None:
        """Keep the first images, and what the weights find in them that the monitored metric is of."""
        drawn = trainer.state.fn == "fit" and not trainer.sanity_checking and run_folder(trainer) is not None
        if drawn and trainer.is_global_zero and len(self._shown) < _IMAGES:
            data, found = trainer.datamodule, outputs[f"found{_ending(trainer)}"]  # type: ignore[attr-defined]
            for index, counts in enumerate(batch["counted"]):
                if counts and len(self._shown) < _IMAGES:
                    image = image_of(batch, index, data.mean, data.std)
                    self._shown.append((image, batch["truth"][index], found[index]))

    def on_validation_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Add to the curves; draw the detections, and into the folder what is of weights that are the best so far."""
        super().on_validation_end(trainer, pl_module)
        folder = run_folder(trainer)
        if not self._shown or folder is None:
            return
        summary, results = find_callback(trainer, RunSummary), pl_module.results[f"val{_ending(trainer)}"]
        improved, names = summary is None or summary.improved, list(pl_module.class_names or [])
        save_figure(trainer, "detections", self._draw_detections(results, names), file=improved)
        self._shown = []
        if improved:
            save_figure(trainer, "class_ap", draw_class_ap(results, names))
            save_figure(trainer, "precision_recall", draw_precision_recall(results))
            write_rows(folder / FIGURES / "class_ap.csv", class_rows(results, names, pl_module.category_ids))

    def _draw_detections(self, results: Results, names: Sequence[str]) -> Picture:
        score = drawn_score(results.score)
        pictures = [
            draw_objects(image, objects, names, truth["size"], _SIDE)
            for image, truth, found in self._shown
            for objects in (truth, above(found, score))
        ]
        return sheet(pictures, ["true", f"found, score {score:.2f} or above"] * len(self._shown), _COLUMNS)


def _ending(trainer: L.Trainer) -> str:
    """Return how the names end of what the weights reach that the monitored metric is of."""
    summary = find_callback(trainer, RunSummary)
    return EMA if summary is not None and summary.monitor.endswith(EMA) else ""


def class_rows(results: Results, names: Sequence[str], category_ids: Sequence[int]) -> list[dict[str, Any]]:
    """Return a row of each class: its id, objects and average precision, `-` where it has no objects."""
    kinds = {"ap": results.class_ap, **({"mask_ap": results.mask_class_ap} if results.mask_class_ap else {})}
    return [
        {
            "class": name,
            "category_id": category_ids[index],
            "objects": results.objects[index],
            **{kind: _ABSENT if values[index] is None else f"{values[index]:.4f}" for kind, values in kinds.items()},
        }
        for index, name in enumerate(names)
    ]


def draw_class_ap(results: Results, names: Sequence[str]) -> Figure:
    """Draw a bar of average precision per class (and kind), the highest first, and the classes without objects last."""
    order = sorted(range(len(names)), key=lambda index: -1 if (ap := results.class_ap[index]) is None else ap)[::-1]
    present = [index for index in order if results.class_ap[index] is not None]
    chosen = order if len(order) <= _MOST_CLASSES else present[-_MOST_CLASSES:]
    kinds = {"boxes": results.class_ap, **({"masks": results.mask_class_ap} if results.mask_class_ap else {})}
    figure = Figure(figsize=(7, 1.2 + 0.22 * len(kinds) * len(chosen)), layout="constrained")
    axes, height = figure.subplots(), 0.8 / len(kinds)
    for number, (kind, values) in enumerate(kinds.items()):
        places = np.arange(len(chosen)) + (number - (len(kinds) - 1) / 2) * height
        shown = [values[index] for index in chosen]
        axes.barh(places, [ap or 0.0 for ap in shown], height, color=COLORS[number], label=kind)
        for place, ap in zip(places, shown, strict=True):
            axes.text((ap or 0.0) + 0.01, place, _ABSENT if ap is None else f"{ap:.2f}", va="center", fontsize=7)
    axes.set_yticks(range(len(chosen)), [short_name(names[index]) for index in chosen])
    axes.set(xlabel="average precision (IoU 0.5 to 0.95)", xlim=(0, 1.08), ylim=(len(chosen) - 0.5, -0.5))
    if len(chosen) < len(names):
        axes.set_title(f"the {len(chosen)} lowest of {len(present)} classes with objects", fontsize=9)
    if len(kinds) > 1:
        axes.legend(frameon=False, loc="lower right")
    return figure


def draw_precision_recall(results: Results) -> Figure:
    """Draw precision over recall at IoU 0.5, the mean over the classes."""
    figure = Figure(figsize=(5, 4), layout="constrained")
    axes = figure.subplots()
    curves: dict[str, tuple[list[float], str]] = {
        "boxes": (results.precision, "map_50"),
        "masks": (results.mask_precision, "mask_map_50"),
    }
    for color, (kind, (precision, name)) in zip(COLORS, curves.items(), strict=False):
        if precision:
            axes.plot(RECALLS, precision, color=color, label=f"{kind}, area {results.metrics[name]:.3f} ({name})")
    axes.set(xlabel="recall", ylabel="precision, mean over classes", xlim=(0, 1.01), ylim=(0, 1.03))
    axes.set_title("at IoU 0.5", fontsize=9)
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend(frameon=False)
    return figure
