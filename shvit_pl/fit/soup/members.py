"""The members of a soup: finished runs whose weights can be averaged, and measured on the same images."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from torch import Tensor

from shvit_pl.data.config import DataConfig
from shvit_pl.errors import UserError, first_few
from shvit_pl.fit.resume import is_same_data
from shvit_pl.models.weights import misfits, read_checkpoint, tensors_in
from shvit_pl.runs.folder import FinishedRun, started_in

# settings of the data that decide neither which images are validated nor how these are prepared
_OF_TRAINING = {"train_fraction", "num_workers", "prefetch", "augment", "auto_augment", "color_jitter", "erasing"}
_OF_TRAINING |= {"sampler", "repeats", "streaming", "steps_per_epoch", "shuffle_buffer", "batch_size", "augment_on"}


@dataclass(frozen=True)
class Member:
    """A run, and the weights of it that are evaluated."""

    name: str
    """Its folder, as it was given."""
    run: FinishedRun
    content: dict[str, Any]
    """Content of its checkpoint, as `read_checkpoint` returns it."""
    tensors: dict[str, Tensor]
    """The network's weights, averaged ones where its monitored metric is of those."""

    @property
    def data(self) -> DataConfig:
        """Settings of its data, its path as it leads there from here."""
        settings, path = self.content["data"], self.content["data"]["path"]
        start = started_in(self.run.folder, path) if isinstance(path, str) and path else None
        return DataConfig(**{**settings, "path": str(start / path) if start else path})

    @property
    def start(self) -> tuple[Any, Any]:
        """What its first weights were: those loaded, or else the seed of random ones."""
        loaded = self.content["model"].get("init_from")
        return loaded, None if loaded else self.run.config.get("seed_everything")


def open_members(names: Sequence[str]) -> list[Member]:
    """Open runs; raises `UserError`, with the run's name, for one that can't be averaged with the first."""
    members = list[Member]()
    for name in names:
        run = FinishedRun.open(Path(name).expanduser())
        if run.task != "classification":
            raise UserError(
                f"runs {name!r}: a run of {run.task}, and soups are of runs of classification. Leave it out."
            )
        content = read_checkpoint(str(run.checkpoint), flag="", weights=True)
        tensors = tensors_in(str(run.checkpoint), {"state_dict": content["weights"]}, run.averaged)
        member = Member(name, run, content, tensors)
        if difference := next(differences(members[0], member), None) if members else None:
            raise UserError(f"runs {name!r}: {difference}, so the two have no average. Leave one of them out.")
        members.append(member)
    return members


def differences(first: Member, other: Member) -> Iterator[str]:
    """Yield in words what keeps a member from being averaged with the first, and measured with it."""
    one, two = first.run, other.run
    if (one.design.fingerprint, one.design.distilled) != (two.design.fingerprint, two.design.distilled):
        names = [
            f"{run.summary['design']['name']}{' with two classifiers' * run.design.distilled}" for run in (two, one)
        ]
        yield f"its design is {names[0]}, and that of {first.name} {_unless_same(names)}"
    if one.class_names != two.class_names:
        ours, theirs = (f"{len(run.class_names)} ({first_few(run.class_names)})" for run in (two, one))
        order = ", in another order" * (sorted(one.class_names) == sorted(two.class_names))
        yield f"its classes are {ours}, and those of {first.name} {theirs}{order}"
    ours_data, theirs_data = other.data, first.data
    if not is_same_data(ours_data.path, theirs_data.path):
        yield f"its data.path is {ours_data.path!r}, and that of {first.name} {theirs_data.path!r}"
    for name in (each.name for each in fields(DataConfig)):
        ours, theirs = getattr(ours_data, name), getattr(theirs_data, name)
        if name not in _OF_TRAINING | {"path"} and ours != theirs:
            yield f"its data.{name} is {ours}, and that of {first.name} {theirs}"
    ours, theirs = two.dataset["commit"], one.dataset["commit"]
    if ours != theirs:
        yield f"its dataset is of commit {ours}, and that of {first.name} of {theirs}"
    if problems := misfits(first.tensors, other.tensors):
        yield f"its tensors are not those of {first.name} ({problems})"


def _unless_same(names: Sequence[str]) -> str:
    return f"{names[1]}, changed" if names[0] == names[1] else names[1]


def note_on_starts(members: Sequence[Member]) -> str | None:
    """Return a line where the members did not begin with the same weights; None where they did."""
    starts = list(dict.fromkeys(member.start for member in members))
    if len(starts) == 1:
        return None
    words = [f"{loaded}" if loaded else f"random ones of seed {seed}" for loaded, seed in starts]
    return (
        f"the runs began with different weights ({first_few(words)}); the average of such is seldom any good. Soups "
        "are made of runs that were fine-tuned from the same weights (--model.init_from)"
    )
