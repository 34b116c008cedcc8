"""The data module: any image classification dataset that the `datasets` library opens."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any, Literal

import lightning as L
import torch
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch.utils.data import DataLoader, Sampler, default_collate

from shvit_pl.data.broken import BrokenImages
from shvit_pl.data.dataset import ImageDataset, eval_reader, train_reader
from shvit_pl.data.hub_datasets import refuse_moved
from shvit_pl.data.loaders import Batch, EpochLoader, StreamLoader, options, workers_for
from shvit_pl.data.on_device import collate_planned, finished
from shvit_pl.data.replay import RangeSampler, Replay, ReplayDataset, ReplaySampler, check_replay
from shvit_pl.data.rows import ChosenRows, choose_rows, stream_rows
from shvit_pl.data.samplers import EvalSampler, TrainSampler, process
from shvit_pl.data.settings import check_batch_size, check_settings
from shvit_pl.data.sources import EMBEDDED
from shvit_pl.data.splits import class_counts
from shvit_pl.data.streaming import EvalStream, TrainStream
from shvit_pl.data.transforms import Augment, Resize, normalise, train_transform
from shvit_pl.errors import UserError
from shvit_pl.randomness import run_seed


class HFImageDataModule(L.LightningDataModule):
    """Images and class labels of a Hugging Face dataset, and the normalisation that goes with them.

    Batches hold `image` (float32 `(B, 3, S, S)`, normalised on the device), `label` `(B,)` (-1: not to be evaluated),
    `file` and `broken` (why an image could not be decoded, or '').

    Args:
        path: digits (embedded), a folder of images, a folder or file of parquet or arrow, or the id of a Hub dataset.
        name: The configuration of a Hub dataset that has several.
        revision: Branch, tag or commit of a Hub dataset.
        image_column: The column of images, where several could be meant.
        label_column: The column of labels, where several could be meant.
        train_split: Name of the training split.
        validation_split: Name of the validation split (default: validation, valid, val or dev, the first there).
        validation_fraction: Share of the training split held out where there is no validation split.
        train_fraction: Share of the training images to use.
        split_seed: Seed of both divisions, apart from the run's seed so that runs share their validation images.
        image_size: Side of the square input in pixels; on the command line also auto: the design's own.
        crop_pct: In evaluation, the side's share of the resized image that the central crop keeps.
        resize: In evaluation, crop (keep the aspect ratio, crop the centre) or squash (resize to a square, keep all).
        augment: none, shift (for digits and the like) or crop (natural images: random resized crop and flip).
        auto_augment: A policy of timm: rand-m9-mstd0.5-inc1 (the paper's RandAugment), 3a (3-Augment), ...
        color_jitter: Strength of brightness, contrast and saturation jitter; auto_augment other than 3a turns it off.
        erasing: Probability of an image to have a rectangle erased (the paper's: 0.25).
        repeats: Repeated augmentation: copies of each drawn image in an epoch (the paper's: 3).
        exif_rotation: Turn images upright as their EXIF block says; torchvision's ImageFolder and the paper do not.
        streaming: Read the dataset as it comes instead of storing it; needs steps_per_epoch.
        steps_per_epoch: Batches per process that make an epoch of a stream.
        shuffle_buffer: Rows of a stream among which the next is drawn.
        batch_size: Images per step and device.
        num_workers: Processes that decode (default: none when training on a CPU, else one per core, 8 at most).
        prefetch: Batches that each of them has ready.
        augment_on: workers, or device: resize crops, flip and jitter there, with the same draws, for busy workers.
    """

    def __init__(
        self,
        path: str = EMBEDDED,
        name: str | None = None,
        revision: str | None = None,
        image_column: str | None = None,
        label_column: str | None = None,
        train_split: str = "train",
        validation_split: str | None = None,
        validation_fraction: float = 0.2,
        train_fraction: float = 1.0,
        split_seed: int = 0,
        image_size: int | Literal["auto"] = 224,
        crop_pct: float = 0.875,
        resize: Resize = "crop",
        augment: Augment = "crop",
        auto_augment: str | None = None,
        color_jitter: float = 0.0,
        erasing: float = 0.0,
        repeats: int = 1,
        exif_rotation: bool = False,
        streaming: bool = False,
        steps_per_epoch: int | None = None,
        shuffle_buffer: int = 2000,
        batch_size: int = 64,
        num_workers: int | None = None,
        prefetch: int = 2,
        augment_on: Literal["workers", "device"] = "workers",
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        check_settings(self.hparams)
        if image_size != "auto":  # a mistake in the augmentation shows at once
            train_transform(image_size, crop_pct, augment, auto_augment, color_jitter)
        self.mean, self.std = IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
        self.seed = run_seed()
        self.held_out = True  # False: validate and test on all rows of data that was not trained on
        self.broken: dict[str, BrokenImages] = {}
        self.streams = False
        self._replay: Replay | None = None
        self._chosen: ChosenRows | None = None

    def setup(self, stage: str) -> None:
        """Open the dataset, choose columns and splits; raises `UserError` for what is not there or ambiguous."""
        hp: Any = self.hparams
        if hp.image_size == "auto":
            raise UserError("data.image_size auto: from Python, give the side in pixels.")
        if self._chosen is None:
            self.streams = hp.streaming and stage != "predict"
            self._chosen = stream_rows(hp, stage) if self.streams else choose_rows(hp, stage, self.held_out)
        if stage == "fit" and self.streams and self.trainer is not None:
            self.trainer.limit_train_batches = hp.steps_per_epoch
        elif stage == "fit" and not self.streams:
            check_batch_size(self.hparams, len(self.chosen.by_stage["train"]))

    @property
    def chosen(self) -> ChosenRows:
        """Rows, columns and classes; there after `setup`."""
        assert self._chosen is not None, "call setup first"
        return self._chosen

    @property
    def class_names(self) -> list[str] | None:
        """Class names, index by index; None before `setup`, and for prediction."""
        return self._chosen.class_names if self._chosen is not None else None

    @property
    def split_note(self) -> str:
        """A sentence about where the evaluated images come from."""
        return self.chosen.note

    @property
    def commit(self) -> str | None:
        """The version of a dataset of the Hub."""
        return self.chosen.commit

    def state_dict(self) -> dict[str, Any]:
        """State for checkpoints: which version of a dataset of the Hub the run sees."""
        return {"commit": self.commit} if self.commit else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Raise `UserError` when a training that goes on would see another version."""
        if self.trainer is not None and self.trainer.state.fn == "fit":
            refuse_moved(self.hparams["path"], state_dict["commit"], self.commit)

    def rows(self, stage: str) -> int | None:
        """Number of images of `train`, `validate`, `test` or `predict`; None for a stream."""
        return None if self.streams else len(self.chosen.by_stage[stage])

    def images_per_class(self) -> list[int] | None:
        """Number of training images of each class; None for a stream."""
        chosen = self.chosen
        if self.streams or chosen.label_column is None or chosen.class_names is None:
            return None
        return class_counts(chosen.by_stage["train"], chosen.label_column, len(chosen.class_names))

    def train_dataloader(self) -> DataLoader[Batch]:
        """A new permutation every epoch; the last, smaller batch is left out, as BatchNorm needs more than one."""
        hp: Any = self.hparams
        reader, rows = train_reader(self.hparams, self.chosen), self._counting("train")
        if self._replay is not None:
            return self._epochs(ReplayDataset(rows, reader, self._replay), ReplaySampler(self._replay, self.seed))
        if self.streams:
            stream = TrainStream(rows, reader, self.seed, hp.shuffle_buffer, hp.batch_size)
            return StreamLoader(
                stream,
                steps=hp.steps_per_epoch,
                progress=self._batches_in_all,
                collate_fn=self._collate(),
                **self._options(stream.shards),
            )
        return self._epochs(ImageDataset(rows, reader, training=True), TrainSampler(rows, self.seed, hp.repeats))

    def _epochs(self, dataset: ImageDataset, sampler: Sampler[Any]) -> EpochLoader:
        whole: dict[str, Any] = {"drop_last": True, "collate_fn": self._collate(), **self._options()}
        return EpochLoader(dataset, sampler=sampler, progress=self._batches_of_epoch, **whole)

    def _collate(self) -> Any:
        return collate_planned if self.hparams["augment_on"] == "device" else default_collate

    def train_on(self, replay: Replay) -> None:
        """Train on kept views instead of drawing new ones; raises `UserError` for a stream and an odd batch size.

        The images of a batch are still to be mixed, by `mix_pairs`; `mix` and `teacher` are what is kept of them.
        """
        check_replay(self.hparams["streaming"], self.hparams["batch_size"], self.hparams["augment_on"])
        self._replay = replay

    def views_dataloader(self, replay: Replay, ranges: dict[int, range]) -> DataLoader[Batch]:
        """The training images of these slots, in their order, shared out over processes by the ranges' numbers."""
        dataset = ReplayDataset(self._counting("train"), train_reader(self.hparams, self.chosen), replay)
        options = {**self._options(), "batch_size": None}  # the sampler makes batches
        sampler = RangeSampler(ranges, self.hparams["batch_size"])
        return DataLoader(dataset, sampler=sampler, collate_fn=default_collate, **options)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Validation images in their order."""
        return self._eval_loader("validate")

    def validation_sample(self, most: int = 256, stage: str = "validate") -> Iterator[Batch]:
        """Batches of up to so many images, not augmented but normalised, on the CPU; the same ones in every process.

        They are evenly spaced, as data may be sorted by class; of a stream, they are the first.
        """
        rows, reader = self.chosen.by_stage[stage], eval_reader(self.hparams, self.chosen)
        if self.streams:
            items = [reader.read(row, "") for row in islice(rows, most)]
        else:
            chosen = torch.linspace(0, len(rows) - 1, min(most, len(rows))).long().tolist()
            items = [reader.read(rows[index], "") for index in chosen]
        for batch in (default_collate(items[start : start + 64]) for start in range(0, len(items), 64)):
            yield {**batch, "image": normalise(batch["image"], self.mean, self.std)}

    def evaluated(self) -> ImageDataset:
        """The validation images as they are evaluated, asked for by `Draw`; not of a stream."""
        return ImageDataset(self._counting("validate"), eval_reader(self.hparams, self.chosen))

    def test_dataloader(self) -> DataLoader[Batch]:
        """The split `test`, or the validation images where there is none."""
        return self._eval_loader("test")

    def predict_dataloader(self) -> DataLoader[Batch]:
        """The split `test`, else `validation`, else the only one; labels are not needed."""
        return self._eval_loader("predict")

    def on_before_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Count and name broken images."""
        broken = self.broken.get(self._running_stage())
        if broken is not None:
            broken.count(batch["broken"])
        if "key" in batch:  # before the tensor leaves the CPU: one for the batch, or for each image of kept views
            keys = batch["key"].tolist()
            batch["key"] = keys if "mix" in batch else hash(tuple(keys))
        return batch

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """What is done on the device: augment where that is asked for, normalise, erase rectangles."""
        return finished(batch, self.hparams, self.mean, self.std)

    def _running_stage(self) -> str:
        stage = self.trainer.state.stage if self.trainer is not None else None
        return "validate" if stage == "sanity_check" else str(stage.value) if stage is not None else ""

    def _eval_loader(self, stage: str) -> DataLoader[Batch]:
        reader, rows = eval_reader(self.hparams, self.chosen), self._counting(stage)
        if self.streams:
            stream = EvalStream(rows, reader)
            return DataLoader(stream, **self._options(stream.shards))
        return DataLoader(ImageDataset(rows, reader), sampler=EvalSampler(rows), **self._options())

    def _counting(self, stage: str) -> Any:
        """The stage's rows, whose broken images are counted from now on."""
        rows = self.chosen.by_stage[stage]
        total = None if self.streams else -(-len(rows) // process()[0])
        self.broken.setdefault(stage, BrokenImages(total))
        return rows

    def _options(self, most_workers: int | None = None) -> dict[str, Any]:
        workers = self._workers() if most_workers is None else min(self._workers(), most_workers)
        return options(self.hparams["batch_size"], workers, self.hparams["prefetch"], self._device())

    def _workers(self) -> int:
        return workers_for(self.hparams["num_workers"], self._device())

    @property
    def stream_workers(self) -> int:
        """Processes that read a stream, on which its order depends; 0 for other data."""
        return self._workers() if self.streams else 0

    def _device(self) -> str:
        return self.trainer.strategy.root_device.type if self.trainer is not None else "cpu"

    def _batches_of_epoch(self) -> int:
        """Training batches that this epoch has had already."""
        return int(self.trainer.fit_loop.epoch_loop.batch_progress.current.ready) if self.trainer is not None else 0

    def _batches_in_all(self) -> int:
        """Training batches that the run has had already."""
        return int(self.trainer.fit_loop.epoch_loop.batch_progress.total.ready) if self.trainer is not None else 0
