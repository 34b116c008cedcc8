"""A soup: uniform or greedy averages of networks, BatchNorm measured anew, compared with each network alone.

Wortsman et al. 2022, "Model soups", https://arxiv.org/abs/2203.05482; the greedy recipe is section 2's.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.optim.swa_utils import update_bn

from shvit_pl.callbacks.console import RunProgress
from shvit_pl.callbacks.summary import validation_metrics
from shvit_pl.data.datamodule import HFImageDataModule
from shvit_pl.deploy.measuring import chosen_device, device_name
from shvit_pl.display import TextTable, counted, new_progress, say, write_table
from shvit_pl.errors import UserError, one_line
from shvit_pl.fit.soup.folder import METRIC, soup_folder, write_soup
from shvit_pl.fit.soup.members import Member, note_on_starts, open_members
from shvit_pl.fit.soup.options import SoupOptions
from shvit_pl.modules.classification import ClassificationModule
from shvit_pl.modules.config import ClassificationConfig
from shvit_pl.randomness import seeded
from shvit_pl.runs.folder import rank

_SHOWN = ("val/acc1", "val/acc5", "val/acc1_macro", "val/loss")
_STATISTICS = ("running_mean", "running_var")
State = Mapping[str, Tensor]


def average(states: Sequence[State]) -> dict[str, Tensor]:
    """Return the mean of networks, tensor by tensor; counts, such as BatchNorm's batches, are the first network's."""
    first = states[0]
    return {
        key: torch.stack([state[key] for state in states]).mean(0, dtype=torch.float64).to(tensor.dtype)
        if tensor.is_floating_point()
        else tensor
        for key, tensor in first.items()
    }


def choose_greedily(scores: Sequence[float], order: Sequence[int], measure: Callable[[list[int]], float]) -> list[int]:
    """Return the members of the greedy soup: in order, each that makes the average so far no worse.

    `scores` are the members' own, of which the first in the order begins; `measure` scores the average of several.
    """
    chosen = [order[0]]
    best = scores[order[0]]
    for member in order[1:]:
        if (score := measure([*chosen, member])) >= best:
            chosen, best = [*chosen, member], score
    return chosen


def same_statistics(states: Sequence[State]) -> bool:
    """Return whether BatchNorm's statistics are the same in all networks, as in runs that froze them."""
    first = states[0]
    return all(
        torch.equal(tensor, state[key])
        for key, tensor in first.items()
        if key.endswith(_STATISTICS)
        for state in states[1:]
    )


@dataclass
class Measured:
    """A network and what its validation has found."""

    tensors: dict[str, Tensor]
    metrics: dict[str, float]
    findings: dict[str, Any]


class Kitchen:
    """The one module, data and trainer by which all members and their averages are measured."""

    def __init__(self, members: Sequence[Member], options: SoupOptions) -> None:
        self.members, self.batches = members, options.bn_batches
        self.device = chosen_device(options.device)
        self.config = soup_config(members[0])
        self.module = ClassificationModule(self.config)
        self.data = HFImageDataModule(members[0].data)
        self.soups: dict[tuple[int, ...], Measured] = {}
        callbacks: list[Any] = [RunProgress(plain=options.plain)]
        self.trainer = L.Trainer(
            accelerator="gpu" if self.device.type == "cuda" else self.device.type,
            devices=[self.device.index or 0] if self.device.type == "cuda" else 1,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            callbacks=callbacks,
        )

    def open_data(self) -> None:
        """Open the dataset, with the rows that were trained on and held out; raises `UserError` if it isn't here."""
        try:
            self.data.setup("fit")
        except UserError as error:
            raise UserError(
                f"runs {self.members[0].name!r}: its data can't be opened ({one_line(error)[:160]}). Run this where "
                "the runs were started, with the images where they were."
            ) from error
        self.data.mixup = self.module.make_mixup()  # as in training
        self.batches = min(self.batches, self.data.batches_of_epoch)

    def measure(self, tensors: dict[str, Tensor]) -> Measured:
        """Validate a network on all validation images."""
        self._load(tensors)
        self.trainer.validate(self.module, datamodule=self.data, verbose=False)
        return Measured(tensors, validation_metrics(self.trainer), self.module.findings())

    def soup(self, members: Sequence[int]) -> Measured:
        """Average members by number, measure BatchNorm's statistics anew, and validate; kept for a second call."""
        key = tuple(sorted(members))
        if key not in self.soups:
            self.soups[key] = self.measure(self._averaged([self.members[number].tensors for number in key]))
        return self.soups[key]

    def anew(self, member: int) -> Measured:
        """Validate a member alone with statistics measured anew: what they do without any averaging."""
        return self.measure(self._with_new_statistics(self.members[member].tensors))

    def _averaged(self, states: Sequence[State]) -> dict[str, Tensor]:
        tensors = average(states)
        return tensors if same_statistics(states) else self._with_new_statistics(tensors)

    def _with_new_statistics(self, tensors: State) -> dict[str, Tensor]:
        self._load(tensors)
        network = self.module.model
        assert network is not None
        network.to(self.device)
        with seeded(0):  # stochastic depth and mixing: the same for every average
            update_bn(self._training_images(), network)
        return {key: tensor.detach().cpu().clone() for key, tensor in network.state_dict().items()}

    def _load(self, tensors: State) -> None:
        assert self.module.model is not None
        self.module.model.load_state_dict(tensors)

    def _training_images(self) -> Iterator[Tensor]:
        """Yield the first batches of an epoch, augmented as in training: `(B, 3, S, S)` on the device."""
        data, loader = self.data, self.data.train_dataloader()
        with new_progress() as bars:
            for batch in bars.track(islice(loader, self.batches), self.batches, description="BatchNorm"):
                batch = data.transfer_batch_to_device(data.on_before_batch_transfer(batch, 0), self.device, 0)
                yield data.on_after_batch_transfer(batch, 0)["image"]


