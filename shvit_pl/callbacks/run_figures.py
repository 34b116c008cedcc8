"""Figures of a run, in its folder (`figures/*.png`) and in TensorBoard: inputs, curves, confusion matrix."""

from math import inf
from textwrap import fill
from typing import Any

import lightning as L
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torchmetrics.classification import MulticlassConfusionMatrix
from torchvision.utils import make_grid

from shvit_pl.callbacks.summary import RunSummary, epochs_done
from shvit_pl.callbacks.throughput import find_callback
from shvit_pl.data import decoding, transforms
from shvit_pl.modules.batches import named_batch
from shvit_pl.plots import LEAST_ACCURACY, LEAST_LOSS, encode_png, legend_label, pixels, short_name, widen
from shvit_pl.runs.folder import EMA, FIGURES
from shvit_pl.runs.writing import run_folder

_DPI = 120
_MOST_INPUTS = 32
_MOST_LABELS = 30  # with more classes, axis labels and numbers would not be readable


class RunFigures(L.Callback):
    """Figures of the first training batch, the run's curves and the confusion matrix of the best epoch's weights."""

    def __init__(self) -> None:
        self.curves: dict[str, list[tuple[float, float]]] = {}
        self._confusion: MulticlassConfusionMatrix | None = None
        self._drawn_inputs = False

    def state_dict(self) -> dict[str, Any]:
        """Return the state for checkpoints: a resumed run draws whole curves."""
        return {"curves": self.curves}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the curves of the interrupted run."""
        self.curves = state_dict["curves"]

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Draw the inputs of the first batch as the network saw them: augmented, erased and mixed."""
        if not self._drawn_inputs:
            self._drawn_inputs = True
            folder = run_folder(trainer)
            if folder is not None and (folder / FIGURES / "inputs.png").exists():  # drawn by the interrupted run
                return
            data = trainer.datamodule  # type: ignore[attr-defined]
            images = transforms.denormalize(batch["image"], data.mean, data.std)
            _save(trainer, "inputs", draw_inputs(images, batch["label"], list(pl_module.class_names or [])))

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
        """Add a point to every curve; draw the confusion matrix of weights that are the best so far."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            metrics = {name: value for name, value in trainer.callback_metrics.items() if name != "train/loss"}
            for name, value in metrics.items():
                curve = name.replace("train/loss_epoch", "train/loss")
                self.curves.setdefault(curve, []).append((epochs_done(trainer), value.item()))
        summary, matrix = find_callback(trainer, RunSummary), self._confusion
        self._confusion = None
        if summary is not None and summary.improved and matrix is not None and matrix.update_called:
            counts, names = matrix.compute().cpu(), getattr(pl_module, "class_names", None)
            _save(trainer, "confusion_matrix", draw_confusion(counts, list(names or [])))

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw the curves."""
        if self.curves:
            _save(trainer, "curves", draw_curves(self.curves))


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


def draw_curves(curves: dict[str, list[tuple[float, float]]]) -> Figure:
    """Draw loss and accuracy over the epochs."""
    figure = Figure(figsize=(8, 3), layout="constrained")
    left, right = figure.subplots(1, 2)
    least = {"loss": (LEAST_LOSS, 0.0, inf), "acc1": (LEAST_ACCURACY, 0.0, 1.0)}
    for axes, ending, unit in ((left, "loss", "cross-entropy"), (right, "acc1", "top-1 accuracy (fraction)")):
        for name in sorted(curve for curve in curves if curve.removesuffix(EMA).endswith(ending)):
            epochs, values = zip(*curves[name], strict=True)
            axes.plot(epochs, values, marker="o", markersize=3, label=legend_label(name))
        axes.set(xlabel="epoch", ylabel=unit)
        widen(axes, "y", *least[ending])
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
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


def _save(trainer: L.Trainer, name: str, figure: Figure) -> None:
    folder = run_folder(trainer)
    if folder is None or not trainer.is_global_zero:
        return
    (folder / FIGURES).mkdir(parents=True, exist_ok=True)
    image = pixels(figure, _DPI)
    (folder / FIGURES / f"{name}.png").write_bytes(encode_png(image, _DPI))
    for logger in trainer.loggers:
        if isinstance(logger, L.pytorch.loggers.TensorBoardLogger):
            logger.experiment.add_image(name, image[..., :3], trainer.global_step, dataformats="HWC")
