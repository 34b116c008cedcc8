"""The data module: any image classification dataset that the `datasets` library opens.

The way of an image: `open_source` opens a dataset as stored rows or as a stream; `choose_rows` finds the columns of
images and labels, and divides the rows into training and validation. A sampler draws rows, each with a key for its
random numbers; a worker's `RowReader` decodes the row's image and augments it on the CPU, as uint8 (with `augment_on`
device, it only crops it). The batch is collated and copied to the device, where `finish_batch` finishes the
augmentation, normalizes, erases and mixes, so that the step sees `image` and `target`:

    opening.open_source -> splits.choose_rows -> loaders.ImageDataset -> decoding.RowReader
    -> transforms.train_transform -> collate -> transforms.finish_batch -> step
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, fields
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_only
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, Mixup
from torch.utils.data import DataLoader, Sampler, default_collate

from shvit_pl.data import decoding, loaders, splits, transforms, views
from shvit_pl.data.config import DataConfig
from shvit_pl.data.folders import BROKEN_SHARE
from shvit_pl.errors import UserError, check_fields
from shvit_pl.randomness import run_seed

_FIRST_OF_STREAM = 100  # a stream's share is of at least so many images, as one of the first may be broken
_SAMPLE = 8  # images, by which dark ones are known
_STAGES = ("fit", "validate", "test", "predict")
_log = logging.getLogger("shvit_pl")


class HFImageDataModule(L.LightningDataModule):
    """Images and class labels of a Hugging Face dataset, and the normalization that goes with them.

    Batches hold `image` (float32 `(B, 3, S, S)`, normalized on the device), `label` `(B,)` (-1: not to be evaluated),
    `file` and `broken` (why an image could not be decoded, or ''). Those for training also hold `target`: the labels,
    or `(B, classes)` where `mixup` is set; then the images are mixed. Settings are a `DataConfig`, or its fields, of
    which `path` may be given first. Its loaders and properties set the dataset up where that has not been done.
    """

    def __init__(self, config: DataConfig | str | Path | None = None, **settings: Any) -> None:
        super().__init__()
        check_fields((each.name for each in fields(DataConfig)), settings, "data")
        if isinstance(config, str | Path):
            config, settings = None, {"path": str(config), **settings}
        self.config = config or DataConfig(**settings)
        self.save_hyperparameters(asdict(self.config), logger=False)
        self.mean, self.std = IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
        self.mixup: Mixup | None = None  # mixes training batches; the module sets it
        self.seed = run_seed()
        self.held_out = True  # False: validate and test on all rows of data that was not trained on
        self.has_chosen = False  # the validation images have chosen the weights, so they are no test images
        self.known_classes: list[str] = []  # of a model that is measured
        self.broken_share = BROKEN_SHARE  # of the images, more than which stops a run
        self.broken: dict[str, BrokenImages] = {}
        self.streams = False
        self._replay: views.Replay | None = None
        self._chosen: splits.ChosenRows | None = None
        self._by_stage: dict[str, splits.ChosenRows] = {}  # so that stages may come in any order

    # ---- the dataset

    def setup(self, stage: str | None = None) -> None:
        """Open the dataset, choose columns and splits; raises `UserError` for what is not there or ambiguous.

        Stages are fit (also for None), validate, test and predict.
        """
        config, stage = self.config, "fit" if stage is None else str(getattr(stage, "value", stage))
        if stage not in _STAGES:
            raise UserError(f"setup({stage!r}): allowed are {', '.join(_STAGES)}.")
        _ = config.side  # a mistake in it comes before the dataset is opened
        self.streams = config.streaming and stage != "predict"
        shared = self.held_out and not self.streams and stage != "predict"  # all such stages divide the same rows
        key = "fit" if shared else stage
        if key not in self._by_stage:
            choose: Any = splits.stream_rows if self.streams else splits.choose_rows
            self._by_stage[key] = choose(config, stage, *([] if self.streams else [self.held_out, self.known_classes]))
            if not self.streams and config.intensity_range is None:
                _warn_of_dark_images(self._by_stage[key])
        chosen = self._by_stage[key]
        if shared and "train" not in chosen.by_stage:  # only to be evaluated
            self._by_stage[stage] = self._by_stage.pop(key)
        elif stage == "test" and (shared or self.streams):
            named = config.validation_split is not None and not self.has_chosen
            chosen = splits.tested(chosen, config, named and not (shared and "test" in chosen.by_stage))
        self._chosen = chosen
        self.has_chosen = self.has_chosen or stage == "fit"
        if stage == "fit" and self.streams and self.trainer is not None:
            self.trainer.limit_train_batches = config.steps_per_epoch or 1
        elif stage == "fit" and not self.streams:
            config.check_batch_size(len(self.chosen.by_stage["train"]), loaders.process()[0])

    @property
    def chosen(self) -> splits.ChosenRows:
        """Rows, columns and classes, of training where `setup` was not called."""
        if self._chosen is None:
            self.setup("fit")
        assert self._chosen is not None
        return self._chosen

    @property
    def class_names(self) -> list[str] | None:
        """Class names, index by index; None before `setup`, and for prediction."""
        return self._chosen.class_names if self._chosen is not None else None

    def rows(self, stage: str) -> int | None:
        """Return the number of images of `train`, `validate`, `test` or `predict`; None for a stream."""
        with self._set_up_for(stage):
            return None if self.streams else len(self.chosen.by_stage[stage])

    def images_per_class(self) -> list[int] | None:
        """Return the number of training images of each class; None for a stream."""
        chosen = self.chosen
        if self.streams or chosen.label_column is None or chosen.class_names is None:
            return None
        return splits.class_counts(chosen.by_stage["train"], chosen.label_column, len(chosen.class_names))

    def state_dict(self) -> dict[str, Any]:
        """Return the state for checkpoints: the version of a dataset of the Hub."""
        return {"commit": self.chosen.commit} if self.chosen.commit else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Raise `UserError` when a resumed training would read another version."""
        before, now = state_dict["commit"], self.chosen.commit
        if self.trainer is not None and self.trainer.state.fn == "fit" and now != before:
            raise UserError(
                f"data.path {self.config.path!r}: the run saw the commit {before}, and now it is {now}. Go "
                f"on with --data.revision {before} --allow_changes true, or start a new run."
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

    def train_dataloader(self) -> DataLoader[transforms.Batch]:
        """Load a new permutation every epoch, without its last, smaller batch: BatchNorm needs more than one image."""
        with self._set_up_for("train"):
            return self._train_loader()

    def _train_loader(self) -> DataLoader[transforms.Batch]:
        config, rows = self.config, self._counted("train")
        reader = self._reader(train=True)
        collate: Any = transforms.collate_planned if config.augment_on == "device" else default_collate
        if self.streams:
            stream = loaders.TrainStream(rows, reader, self.seed, config.shuffle_buffer, config.batch_size)
            return loaders.StreamLoader(
                stream,
                steps=config.steps_per_epoch or 1,
                progress=lambda: self._batches("total"),
                collate_fn=collate,
                **self._options(stream.shards),
            )
        dataset = loaders.ImageDataset(rows, reader, training=True)
        sampler: Sampler[Any] = loaders.TrainSampler(rows, self.seed, config.repeats)
        if self._replay is not None:
            dataset = views.ReplayDataset(rows, reader, self._replay)
            sampler = views.ReplaySampler(self._replay, self.seed)
        return loaders.EpochLoader(
            dataset,
            sampler=sampler,
            progress=lambda: self._batches("current"),
            drop_last=True,
            collate_fn=collate,
            **self._options(),
        )

    def train_on(self, replay: views.Replay) -> None:
        """Train on kept views instead of drawing new ones; raises `UserError` for a stream and an odd batch size.

        Batches also hold `mix`, by which their images are mixed in pairs, and `teacher`: what is kept of them.
        """
        views.check_replay(self.config)
        self._replay = replay

    def views_dataloader(self, replay: views.Replay, ranges: dict[int, range]) -> DataLoader[transforms.Batch]:
        """Load the training images of these slots, in their order, shared out over processes by the ranges' numbers."""
        dataset = views.ReplayDataset(self._counted("train"), self._reader(train=True), replay)
        options = {**self._options(), "batch_size": None}  # the sampler makes batches
        sampler = views.RangeSampler(ranges, self.config.batch_size)
        return DataLoader(dataset, sampler=sampler, collate_fn=default_collate, **options)

    def val_dataloader(self) -> DataLoader[transforms.Batch]:
        """Load the validation images in their order."""
        return self._eval_loader("validate")

    def test_dataloader(self) -> DataLoader[transforms.Batch]:
        """Load the images that `test` measures; raises `UserError` where there are only validation images."""
        if "test" not in self.chosen.by_stage:
            self.setup("test")
        return self._eval_loader("test")

    def predict_dataloader(self) -> DataLoader[transforms.Batch]:
        """Load the split `test`, else `validation`, else the only one; labels are not needed."""
        return self._eval_loader("predict")

    def _eval_loader(self, stage: str) -> DataLoader[transforms.Batch]:
        with self._set_up_for(stage):
            if self.streams:
                stream = loaders.EvalStream(self._counted(stage), self._reader())
                return DataLoader(stream, **self._options(stream.shards))
            dataset = self.evaluated(stage)
            return DataLoader(dataset, sampler=loaders.EvalSampler(dataset.rows), **self._options())

    def evaluated(self, stage: str = "validate") -> loaders.ImageDataset:
        """Return a stage's images as they are evaluated, indexed by `Draw`; not of a stream."""
        return loaders.ImageDataset(self._counted(stage), self._reader())

    def validation_sample(self, most: int = 256, stage: str = "validate") -> Iterator[transforms.Batch]:
        """Yield batches of up to so many images, not augmented but normalized, on the CPU; the same in every process.

        They are evenly spaced, as data may be sorted by class; of a stream, they are the first.
        """
        rows, reader = self.chosen.by_stage[stage], self._reader()
        if not self.streams:
            spaced = torch.linspace(0, len(rows) - 1, min(most, len(rows))).long().tolist()
            rows = [rows[index] for index in spaced]
        items = [reader.read(row, "") for row in islice(rows, most)]
        for batch in (default_collate(items[start : start + 64]) for start in range(0, len(items), 64)):
            yield {**batch, "image": transforms.normalize(batch["image"], self.mean, self.std)}

    def _reader(self, train: bool = False) -> decoding.RowReader:
        return decoding.RowReader.of(self.config, self.chosen, train)

    def _counted(self, stage: str) -> Any:
        """Return the stage's rows, whose broken images are counted from now on."""
        rows = self.chosen.by_stage[stage]
        if stage not in self.broken:
            epoch = (self.config.steps_per_epoch or 0) * self.config.batch_size if stage == "train" else 0
            of_split = ("train", "validate") if self.chosen.divided and stage != "test" else (stage,)
            total = None if self.streams else sum(len(self.chosen.by_stage[part]) for part in of_split)
            counter = BrokenImages(total, self.broken_share, max(_FIRST_OF_STREAM, epoch))
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

    @property
    def stream_workers(self) -> int:
        """Processes that read a stream, on which its order depends; 0 for other data."""
        return self._workers() if self.streams else 0

    def _device(self) -> str:
        return self.trainer.strategy.root_device.type if self.trainer is not None else "cpu"

    # ---- batches

    def on_before_batch_transfer(self, batch: transforms.Batch, dataloader_idx: int) -> transforms.Batch:
        """Count and name broken images."""
        stage = self.trainer.state.stage if self.trainer is not None else None
        name = "validate" if stage == "sanity_check" else getattr(stage, "value", "")
        if name in self.broken:
            self.broken[name].count(batch["broken"])
        if "key" in batch:  # before the tensor leaves the CPU: one for the batch, or for each image of kept views
            keys = batch["key"].tolist()
            batch["key"] = keys if "mix" in batch else hash(tuple(keys))
        return batch

    def on_after_batch_transfer(self, batch: transforms.Batch, dataloader_idx: int) -> transforms.Batch:
        """Finish the batch on the device."""
        precision: Any = nullcontext
        step: tuple[int, ...] = (run_seed(),)
        if (trainer := self.trainer) is not None:
            precision = trainer.precision_plugin.train_step_context
            step += trainer.current_epoch, self._batches("current"), trainer.global_rank  # `StepSeed` has the same
        return transforms.finish_batch(batch, self.config, self.mean, self.std, self.mixup, step, precision)

    def _batches(self, span: Literal["current", "total"]) -> int:
        """Return the number of training batches that this epoch, or the run, has had already."""
        if self.trainer is None:
            return 0
        return int(getattr(self.trainer.fit_loop.epoch_loop.batch_progress, span).ready)


@rank_zero_only
def _warn_of_dark_images(chosen: splits.ChosenRows) -> None:
    rows = next(iter(chosen.by_stage.values())).select_columns(chosen.image_column)
    spaced = torch.linspace(0, len(rows) - 1, min(_SAMPLE, len(rows))).long().tolist()
    if warning := decoding.dark_images(rows[index][chosen.image_column] for index in spaced):
        _log.warning(warning)


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
