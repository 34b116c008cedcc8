"""Measures beyond accuracy, after `validate` or a fit: corruptions, views, images of no known class, a temperature."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor
from torch.utils.data import DataLoader

from shvit_pl.callbacks.console import show_notes, show_table
from shvit_pl.callbacks.inference import is_limited
from shvit_pl.callbacks.robustness_report import result_rows, write_corruptions
from shvit_pl.callbacks.summary import RunSummary
from shvit_pl.callbacks.throughput import find_callback
from shvit_pl.data.config import CORRUPTIONS
from shvit_pl.data.datamodule import HFImageDataModule
from shvit_pl.data.transforms import normalize
from shvit_pl.data.variants import Corrupted, FiveCrops, Unchanged
from shvit_pl.display import announce, new_progress, say
from shvit_pl.errors import UserError
from shvit_pl.models.open_network import open_network
from shvit_pl.modules.reliability import LIMITS, calibration, scores, separation
from shvit_pl.runs.folder import BEST, CHECKPOINTS, CORRUPTED, EMA, run_of
from shvit_pl.runs.robustness import Measured, keep_measured, read_measured, weights_of
from shvit_pl.runs.writing import run_folder

Forward = Callable[[Tensor], Tensor]
"""From normalized images `(B, 3, S, S)` to logits `(B, classes)`."""


@dataclass(frozen=True)
class Asked:
    """What is to be measured."""

    corruptions: tuple[str, ...] = ()
    """Names of them."""
    tta: Literal["flip", "five_crop"] | None = None
    """Views of each image, whose probabilities are averaged."""
    others: HFImageDataModule | None = None
    """Images of no class that the network knows."""
    calibrate: bool = False
    """Look for a temperature."""


class Robustness(L.Callback):
    """Measures after `validate`, of the weights that `predict` would use; the pass over clean images serves all.

    They are kept in the folder of the run that `weights` are of, or else in that of `output`.
    """

    def __init__(self, asked: Asked, weights: str, output: str, plain: bool = False) -> None:
        self.asked, self.weights, self.plain = asked, weights, plain
        self.folder = run_of(weights) or Path(output).parent
        self._logits: list[Tensor] = []
        self._mirrored: list[Tensor] = []
        self._labels: list[Tensor] = []

    def on_validation_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Begin anew."""
        self._logits, self._mirrored, self._labels = [], [], []

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Keep a batch's logits; flip it."""
        self._logits.append(outputs[f"logits{EMA}" if pl_module.config.use_ema else "logits"].float())
        self._labels.append(batch["label"])
        if self.asked.tta == "flip":
            with trainer.precision_plugin.forward_context():
                self._mirrored.append(pl_module.evaluated_logits(batch["image"].flip(-1)))

    def on_validation_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Measure, print and write."""
        data: HFImageDataModule = trainer.datamodule  # type: ignore[attr-defined]
        asked, averaged = self.asked, bool(pl_module.config.use_ema)
        of_run = {"checkpoint": self.weights, "averaged": averaged, "steps": None}
        if run_of(self.weights):
            of_run = weights_of(Path(self.weights), averaged)
        measured = read_measured(self.folder, of_run)
        labels, logits = gather(trainer, torch.cat(self._labels)), gather(trainer, torch.cat(self._logits))
        most, counts = len(labels) if is_limited(trainer) else None, labels >= 0
        clean = _share(logits[counts].argmax(-1) == labels[counts])
        now: Measured = {}
        if asked.calibrate:
            now["calibration"] = asdict(calibration(logits[counts], labels[counts]))
        if asked.tta is not None:
            now["tta"] = {**measured.get("tta", {}), asked.tta: self._measure_views(trainer, pl_module, most, clean)}
        if asked.others is not None:
            found = others_told_apart(trainer, pl_module.evaluated_logits, logits[counts], asked.others, most)
            path = str(asked.others.config.path)
            now["out_of_distribution"] = {**measured.get("out_of_distribution", {}), path: found}
        if asked.corruptions:
            corrupted = measure_corruptions(trainer, pl_module.evaluated_logits, asked.corruptions, most)
            results = {"data": str(data.config.path), "images": int(counts.sum()), "clean": clean, **corrupted}
            now["corruptions"] = with_corruptions(measured.get("corruptions"), results)
        if trainer.is_global_zero:
            weights = f"{'averaged' if averaged else 'raw'} weights of {self.weights}"
            finish(self.folder, {**measured, **now}, now, weights, self.plain)

    def _measure_views(self, trainer: L.Trainer, module: Any, most: int | None, clean: float) -> dict[str, Any]:
        labels = gather(trainer, torch.cat(self._labels))
        if self.asked.tta == "flip":
            views = torch.stack([torch.cat(self._logits), torch.cat(self._mirrored)], 1)
            probabilities = gather(trainer, views.softmax(-1).mean(1))
        else:
            config = trainer.datamodule.config  # type: ignore[attr-defined]
            crops = FiveCrops(config.side, config.crop_pct, config.resize)
            loader = trainer.datamodule.varied(crops, most=most)  # type: ignore[attr-defined]
            parts = list(run_through(trainer, module.evaluated_logits, loader, "five crops"))
            probabilities = gather(trainer, torch.cat([logits.softmax(-1).mean(1) for _, logits in parts]))
            labels = gather(trainer, torch.cat([batch["label"].to(logits.device) for batch, logits in parts]))
        hits = probabilities[labels >= 0].argmax(-1) == labels[labels >= 0]
        return {"views": 2 if self.asked.tta == "flip" else 5, "acc1": _share(hits), "plain": clean}


class CorruptedAtEnd(L.Callback):
    """Accuracy on corrupted images at the end of a fit, by `best.ckpt`; its mean becomes one of the run's metrics.

    It comes before `RunSummary`, which writes them.
    """

    def __init__(self, corruptions: tuple[str, ...], plain: bool = False) -> None:
        self.corruptions, self.plain = corruptions, plain

    def on_fit_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Measure."""
        folder, summary = run_folder(trainer), find_callback(trainer, RunSummary)
        trainer.strategy.barrier()
        checkpoint = (folder or Path()) / CHECKPOINTS / BEST
        if folder is None or summary is None or not checkpoint.is_file() or not summary.best:
            return
        averaged = summary.monitor.endswith(EMA)
        network = open_network(str(checkpoint), averaged).model.to(pl_module.device)
        data: HFImageDataModule = trainer.datamodule  # type: ignore[attr-defined]
        batches = int(sum(trainer.num_val_batches)) if is_limited(trainer) else None
        most = None if batches is None else batches * data.config.batch_size * trainer.world_size
        found = measure_corruptions(trainer, lambda images: network(images).float(), self.corruptions, most)
        images = min(data.rows("validate") or 0, most or 10**12)
        clean = summary.best[f"val/acc1{EMA * averaged}"]
        results = {"data": str(data.config.path), "images": images, "clean": clean, **found}
        summary.best[f"{CORRUPTED}{EMA * averaged}"] = results["mean"]
        steps = min(trainer.global_step, pl_module.total_steps)
        of_run = {"checkpoint": BEST, "averaged": averaged, "steps": steps}
        if trainer.is_global_zero:
            finish(folder, {"of": of_run, "corruptions": results}, {"corruptions": results}, BEST, self.plain)


