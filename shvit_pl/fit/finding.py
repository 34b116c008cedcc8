"""`fit --find lr` and `--find batch_size`: tried with the run's own module, data and optimizer; nothing is kept."""

import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning as L
import torch
from matplotlib.figure import Figure
from rich.filesize import decimal

from shvit_pl.callbacks.checkpoints import StepSeed
from shvit_pl.deploy.measuring import is_out_of_memory
from shvit_pl.display import TextTable, say, write_table
from shvit_pl.errors import UserError
from shvit_pl.files import write_whole
from shvit_pl.modules.batches import named_batch
from shvit_pl.plots import as_png

if TYPE_CHECKING:
    from shvit_pl.fit.lightning_cli import ShvitCLI

_STEPS = 100  # of a range test
_LOWEST, _HIGHEST = 1e-6, 1.0  # peak rates that are tried
_SMOOTHING = 0.8  # share of the past in the smoothed loss
_DIVERGED = 4.0  # times the least smoothed loss
_SKIPPED = 5  # first and last steps whose slope means little
_ENOUGH = 1.1  # images/s of the best size, over those of one that is as good
_SECONDS, _LEAST_STEPS = 3.0, 3  # of each size
_SIZES = [2**power for power in range(3, 13)]


def find(cli: "ShvitCLI", what: str) -> None:
    """Find a learning rate or a batch size, print and draw it; `cli` has read its flags."""
    nothing_kept = {"logger": False, "enable_checkpointing": False, "callbacks": None, "limit_val_batches": 0}
    length = {"max_epochs": -1, "max_steps": _STEPS, "min_epochs": None, "max_time": None, "devices": 1}
    for name, value in (nothing_kept | length).items():
        cli.config_init.trainer[name] = value
    picture = Path(cli.options.output or f"find_{what}.png")
    (_find_lr if what == "lr" else _find_batch_size)(cli, picture)
    say(f"drawn in {picture}; no weights and no settings are kept")


# ---- learning rate


class RangeTest(L.Callback):
    """A learning rate range test (Smith 2017, section 3.3): the rate grows exponentially by steps, up to divergence."""

    def __init__(self) -> None:
        self.rates: list[float] = []
        self.losses: list[float] = []
        self._of_step: list[float] = []  # losses of accumulated batches

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Set the rate of the step, in the proportions of the groups."""
        rate = _LOWEST * (_HIGHEST / _LOWEST) ** (trainer.global_step / (_STEPS - 1))
        for group in trainer.optimizers[0].param_groups:
            group["lr"] = group["initial_lr"] / pl_module.schedule.peak * rate
        if len(self.rates) == trainer.global_step:
            self.rates.append(rate)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note the loss; stop where it has diverged."""
        self._of_step.append(float(outputs["loss"]))
        if trainer.global_step < len(self.rates):
            return  # more batches are accumulated
        loss, self._of_step = sum(self._of_step) / len(self._of_step), []
        self.losses.append(loss)
        curve = smoothed(self.losses)
        if not math.isfinite(loss) or curve[-1] > _DIVERGED * min(curve):
            self.losses = [each for each in self.losses if math.isfinite(each)]
            trainer.should_stop = True


def smoothed(losses: list[float]) -> list[float]:
    """Return the exponential moving average of losses, corrected for its start at 0."""
    average, curve = 0.0, []
    for step, loss in enumerate(losses, 1):
        average = _SMOOTHING * average + (1 - _SMOOTHING) * loss
        curve.append(average / (1 - _SMOOTHING**step))
    return curve


def steepest(rates: list[float], curve: list[float]) -> int | None:
    """Return the step at which a smoothed loss falls fastest with the logarithm of the rate, before its least value.

    None where it never falls, or there are too few steps.
    """
    lowest = min(range(len(curve)), key=curve.__getitem__)
    slopes = {
        step: (curve[step + 1] - curve[step - 1]) / math.log(rates[step + 1] / rates[step - 1])
        for step in range(_SKIPPED, min(lowest + 1, len(curve) - 1))
    }
    step = min(slopes, key=slopes.__getitem__, default=None)
    return step if step is not None and slopes[step] < 0 else None


