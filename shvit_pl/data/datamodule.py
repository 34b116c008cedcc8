"""The data module: any image classification dataset that the `datasets` library opens."""

from __future__ import annotations

import os
from typing import Any

import lightning as L
import torch
from datasets import Dataset, DatasetDict, Image
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch.utils.data import DataLoader

from shvit_pl.data.columns import encode_labels, image_column, label_column
from shvit_pl.data.dataset import ImageDataset
from shvit_pl.data.samplers import SeededSampler
from shvit_pl.data.sources import EMBEDDED, open_dataset
from shvit_pl.data.splits import (
    VALIDATION_NAMES,
    check_split,
    divide,
    train_and_validation,
    unlabelled_note,
    used_splits,
)
from shvit_pl.data.transforms import Augment, eval_transform, normalise, train_transform
from shvit_pl.errors import UserError

Batch = dict[str, Any]
OF_ONE_DATASET = (
    "name",
    "revision",
    "image_column",
    "label_column",
    "train_split",
    "validation_split",
    "train_fraction",
)


class HFImageDataModule(L.LightningDataModule):
    """Images and class labels of a Hugging Face dataset, and the normalisation that goes with them.

    Batches hold `image` (float32 `(B, 3, S, S)`, normalised on the device), `label` `(B,)` and `file`.

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
        image_size: Side of the square input in pixels.
        crop_pct: In evaluation, the side's share of the resized image that the central crop keeps.
        augment: none, shift (for digits and the like) or crop (natural images: random resized crop and flip).
        batch_size: Images per step and device.
        num_workers: Processes that decode (default: none when training on a CPU, else one per core, 8 at most).
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
        image_size: int = 224,
        crop_pct: float = 0.875,
        augment: Augment = "crop",
        batch_size: int = 64,
        num_workers: int | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        _check_settings(self.hparams)
        self.mean, self.std = IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
        self.seed = int(os.environ.get("PL_GLOBAL_SEED", 0))
        self.class_names: list[str] | None = None
        self.split_note = ""
        self.held_out = True  # False: validate and test on all rows of data that was not trained on
        self._rows: dict[str, Dataset] = {}

    def setup(self, stage: str) -> None:
        """Open the dataset, choose columns and splits; raises `UserError` for what is not there or ambiguous."""
        if stage in self._rows or self.class_names is not None:
            return
        splits = self._open()
        if stage == "predict":
            self._rows["predict"] = self._evaluated(splits, "test")
        elif stage == "fit" or self.held_out:
            self._choose_rows(splits)
        else:
            self._choose_evaluated_rows(splits, stage)
        if stage == "fit" and self.rows("train") < self.hparams["batch_size"]:
            raise UserError(
                f"data.batch_size {self.hparams['batch_size']}: there are only {self.rows('train')} training images; "
                f"allowed are 2 to {self.rows('train')}."
            )

    def _open(self) -> DatasetDict:
        """All splits, with images left encoded; workers decode them."""
        hp: Any = self.hparams
        splits = open_dataset(hp.path, hp.name, hp.revision)
        self._image = image_column(next(iter(splits.values())).features, hp.image_column)
        return splits.cast_column(self._image, Image(decode=False))

    def _evaluated(self, splits: DatasetDict, stage: str) -> Dataset:
        """The split to evaluate on: of the stage's name, else another one for evaluation, else the only one."""
        names = ("test", *VALIDATION_NAMES) if stage == "test" else (*VALIDATION_NAMES, "test")
        split = self.hparams["validation_split"] or next((name for name in names if name in splits), None)
        split = split or next(iter(splits))
        check_split(splits, "data.validation_split", split)
        self.split_note = f"all {len(splits[split])} images of the split '{split}'"
        return splits[split]

    def _choose_evaluated_rows(self, splits: DatasetDict, stage: str) -> None:
        rows = self._evaluated(splits, stage)
        self._label = label_column(rows.features, self.hparams["label_column"])
        encoded, self.class_names = encode_labels(DatasetDict({stage: rows}), self._label)
        self._rows[stage] = encoded[stage]

    def _choose_rows(self, splits: DatasetDict) -> None:
        hp: Any = self.hparams
        used = used_splits(splits, hp.train_split, hp.validation_split)
        self._label = label_column(used[hp.train_split].features, hp.label_column)
        splits, self.class_names = encode_labels(used, self._label)
        train, validation, self.split_note = train_and_validation(
            splits, hp.train_split, hp.validation_split, hp.validation_fraction, self._label, hp.split_seed
        )
        self.split_note += unlabelled_note(used, splits)
        if hp.train_fraction < 1:
            _, train = divide(train, hp.train_fraction, self._label, hp.split_seed)
        self._rows.update(train=train, validate=validation, test=splits.get("test", validation))

    def rows(self, stage: str) -> int:
        """Number of images of `train`, `validate`, `test` or `predict`."""
        return len(self._rows[stage])

    def train_dataloader(self) -> DataLoader[Batch]:
        """A new permutation every epoch; the last, smaller batch is left out, as BatchNorm needs more than one."""
        hp: Any = self.hparams
        dataset = self._dataset("train", train_transform(hp.image_size, hp.crop_pct, hp.augment))
        return self._loader(dataset, sampler=SeededSampler(dataset.rows, self.seed), drop_last=True)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Validation images in their order."""
        return self._eval_loader("validate")

    def test_dataloader(self) -> DataLoader[Batch]:
        """The split `test`, or the validation images where there is none."""
        return self._eval_loader("test")

    def predict_dataloader(self) -> DataLoader[Batch]:
        """The split `test`, else `validation`, else the only one; labels are not needed."""
        return self._eval_loader("predict")

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Normalise the images on the device."""
        return {**batch, "image": normalise(batch["image"], self.mean, self.std)}

    def _eval_loader(self, stage: str) -> DataLoader[Batch]:
        hp: Any = self.hparams
        return self._loader(self._dataset(stage, eval_transform(hp.image_size, hp.crop_pct)))

    def _dataset(self, stage: str, transform: Any) -> ImageDataset:
        return ImageDataset(self._rows[stage], self._image, None if stage == "predict" else self._label, transform)

    def _loader(self, dataset: ImageDataset, **options: Any) -> DataLoader[Batch]:
        hp: Any = self.hparams
        generator = torch.Generator()  # its own, so that starting a loader draws nothing from the run's random numbers
        return DataLoader(
            dataset, batch_size=hp.batch_size, num_workers=self._workers(), generator=generator, **options
        )

    def _workers(self) -> int:
        """`num_workers`, or what suits the device: on a CPU, workers would take the cores from training."""
        workers: int | None = self.hparams["num_workers"]
        if workers is not None:
            return workers
        on_cpu = self.trainer is None or self.trainer.strategy.root_device.type == "cpu"
        return 0 if on_cpu else min(os.cpu_count() or 1, 8)


def _check_settings(hp: Any) -> None:
    """Refuse impossible values before anything is opened."""
    for flag, ok, allowed in (
        ("batch_size", hp.batch_size >= 2, "2 or more (BatchNorm)"),
        ("image_size", hp.image_size >= 1, "1 or more"),
        ("crop_pct", 0 < hp.crop_pct <= 1, "above 0 and at most 1"),
        ("train_fraction", 0 < hp.train_fraction <= 1, "above 0 and at most 1"),
        ("validation_fraction", 0 < hp.validation_fraction < 1, "above 0 and below 1"),
        ("split_seed", hp.split_seed >= 0, "0 or more"),
        ("num_workers", hp.num_workers is None or hp.num_workers >= 0, "0 or more"),
    ):
        if not ok:
            raise UserError(f"data.{flag} {hp[flag]}: allowed is {allowed}.")
