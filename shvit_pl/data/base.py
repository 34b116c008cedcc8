"""What the data modules of all tasks share: stages, the options of loaders, their position, and broken images."""

import logging
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, ClassVar, Literal

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_only
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch.utils.data import DataLoader

from shvit_pl.data import loaders
from shvit_pl.data.decoding import dark_images
from shvit_pl.data.folders import BROKEN_SHARE
from shvit_pl.data.transforms import Batch
from shvit_pl.errors import UserError, check_fields
from shvit_pl.randomness import run_seed

_FIRST_OF_STREAM = 100  # a stream's share is of at least so many images, as one of the first may be broken
_MOST_CLASSES = 20  # listed at most
_STAGES = ("fit", "validate", "test", "predict")
_SAMPLE = 8  # images, by which dark ones are known
_log = logging.getLogger("shvit_pl")


class DataModule(L.LightningDataModule):
    """Images of a dataset, and the normalization that goes with them.

    Settings are a config of `settings_type`, or its fields, of which `path` may be given first. Loaders and properties
    set the dataset up where that has not been done.
    """

    settings_type: ClassVar[Any]
    counts: ClassVar[str]
    """What there is of each class: images or objects."""
    config: Any
    streams = False
    stream_workers = 0
    """Processes that read a stream, on which its order depends."""

    def __init__(self, config: Any = None, **settings: Any) -> None:
        super().__init__()
        kind = self.settings_type
        check_fields((each.name for each in fields(kind)), settings, "data")
        if isinstance(config, str | Path | list):
            path = [*map(str, config)] if isinstance(config, list) else str(config)
            config, settings = None, {"path": path, **settings}
        self.config = config or kind(**settings)
        self.save_hyperparameters(asdict(self.config), logger=False)
        self.mean, self.std = IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
        self.seed = run_seed()
        self.held_out = True  # False: validate and test on all rows of data that was not trained on
        self.has_chosen = False  # the validation images have chosen the weights, so they are no test images
        self.known_classes: list[str] = []  # of a model that is measured
        self.broken_share = BROKEN_SHARE  # of the images, more than which stops a run
        self.broken: dict[str, BrokenImages] = {}
        self._chosen: Any = None
        self._by_stage: dict[str, Any] = {}  # so that stages may come in any order

    # ---- what a task decides

    @abstractmethod
    def rows(self, stage: str) -> int | None:
        """Return the number of images of `train`, `validate`, `test` or `predict`; None for a stream."""

    @property
    @abstractmethod
    def side(self) -> int:
        """Side of an image in pixels, the shorter one of a photograph."""

    @rank_zero_only
    def _warn_of_dark_images(self, chosen: Any) -> None:
        """Warn where images of 16 bits use few of them, by a sample of the rows that are chosen."""
        rows = next(iter(chosen.by_stage.values())).select_columns(chosen.image_column)
        spaced = torch.linspace(0, len(rows) - 1, min(_SAMPLE, len(rows))).long().tolist()
        if warning := dark_images(rows[index][chosen.image_column] for index in spaced):
            _log.warning(warning)

    def lighter_ways(self, device: str) -> list[str]:
        """Return ways to have less work in loading, for training on a device such as `cuda`."""
        if self.config.path == self.settings_type.path:  # embedded
            return []
        return [f"store images no larger than about {2 * self.side} pixels a side"]

    @property
    @abstractmethod
    def batches_of_epoch(self) -> int:
        """Batches that an epoch of one process trains on."""

    @abstractmethod
    def per_class(self) -> list[int] | None:
        """Return how much there is of each class to train on; None where that isn't counted."""

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """Return what is known of the dataset of a training, for `summary.json`."""

    @abstractmethod
    def table(self, facts: dict[str, Any]) -> dict[str, str]:
        """Return the rows of a run's table that are about the data, by what is known of it."""

    @abstractmethod
    def _eval_loader(self, stage: str) -> DataLoader[Batch]: ...

    # ---- the dataset

    @property
    def chosen(self) -> Any:
        """Rows, columns and classes, of training where `setup` was not called."""
        if self._chosen is None:
            self.setup("fit")
        assert self._chosen is not None
        return self._chosen

    @property
    def class_names(self) -> list[str] | None:
        """Class names, index by index; None before `setup`, and for prediction."""
        return self._chosen.class_names if self._chosen is not None else None

    def state_dict(self) -> dict[str, Any]:
        """Return the state for checkpoints: the version of a dataset of the Hub."""
        return {"commit": self.chosen.commit} if self.chosen.commit else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Raise `UserError` when a resumed training would read another version."""
        before, now = state_dict["commit"], self.chosen.commit
        if self.trainer is not None and self.trainer.state.fn == "fit" and now != before:
            one = isinstance(self.config.path, str)
            raise UserError(
                f"data.path {self.config.path!r}: the run saw the commit {before}, and now it is {now}. "
                + (f"Go on with --data.revision {before} --allow_changes true, or start a new run." * one)
                + ("Start a new run, or give the datasets as files of one version." * (not one))
            )

    # ---- loaders

    @contextmanager
    def _set_up_for(self, stage: str) -> Iterator[None]:
        """Set up what a stage needs, where that has not been done; afterwards, the stage before goes on."""
        before = self._chosen, self.streams
        if self._chosen is None or stage not in self._chosen.by_stage:
            self.setup("fit" if stage == "train" else stage)
        yield
        if before[0] is not None:
            self._chosen, self.streams = before

    def val_dataloader(self) -> DataLoader[Batch]:
        """Load the validation images in their order."""
        return self._eval_loader("validate")

    def test_dataloader(self) -> DataLoader[Batch]:
        """Load the images that `test` measures; raises `UserError` where there are only validation images."""
        if "test" not in self.chosen.by_stage:
            self.setup("test")
        return self._eval_loader("test")

    def predict_dataloader(self) -> DataLoader[Batch]:
        """Load the split `test`, else `validation`, else the only one; labels are not needed."""
        return self._eval_loader("predict")

    def _counted(self, stage: str, least: int = 0) -> Any:
        """Return the stage's rows, whose broken images are counted from now on; of a stream, among so many at least."""
        rows = self.chosen.by_stage[stage]
        if stage not in self.broken:
            of_split = ("train", "validate") if self.chosen.divided and stage != "test" else (stage,)
            total = None if self.streams else sum(len(self.chosen.by_stage[part]) for part in of_split)
            counter = BrokenImages(total, self.broken_share, max(_FIRST_OF_STREAM, least))
            counter.of_split = next((self.broken[part].of_split for part in of_split if part in self.broken), [])
            counter.of_split.append(counter)
            self.broken[stage] = counter
        return rows

    def _options(self, shards: int | None = None) -> dict[str, Any]:
        """Return the options of every loader; each draws from a generator of its own, and nothing from the run's."""
        workers = self._workers() if shards is None else min(self._workers(), shards)
        return {
            "batch_size": self.config.batch_size,
            "num_workers": workers,
            "persistent_workers": workers > 0,
            "prefetch_factor": self.config.prefetch if workers else None,
            "generator": torch.Generator(),
            "pin_memory": self._device() == "cuda",  # Lightning copies from pinned memory without waiting
        }

    def _workers(self) -> int:
        return loaders.workers_for(self.config.num_workers, self._device())

    def _device(self) -> str:
        return self.trainer.strategy.root_device.type if self.trainer is not None else "cpu"

    # ---- batches

    def on_before_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Count and name broken images."""
        stage = self.trainer.state.stage if self.trainer is not None else None
        name = "validate" if stage == "sanity_check" else getattr(stage, "value", "")
        if name in self.broken:
            self.broken[name].count(batch["broken"])
        if "key" in batch:  # before the tensor leaves the CPU: one for the batch, or for each image of kept views
            keys = batch["key"].tolist()
            batch["key"] = keys if "mix" in batch else hash(tuple(keys))
        return batch

    def _batches(self, span: Literal["current", "total"]) -> int:
        """Return the number of training batches that this epoch, or the run, has had already."""
        if self.trainer is None:
            return 0
        return int(getattr(self.trainer.fit_loop.epoch_loop.batch_progress, span).ready)


def stage_of(stage: Any) -> str:
    """Return the name of a stage of Lightning's, or `fit` for None; raises `UserError` for another."""
    name = "fit" if stage is None else str(getattr(stage, "value", stage))
    if name not in _STAGES:
        raise UserError(f"setup({name!r}): allowed are {', '.join(_STAGES)}.")
    return name