def _find_lr(cli: "ShvitCLI", picture: Path) -> None:
    test = RangeTest()
    cli.watching = [StepSeed(), test]
    cli.trainer = cli.instantiate_trainer()
    cli.trainer.fit(cli.model, datamodule=cli.datamodule)
    rates, curve = test.rates[: len(test.losses)], smoothed(test.losses)
    best, batch, optim = steepest(rates, curve), cli.model.global_batch, cli.model.config.optim
    per_flag = optim.reference_batch / batch  # --model.optim.lr is that of the reference batch
    flags = [rate * per_flag for rate in rates]
    title = f"{optim.name}, {batch} images a step; the rates of {optim.reference_batch} images"
    figure, axes = _axes(title, "--model.optim.lr", "training loss")
    axes.semilogx(flags, test.losses, alpha=0.3, label="loss of a step")
    axes.semilogx(flags, curve, label="smoothed")
    least, most = min(test.losses), 1.5 * curve[0]
    axes.set_ylim(least - 0.05 * (most - least), most)
    axes.xaxis.set_major_formatter("{x:g}")
    if best is not None:
        axes.axvline(flags[best], linestyle="--", color="black", linewidth=1, label=f"steepest: {flags[best]:.2g}")
    axes.legend(frameon=False)
    write_whole(picture, as_png(figure, dpi=120))
    if best is None:
        say(f"the loss never falls in {len(rates)} steps, at rates from {flags[0]:.2g} to {flags[-1]:.2g}")
        return
    say(
        f"steepest fall of the loss: --model.optim.lr {flags[best]:.2g} (a peak rate of {rates[best]:.2g} for {batch} "
        f"images a step); least loss at {flags[curve.index(min(curve))]:.2g}. A value between the two is a good start; "
        f"the run has {optim.lr:.2g}"
    )


# ---- batch size


@dataclass(frozen=True)
class Size:
    """What a batch size gives."""

    batch: int
    rate: float
    """Images per second of training, with loading."""
    memory: int | None
    """Bytes that were allocated on the GPU at most."""


class _Paced(L.Callback):
    """Steps for some seconds, timed without the first of them, which may compile."""

    def __init__(self) -> None:
        self.images, self.seconds = 0, 0.0
        self._since: float | None = None

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count, and stop when the time is over."""
        if self._since is None:
            self._since = time.perf_counter()
            return
        self.images += len(named_batch(batch)["image"])
        self.seconds = time.perf_counter() - self._since
        trainer.should_stop = self.seconds > _SECONDS and trainer.global_step > _LEAST_STEPS


def _find_batch_size(cli: "ShvitCLI", picture: Path) -> None:
    sizes, why = list[Size](), "larger ones were not tried"
    for batch in _SIZES:
        try:
            sizes.append(_measure(cli, batch))
        except UserError as error:
            if not sizes:
                raise
            why = str(error)
            break
        except RuntimeError as error:
            if not sizes or not is_out_of_memory(error):
                raise
            why = f"{batch} images are more than the device's memory holds"
            break
        say(f"batch size {batch}: {sizes[-1].rate:.0f} images/s")
        if len(sizes) > 2 and sizes[-1].rate < _ENOUGH * max(each.rate for each in sizes[:-2]):
            why = "larger ones are hardly faster"
            break
    on_gpu = sizes[0].memory is not None
    table = TextTable("batch size", "images/s", "ms per step", *(["memory"] * on_gpu))
    for size in sizes:
        memory = [decimal(size.memory)] if size.memory is not None else []
        table.add_row(str(size.batch), f"{size.rate:.1f}", f"{1000 * size.batch / size.rate:.1f}", *memory)
    write_table(table, plain=cli.options.plain)
    figure, axes = _axes(f"training on {cli.trainer.strategy.root_device}, loading included", "batch size", "images/s")
    axes.semilogx([size.batch for size in sizes], [size.rate for size in sizes], marker="o", base=2)
    axes.set_ylim(bottom=0)
    chosen = choose(sizes)
    axes.axvline(chosen.batch, linestyle="--", color="black", linewidth=1)
    axes.set_xticks([size.batch for size in sizes], [str(size.batch) for size in sizes])
    axes.minorticks_off()
    write_whole(picture, as_png(figure, dpi=120))
    say(
        f"--data.batch_size {chosen.batch}: the smallest within {_ENOUGH - 1:.0%} of the fastest ({why.rstrip('.')}). "
        "The learning rate follows the batch; with a large one there are fewer steps, which small datasets may lack"
    )


def choose(sizes: list[Size]) -> Size:
    """Return the smallest size that is about as fast as the fastest."""
    fastest = max(size.rate for size in sizes)
    return next(size for size in sizes if size.rate * _ENOUGH >= fastest)


def _measure(cli: "ShvitCLI", batch: int) -> Size:
    """Train for some seconds with a batch size; raises `UserError` where the data have fewer images."""
    paced = _Paced()
    cli.watching = [StepSeed(), paced]
    cli.model = cli.task.make_module(cli.model_config)
    cli.datamodule = cli.task.make_data(replace(cli.data_config, batch_size=batch))
    cli.trainer = cli.instantiate_trainer()
    cli.trainer.fit(cli.model, datamodule=cli.datamodule)
    device = cli.trainer.strategy.root_device
    memory = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    return Size(batch, paced.images / paced.seconds, memory)


def _axes(title: str, x: str, y: str) -> tuple[Figure, Any]:
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    axes.set(title=title, xlabel=x, ylabel=y)
    axes.title.set_fontsize(10)
    axes.grid(alpha=0.3)
    return figure, axes