# ---- measuring


def measure_corruptions(
    trainer: L.Trainer, forward: Forward, names: tuple[str, ...], most: int | None
) -> dict[str, Any]:
    """Return `accuracy` of each corruption at the five strengths, and their `mean`."""
    vary, device = Corrupted(names), trainer.strategy.root_device
    loader = trainer.datamodule.varied(vary, most=most)  # type: ignore[attr-defined]
    hits = torch.zeros(len(names), vary.versions, device=device)
    counts = torch.zeros(len(names), 1, device=device)
    for batch, logits in run_through(trainer, forward, loader, "corruptions"):
        labels, part = batch["label"].to(device), batch["part"].to(device)
        hits.index_add_(0, part, (logits.argmax(-1) == labels[:, None]).float())
        counts.index_add_(0, part, (labels >= 0).float()[:, None])
    hits, counts = (trainer.strategy.reduce(each, reduce_op="sum") for each in (hits, counts))
    rows = (hits.double().cpu() / counts.double().cpu().clamp(min=1)).tolist()
    accuracy = dict(zip(names, rows, strict=True))
    return {"accuracy": accuracy, "mean": mean_accuracy(accuracy)}


def others_told_apart(
    trainer: L.Trainer, forward: Forward, known: Tensor, others: HFImageDataModule, most: int | None
) -> dict[str, Any]:
    """Return how well scores of known images, by their logits, and of others are told apart."""
    loader = others.varied(Unchanged(), "predict", most)
    parts = [logits[batch["whole"], 0] for batch, logits in run_through(trainer, forward, loader, "other images")]
    unknown = gather(trainer, torch.cat(parts))
    if not len(unknown):
        raise UserError(f"out_of_distribution {others.config.path!r}: no image in it can be decoded; give others.")
    theirs = scores(unknown)
    told = {name: asdict(separation(ours, theirs[name])) for name, ours in scores(known).items()}
    return {"images": len(unknown), **told}