def described(facts: dict[str, Any]) -> str:
    """Return a dataset's name, version and size, by what is known of it."""
    version = f"{facts['path']} at {facts['commit'][:7]}" if facts["commit"] else str(facts["path"])
    if facts["train_images"] is None:
        return f"{version}: streamed"
    return f"{version}: {facts['train_images']} training and {facts['validation_images']} validation images"


def counted_classes(names: Sequence[str], counts: Sequence[int] | None, what: str) -> str:
    """Return the number of classes, and how much of each there is to train on."""
    text = f"{len(names)} class{'' if len(names) == 1 else 'es'}"
    if counts and len(counts) > _MOST_CLASSES:
        return f"{text} of {min(counts)} to {max(counts)} {what}"
    if counts:
        return f"{text}; {what} of each: {', '.join(f'{name}: {n}' for name, n in zip(names, counts, strict=True))}"
    return text


class BrokenImages:
    """Images that can't be decoded: skipped, counted and named, as long as they are no larger share than allowed.

    `total` is the number of images in the split; None for a stream, where those seen so far count, `least` at least.
    """

    def __init__(self, total: int | None = None, share: float = BROKEN_SHARE, least: int = _FIRST_OF_STREAM) -> None:
        self.total, self.share, self._least = total, share, least
        self.reasons: dict[str, None] = {}  # each with its image's name; in their order
        self.of_split: list[BrokenImages] = [self]  # also that of the rest of its split
        self._seen = 0

    def count(self, reasons: list[str]) -> None:
        """Take a batch's reasons, '' for a whole image; raises `UserError` when too many are broken."""
        self._seen += len(reasons)
        new = [reason for reason in dict.fromkeys(reasons) if reason and reason not in self.reasons]
        self.reasons.update(dict.fromkeys(new))
        total = self.total if self.total is not None else max(self._seen, self._least)
        named = [reason for part in self.of_split for reason in part.reasons]
        if len(named) > self.share * total:
            raise UserError(
                f"data.path: at least {len(named)} of {total} images can't be decoded, and "
                f"{f'more than {self.share:.0%} stops a run' if self.share else '--strict true allows none'}: "
                f"{'; '.join(reason.rstrip('.') for reason in named[:3])}. Repair or remove them."
            )
        for reason in new:
            _log.warning("skipped a broken image: %s", reason)
