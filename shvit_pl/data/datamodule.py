"""The data module: any image classification dataset that the `datasets` library opens.

The way of an image: `open_source` opens a dataset as stored rows or as a stream; `choose_rows` finds the columns of
images and labels, and divides the rows into training and validation. A sampler draws rows, each with a key for its
random numbers; a worker's `RowReader` decodes the row's image and augments it on the CPU, as uint8 (with `augment_on`
device, it only crops it). The batch is collated and copied to the device, where `finish_batch` finishes the
augmentation, normalizes, erases and mixes, so that the step sees `image` and `target`:

    opening.open_source -> splits.choose_rows -> loaders.ImageDataset -> decoding.RowReader
    -> transforms.train_transform -> collate -> transforms.finish_batch -> step
"""

from collections.abc import Iterator
from contextlib import nullcontext
from itertools import islice
from typing import Any

import torch
from timm.data import Mixup
from torch.utils.data import DataLoader, Sampler, default_collate

from shvit_pl.data import balanced, decoding, loaders, sources, splits, transforms, variants, views
from shvit_pl.data.base import DataModule, counted_classes, described, stage_of
from shvit_pl.data.config import DataConfig
from shvit_pl.randomness import run_seed


class HFImageDataModule(DataModule):
    """Images and class labels of a Hugging Face dataset, and the normalization that goes with them.

    Batches hold `image` (float32 `(B, 3, S, S)`, normalized on the device), `label` `(B,)` (-1: not to be evaluated),
    `file` and `broken` (why an image could not be decoded, or ''). Those for training also hold `target`: the labels,
    or `(B, classes)` where `mixup` is set; then the images are mixed. Settings are a `DataConfig`, or its fields, of
    which `path` may be given first.
    """

    settings_type, counts = DataConfig, "images"
    config: DataConfig
    mixup: Mixup | None = None  # mixes training batches; the module sets it
    mixing = ""  # in words
    _replay: views.Replay | None = None

    # ---- the dataset

    def setup(self, stage: str | None = None) -> None:
        """Open the dataset, choose columns and splits; raises `UserError` for what is not there or ambiguous.

        Stages are fit (also for None), validate, test and predict.
        """
        config, stage = self.config, stage_of(stage)
        _ = config.side  # a mistake in it comes before the dataset is opened
        self.streams = config.streaming and stage != "predict"
        shared = self.held_out and not self.streams and stage != "predict"  # all such stages divide the same rows
        key = "fit" if shared else stage
        if key not in self._by_stage:
            choose: Any = splits.stream_rows if self.streams else sources.choose_rows
            self._by_stage[key] = choose(config, stage, *([] if self.streams else [self.held_out, self.known_classes]))
            if not self.streams and config.intensity_range is None:
                self._warn_of_dark_images(self._by_stage[key])
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

    def rows(self, stage: str) -> int | None:
        """Return the number of images of `train`, `validate`, `test` or `predict`; None for a stream."""
        with self._set_up_for(stage):
            return None if self.streams else len(self.chosen.by_stage[stage])

    @property
    def side(self) -> int:
        """Side of an image in pixels."""
        return self.config.side

    def lighter_ways(self, device: str) -> list[str]:
        """Return ways to have less work in loading, for training on a device such as `cuda`."""
        ways, config = [], self.config
        if device != "cpu" and config.fits_device and config.augment_on == "workers":
            ways.append("--data.augment_on device")
        if config.auto_augment is not None:
            ways.append("--data.auto_augment null (it changes the training)")
        return [*ways, *super().lighter_ways(device)]

    @property
    def batches_of_epoch(self) -> int:
        """Batches that an epoch of one process trains on."""
        if self.config.streaming:
            return self.config.steps_per_epoch or 0
        return (self.rows("train") or 0) // self.config.batch_size

    def facts(self) -> dict[str, Any]:
        """Return what is known of the dataset of a training, for `summary.json`."""
        chosen, names = self.chosen, ("name", "revision", "train_fraction", "streaming", "image_size")
        return {
            "path": sources.joined_path(self.config.path),
            **{name: getattr(self.config, name) for name in names},
            **{name: value for name in ("fold", "split_by") if (value := getattr(self.config, name)) is not None},
            "augmentation": self.config.augmentation(self.mixing),
            "commit": None if chosen.sources else chosen.commit,
            **({"sources": list(chosen.sources)} if chosen.sources else {}),
            "train_images": self.rows("train"),
            "validation_images": self.rows("validate"),
            "images_per_class": self.per_class(),
            "sampler": self.config.sampler,
            "validation": chosen.note,
            "files": chosen.files or None,
        }

    def table(self, facts: dict[str, Any]) -> dict[str, str]:
        """Return the rows of a run's table that are about the data, by what is known of it."""
        classes = counted_classes(self.class_names or [], facts["images_per_class"], "training images")
        return {
            "data": f"{described(facts)}, {classes}",
            **{f"source {n}": sources.described(each) for n, each in enumerate(facts.get("sources", ()), start=1)},
            "": facts["validation"],
            **({"files": facts["files"]} if facts["files"] else {}),
            "images": f"{facts['image_size']} px; training: {facts['augmentation']}",
        }

    def per_class(self) -> list[int] | None:
        """Return the number of training images of each class; None for a stream."""
        chosen = self.chosen
        if self.streams or chosen.label_column is None or chosen.class_names is None:
            return None
        return splits.class_counts(chosen.by_stage["train"], chosen.label_column, len(chosen.class_names))

    def drawn_per_class(self) -> list[int] | None:
        """Return how often the images of each class count in training: the sampler may draw all alike."""
        counts = self.per_class()
        return [min(count, 1) for count in counts] if counts and self.config.sampler == "balanced" else counts

    # ---- loaders

    def train_dataloader(self) -> DataLoader[transforms.Batch]:
        """Load a new permutation every epoch, without its last, smaller batch: BatchNorm needs more than one image."""
        with self._set_up_for("train"):
            return self._train_loader()

    def _train_loader(self) -> DataLoader[transforms.Batch]:
        config = self.config
        rows = self._counted("train", least=(config.steps_per_epoch or 0) * config.batch_size)
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
        if config.sampler == "balanced":
            labels = splits.class_indices(rows, str(self.chosen.label_column))
            sampler = balanced.BalancedSampler(labels, self.seed)
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

    def varied(self, vary: variants.Vary, stage: str = "validate", most: int | None = None) -> DataLoader[Any]:
        """Load this process's share of a stage's images (of the first `most`), several versions of each; no stream."""
        with self._set_up_for(stage):
            dataset = variants.Variants(self.evaluated(stage), vary, most)
            replicas, rank = loaders.process()
            size = max(1, self.config.batch_size // vary.versions)
            options = {**self._options(), "batch_size": size, "persistent_workers": False}
            return DataLoader(dataset, sampler=range(rank, len(dataset), replicas), **options)

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

    @property
    def stream_workers(self) -> int:  # type: ignore[override]
        """Processes that read a stream, on which its order depends; 0 for other data."""
        return self._workers() if self.streams else 0

    # ---- batches

    def on_after_batch_transfer(self, batch: transforms.Batch, dataloader_idx: int) -> transforms.Batch:
        """Finish the batch on the device."""
        precision: Any = nullcontext
        step: tuple[int, ...] = (run_seed(),)
        if (trainer := self.trainer) is not None:
            precision = trainer.precision_plugin.train_step_context
            step += trainer.current_epoch, self._batches("current"), trainer.global_rank  # `StepSeed` has the same
        return transforms.finish_batch(batch, self.config, self.mean, self.std, self.mixup, step, precision)
