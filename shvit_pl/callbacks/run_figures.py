"""Figures of a run, in its folder (`figures/*.png`) and in TensorBoard: inputs, curves, confusion matrix."""

from textwrap import fill
from typing import Any

import lightning as L
import torch
from matplotlib.figure import Figure
from torchmetrics.classification import MulticlassConfusionMatrix
from torchvision.utils import make_grid

from shvit_pl.callbacks.run_curves import RunCurves, save_figure
from shvit_pl.callbacks.summary import RunSummary
from shvit_pl.callbacks.throughput import find_callback
from shvit_pl.data import decoding, transforms
from shvit_pl.modules.batches import named_batch
from shvit_pl.plots import short_name
from shvit_pl.runs.folder import EMA

_MOST_INPUTS = 32
_MOST_LABELS = 30  # with more classes, axis labels and numbers would not be readable


class RunFigures(RunCurves):
    """Figures of the first training batch, the run's curves and the confusion matrix of the best epoch's weights."""

    def __init__(self) -> None:
        super().__init__()
        self._confusion: MulticlassConfusionMatrix | None = None

    def inputs(self, trainer: L.Trainer, pl_module: Any, batch: Any) -> Figure:
        """Draw the inputs of the first batch as the network saw them."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        images = transforms.denormalize(batch["image"], data.mean, data.std)
        return draw_inputs(images, batch["label"], list(pl_module.class_names or []))

    def on_validation_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Begin a confusion matrix."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            matrix = MulticlassConfusionMatrix(
                len(pl_module.class_names or []), ignore_index=decoding.IGNORED, validate_args=False
            )
            self._confusion = matrix.to(pl_module.device)

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, *args: Any
    ) -> None:
        """Count the batch, as the weights classify it that the monitored metric is of."""
        summary = find_callback(trainer, RunSummary)
        if self._confusion is not None and summary is not None and isinstance(outputs, dict):
            averaged = summary.monitor.endswith(EMA)
            self._confusion.update(outputs[f"logits{EMA if averaged else ''}"], named_batch(batch)["label"])

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Add to the curves; draw the confusion matrix of weights that are the best so far."""
        super().on_validation_end(trainer, pl_module)
        summary, matrix = find_callback(trainer, RunSummary), self._confusion
        self._confusion = None
        if summary is not None and summary.improved and matrix is not None and matrix.update_called:
            counts, names = matrix.compute().cpu(), getattr(pl_module, "class_names", None)
            save_figure(trainer, "confusion_matrix", draw_confusion(counts, list(names or [])))


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
