"""Figures of a run, in its folder (`figures/*.png`) and in TensorBoard: inputs, curves, confusion matrix."""

from textwrap import fill
from typing import Any

import lightning as L
import torch
from matplotlib.figure import Figure
from torchvision.utils import make_grid

from shvit_pl.callbacks.run_curves import RunCurves, save_figure
from shvit_pl.callbacks.summary import RunSummary
from shvit_pl.callbacks.throughput import find_callback
from shvit_pl.data import transforms
from shvit_pl.display import in_markdown
from shvit_pl.files import write_rows
from shvit_pl.plots import short_name
from shvit_pl.runs.folder import EMA, FIGURES
from shvit_pl.runs.writing import run_folder

_MOST_INPUTS = 32
_MOST_LABELS = 30  # with more classes, axis labels and numbers would not be readable


class RunFigures(RunCurves):
    """Figures of the first training batch, the run's curves, and of the best epoch's weights, as they are monitored.

    Those are the confusion matrix, the reliability diagram, and the table `figures/by_class.csv`.
    """

    def inputs(self, trainer: L.Trainer, pl_module: Any, batch: Any) -> Figure:
        """Draw the inputs of the first batch as the network saw them."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        images = transforms.denormalize(batch["image"], data.mean, data.std)
        return draw_inputs(images, batch["label"], list(pl_module.class_names or []))

    def on_validation_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Add to the curves; draw weights that are the best so far."""
        super().on_validation_end(trainer, pl_module)
        summary, folder = find_callback(trainer, RunSummary), run_folder(trainer)
        if summary is None or not summary.improved:
            return
        metrics = pl_module.by_class[EMA if summary.monitor.endswith(EMA) else "raw"]
        names = list(pl_module.class_names or [])
        if metrics.confusion is not None:
            save_figure(trainer, "confusion_matrix", draw_confusion(metrics.confusion.compute().cpu(), names))
        save_figure(trainer, "reliability", draw_reliability(metrics.reliability(), metrics.values()["ece"]))
        rows = metrics.table(names)
        if folder is not None and trainer.is_global_zero:
            write_rows(folder / FIGURES / "by_class.csv", rows)
            for logger in trainer.loggers:
                if isinstance(logger, L.pytorch.loggers.TensorBoardLogger):
                    logger.experiment.add_text("by_class", _as_markdown(rows), trainer.global_step)


def draw_inputs(images: torch.Tensor, labels: torch.Tensor, class_names: list[str]) -> Figure:
    """Draw a grid of images `(B, 3, S, S)` in [0, 1], with the first ones' classes in the title."""
    images = images[:_MOST_INPUTS].detach().float().cpu()
    grid = make_grid(images, nrow=8)
    rows = -(-len(images) // 8)
    figure = Figure(figsize=(8, rows + 0.6), layout="constrained")
    axes = figure.subplots()
    axes.imshow(grid.permute(1, 2, 0).numpy())
    axes.set_axis_off()
    shown = ", ".join(short_name(class_names[label]) for label in labels[:8].tolist())
    axes.set_title(fill(f"training inputs after augmentation; first row: {shown}", 110), fontsize=9)
    return figure


def draw_reliability(bins: dict[str, torch.Tensor], error: float) -> Figure:
    """Draw a reliability diagram: accuracy over confidence by bins (Guo et al. 2017), and the share of the images."""
    figure = Figure(figsize=(5, 5), layout="constrained")
    axes, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    filled = bins["images"] > 0
    width = 1 / len(filled)
    middles = (torch.arange(len(filled)) + 0.5) * width
    axes.bar(middles[filled], bins["accuracy"][filled], width, edgecolor="white", label="accuracy")
    axes.plot(bins["confidence"][filled], bins["confidence"][filled], "k.--", linewidth=1, label="as confident")
    axes.set(ylabel="accuracy", ylim=(0, 1), xlim=(0, 1), title=f"expected calibration error {error:.4f}")
    axes.legend(frameon=False, loc="upper left")
    below.bar(middles, bins["images"] / bins["images"].sum().clamp(min=1), width, edgecolor="white", color="gray")
    below.set(xlabel="confidence (probability of the predicted class)", ylabel="share of images")
    for each in (axes, below):
        each.grid(alpha=0.3)
    return figure


def _as_markdown(rows: list[dict[str, Any]]) -> str:
    """Return rows as a table of Markdown, which TensorBoard shows."""
    lines = [[in_markdown(cell) for cell in row] for row in (list(rows[0]), *(list(row.values()) for row in rows))]
    lines = [["-" if cell == "None" else cell for cell in line] for line in lines]
    return "\n".join(" | ".join(line) for line in (lines[0], ["---"] * len(lines[0]), *lines[1:]))


def draw_confusion(matrix: torch.Tensor, class_names: list[str]) -> Figure:
    """Draw the confusion matrix `(classes, classes)`, true classes down, colored by the share of each."""
    shares = matrix / matrix.sum(dim=1, keepdim=True).clamp(min=1)
    figure = Figure(figsize=(5.5, 5), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares.numpy(), cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, label="share of the true class", shrink=0.8)
    axes.set(xlabel="predicted", ylabel="true")
    if len(class_names) <= _MOST_LABELS:
        names = [short_name(name) for name in class_names]
        axes.set_xticks(range(len(names)), names, rotation=90 if max(map(len, names)) > 2 else 0)
        axes.set_yticks(range(len(names)), names)
        for true, predicted in torch.nonzero(matrix).tolist():
            color = "white" if shares[true, predicted] > 0.5 else "black"
            axes.text(
                predicted, true, str(int(matrix[true, predicted])), ha="center", va="center", color=color, fontsize=7
            )
    return figure
