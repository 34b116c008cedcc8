"""What the figures of every run share: the first batch, curves, and where figures go."""

from collections.abc import Sequence
from math import inf
from typing import Any

import lightning as L
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from shvit_pl.callbacks.summary import epochs_done
from shvit_pl.plots import LEAST_ACCURACY, LEAST_LOSS, encode_png, legend_label, pixels, widen
from shvit_pl.runs.folder import EMA, FIGURES
from shvit_pl.runs.writing import run_folder

_DPI = 120

Curves = dict[str, list[tuple[float, float]]]
Panel = tuple[str, str, tuple[float, float, float]]
"""How the names of its curves end, its axis, and the least range of that and its bounds."""
_LOSS, _SHARE = (LEAST_LOSS, 0.0, inf), (LEAST_ACCURACY, 0.0, 1.0)
CLASSIFICATION: tuple[Panel, ...] = (
    ("loss", "cross-entropy", _LOSS),
    ("acc1", "top-1 accuracy (fraction)", _SHARE),
)
MANY_LABELS: tuple[Panel, ...] = (
    ("loss", "binary cross-entropy", _LOSS),
    ("map", "mean average precision", _SHARE),
)
DETECTION: tuple[Panel, ...] = (("loss", "loss", _LOSS), ("map", "average precision", _SHARE))


class RunCurves(L.Callback):
    """A picture of the first training batch, and the run's curves."""

    panels: tuple[Panel, ...] = CLASSIFICATION

    def __init__(self) -> None:
        self.curves: Curves = {}
        self._drawn_inputs = False

    def state_dict(self) -> dict[str, Any]:
        """Return the state for checkpoints: a resumed run draws whole curves."""
        return {"curves": self.curves}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the curves of the interrupted run."""
        self.curves = state_dict["curves"]

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Draw the inputs of the first batch as the network saw them: augmented, erased and mixed."""
        if not self._drawn_inputs:
            self._drawn_inputs = True
            folder = run_folder(trainer)
            if folder is not None and (folder / FIGURES / "inputs.png").exists():  # drawn by the interrupted run
                return
            save_figure(trainer, "inputs", self.inputs(trainer, pl_module, batch))

    def inputs(self, trainer: L.Trainer, pl_module: Any, batch: Any) -> Figure | NDArray[np.uint8]:
        """Draw the first training batch."""
        raise NotImplementedError

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Add a point to every curve."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            metrics = {name: value for name, value in trainer.callback_metrics.items() if name != "train/loss"}
            for name, value in metrics.items():
                curve = name.replace("train/loss_epoch", "train/loss")
                self.curves.setdefault(curve, []).append((epochs_done(trainer), value.item()))

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw the curves."""
        if self.curves:
            save_figure(trainer, "curves", draw_curves(self.curves, self.panels))


def draw_curves(curves: Curves, panels: Sequence[Panel] = CLASSIFICATION) -> Figure:
    """Draw a panel for each ending of the curves' names, over the epochs."""
    figure = Figure(figsize=(8, 3), layout="constrained")
    for axes, (ending, unit, least) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        for name in sorted(curve for curve in curves if curve.removesuffix(EMA).endswith(ending)):
            epochs, values = zip(*curves[name], strict=True)
            axes.plot(epochs, values, marker="o", markersize=3, label=legend_label(name))
        axes.set(xlabel="epoch", ylabel=unit)
        widen(axes, "y", *least)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(frameon=False)
    return figure


def save_figure(trainer: L.Trainer, name: str, figure: Figure | NDArray[np.uint8], file: bool = True) -> None:
    """Write a figure, or pixels `(height, width, 3)`, into the run's folder (unless not `file`) and TensorBoard."""
    folder = run_folder(trainer)
    if folder is None or not trainer.is_global_zero:
        return
    image = pixels(figure, _DPI) if isinstance(figure, Figure) else figure
    if file:
        (folder / FIGURES).mkdir(parents=True, exist_ok=True)
        (folder / FIGURES / f"{name}.png").write_bytes(encode_png(image, _DPI))
    for logger in trainer.loggers:
        if isinstance(logger, L.pytorch.loggers.TensorBoardLogger):
            logger.experiment.add_image(name, image[..., :3], trainer.global_step, dataformats="HWC")