def run_through(
    trainer: L.Trainer, forward: Forward, loader: DataLoader[Any], what: str
) -> Iterator[tuple[Any, Tensor]]:
    """Yield each batch and its logits `(B, versions, classes)`, with a progress bar."""
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    with new_progress() as bars, torch.inference_mode():
        if trainer.is_global_zero:
            announce(bars, f"measuring: {what}, {len(loader.sampler)} images ...")  # type: ignore[arg-type]
        task = bars.add_task(what, total=len(loader), visible=trainer.is_global_zero)
        for batch in loader:
            images = batch["image"].to(trainer.strategy.root_device, non_blocking=True)
            with trainer.precision_plugin.forward_context():
                logits = forward(normalize(images.flatten(0, 1), data.mean, data.std))
            yield batch, logits.float().reshape(*images.shape[:2], -1)
            bars.advance(task)


def gather(trainer: L.Trainer, values: Tensor) -> Tensor:
    """Return the values of all processes, one after the other."""
    if trainer.world_size == 1:
        return values
    parts: list[Any] = [None] * trainer.world_size
    torch.distributed.all_gather_object(parts, values.cpu())
    return torch.cat(parts).to(values.device)


def _share(hits: Tensor) -> float:
    return float(hits.double().mean()) if len(hits) else 0.0


def with_corruptions(before: Measured | None, now: Measured) -> Measured:
    """Return corruptions' results with those from before that were measured on the same images."""
    same = before is not None and all(before[key] == now[key] for key in ("data", "images", "clean"))
    accuracy = {**(before["accuracy"] if same and before is not None else {}), **now["accuracy"]}
    ordered: dict[str, list[float]] = {name: accuracy[name] for name in CORRUPTIONS if name in accuracy}
    return {**now, "accuracy": ordered, "mean": mean_accuracy(ordered)}


def mean_accuracy(accuracy: dict[str, list[float]]) -> float:
    """Return the mean over corruptions and strengths; not relative to another network's, as mCE is."""
    values = [value for row in accuracy.values() for value in row]
    return sum(values) / len(values)


@rank_zero_only
def finish(folder: Path, measured: Measured, now: Measured, weights: str, plain: bool) -> None:
    """Print what was measured now, and write all of it with its figure."""
    show_table("beyond accuracy", {"weights": weights, **result_rows(now)}, plain)
    found = now.get("calibration")
    if found is not None and not LIMITS[0] * 1.01 < found["temperature"] < LIMITS[1] * 0.99:
        show_notes(
            [
                f"the temperature is at its limit ({LIMITS[0]:g} to {LIMITS[1]:g}): these images are all right, or too "
                "few, so they can't calibrate the network, and no temperature is kept"
            ]
        )
        measured = {name: value for name, value in measured.items() if name != "calibration"}
    try:
        if "corruptions" in now:
            write_corruptions(folder, now["corruptions"])
        file = keep_measured(folder, measured)
    except OSError as error:
        raise UserError(f"robustness.json in {str(folder)!r}: can't be written ({error.strerror}).") from error
    say(f"written: {file}")