def soup_config(first: Member) -> ClassificationConfig:
    """Return the first member's settings of the module, as a soup's: without a moving average or a teacher to load."""
    settings = dict(first.content["model"])
    settings |= {"ema": {**settings["ema"], "decay": 0.0}, "use_ema": False, "init_from": None, "compile": False}
    return ClassificationConfig.from_dict(settings)


def make_soup(options: SoupOptions, command: str) -> None:
    """Make, measure and write a soup, and print it beside its members; raises `UserError` before anything slow."""
    began = time.perf_counter()
    members = open_members(options.runs)
    folder = soup_folder(options.output, members[0].run.folder)
    kitchen = Kitchen(members, options)
    kitchen.open_data()
    if note := note_on_starts(members):
        say(f"note: {note}")
    say(f"{counted(len(members), 'run')}, each measured on the validation images: {kitchen.data.chosen.note}")
    alone = [kitchen.measure(member.tensors) for member in members]
    scores = [each.metrics[METRIC] for each in alone]
    order = sorted(range(len(members)), key=lambda number: rank(alone[number].metrics, METRIC))
    anew: list[Measured] | None = None
    if not same_statistics([member.tensors for member in members]):
        batches = kitchen.batches
        say(
            f"BatchNorm's statistics of each average are measured anew, on {batches} batch{'es' * (batches != 1)} of "
            "training images; for comparison, those of each run alone too"
        )
        anew = [kitchen.anew(number) for number in range(len(members))]
    if options.method == "uniform":
        chosen = order
    else:
        chosen = choose_greedily(scores, order, lambda numbers: _tried(kitchen, members, numbers))
    soup = kitchen.soup(chosen) if len(chosen) > 1 else alone[chosen[0]]
    _show(members, alone, anew, soup, chosen, options)
    facts = {
        "method": options.method,
        "metric": METRIC,
        "members": [
            {
                "run": member.name,
                "weights": "averaged" if member.run.averaged else "raw",
                "in_soup": number in chosen,
                "metrics": each.metrics,
                "metrics_bn_anew": anew[number].metrics if anew else None,
            }
            for number, (member, each) in enumerate(zip(members, alone, strict=True))
        ],
        "bn_batches": kitchen.batches if len(chosen) > 1 else 0,
        "device": device_name(kitchen.device),
        "wall_seconds": round(time.perf_counter() - began, 1),
    }
    results = {"metrics": soup.metrics, **soup.findings, "soup": facts}
    write_soup(folder, members, chosen, kitchen.module, soup.tensors, results, command)
    say(f"written: {folder}")


def _tried(kitchen: Kitchen, members: Sequence[Member], numbers: list[int]) -> float:
    score = kitchen.soup(numbers).metrics[METRIC]
    say(f"with {members[numbers[-1]].name} ({counted(len(numbers), 'run')}): {METRIC} {score:.4f}")
    return score


def _show(
    members: Sequence[Member],
    alone: Sequence[Measured],
    anew: Sequence[Measured] | None,
    soup: Measured,
    chosen: Sequence[int],
    options: SoupOptions,
) -> None:
    """Print the members and the soup, and which of them is the best."""
    names = [name for name in _SHOWN if name in soup.metrics]
    table = TextTable("", *names, *([f"{METRIC}, BatchNorm anew"] if anew else []), "in the soup")
    for number, (member, each) in enumerate(zip(members, alone, strict=True)):
        new = [f"{anew[number].metrics[METRIC]:.4f}"] if anew else []
        in_soup = "yes" if number in chosen else "no"
        table.add_row(member.name, *(f"{each.metrics[name]:.4f}" for name in names), *new, in_soup)
    values = [f"{soup.metrics[name]:.4f}" for name in names]
    table.add_row(f"{options.method} soup", *values, *([values[0] if len(chosen) > 1 else ""] if anew else []), "")
    write_table(table, options.plain)
    best = min(range(len(members)), key=lambda number: rank(alone[number].metrics, METRIC))
    best_anew = max((each.metrics[METRIC] for each in anew), default=None) if anew else None
    say(verdict(soup.metrics[METRIC], members[best].name, alone[best].metrics[METRIC], best_anew, len(chosen)))


def verdict(soup: float, name: str, best: float, best_anew: float | None, members: int) -> str:
    """Return in words whether the soup is better than the best run alone, by accuracies as fractions.

    `best_anew` is the best that a run alone reaches by new statistics of BatchNorm.
    """
    if members == 1:
        return f"no average was as good as {name} alone ({METRIC} {best:.4f}), so the soup is that run"
    if soup < best:
        return f"the best single run is better: {name} has {METRIC} {best:.4f}, and the soup {soup:.4f}; take that run"
    if soup == best:
        return f"the soup is as good as the best single run, {name}: both have {METRIC} {best:.4f}"
    text = f"the soup is better than the best single run: {METRIC} {soup:.4f}, and {best:.4f} of {name}"
    if best_anew is not None and best_anew >= soup:
        return f"{text}; but new statistics of BatchNorm alone bring a single run to {best_anew:.4f}, without averaging"
    return text
