"""The data module of detection: images with objects in any common format, or scenes of the embedded digits.

The way of an image: `open_objects` brings a dataset into the one layout; `choose_objects` divides its rows. A sampler
draws rows, each with a key; a worker's `ObjectReader` decodes the image, resizes and flips it with its boxes and masks,
as uint8. The batch is padded and copied to the device, where it is normalized:

    opening.open_objects -> choice.choose_objects -> loaders.ImageDataset -> reading.ObjectReader
    -> reading.collate -> reading.finish -> step
"""

from collections.abc import Iterator, Sequence, Sized
from itertools import chain
from math import ceil
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from shvit_pl.data import loaders, splits
from shvit_pl.data.base import DataModule, counted_classes, described, stage_of
from shvit_pl.data.objects import reading
from shvit_pl.data.objects.choice import choose_objects, learned_of_each, objects_of
from shvit_pl.data.objects.config import ObjectsConfig
from shvit_pl.data.transforms import Batch
from shvit_pl.errors import UserError

_SAMPLE, _SCENES = 1000, 50  # images whose objects stand for all


class ObjectsDataModule(DataModule):
    """Images with objects, and the normalization that goes with them.

    Batches hold `image` (float32 `(B, 3, H, W)`, normalized on the device and padded), `sizes` (height and width of
    each before), `file`, `broken`, `size` of the original, `image_id` (as JSON), `counted` (False: not to be
    evaluated), and `objects` to train on or `truth` to evaluate, as `reading` describes them. Settings are an
    `ObjectsConfig`, or its fields.
    """

    settings_type, counts = ObjectsConfig, "objects"
    config: ObjectsConfig
    with_masks = False
    """Give masks; the module sets it."""

    # ---- the dataset

    def setup(self, stage: str | None = None) -> None:
        """Open the dataset, and choose rows; raises `UserError` for what is not there or ambiguous.

        Stages are fit (also for None), validate, test and predict.
        """
        stage = stage_of(stage)
        shared = self.held_out and stage != "predict"  # all such stages divide the same rows
        key = "fit" if shared else stage
        if key not in self._by_stage:
            self._by_stage[key] = choose_objects(self.config, stage, self.held_out, self.known_classes)
            if self.config.intensity_range is None and not self._by_stage[key].scenes:
                self._warn_of_dark_images(self._by_stage[key])
        chosen = self._by_stage[key]
        if shared and "train" not in chosen.by_stage:  # only to be evaluated
            self._by_stage[stage] = self._by_stage.pop(key)
        elif stage == "test" and shared:
            named = self.config.validation_split is not None and not self.has_chosen
            chosen = splits.tested(chosen, self.config, named and "test" not in chosen.by_stage)
        self._chosen = chosen
        self.has_chosen = self.has_chosen or stage == "fit"
        if stage == "fit" and (images := len(self._chosen.by_stage["train"])) < self.config.batch_size:
            raise UserError(
                f"data.batch_size {self.config.batch_size}: there are only {images} training images; allowed are 1 to "
                f"{images}."
            )

    @property
    def category_ids(self) -> list[int]:
        """The dataset's own number of each class."""
        return list(self.chosen.category_ids or range(len(self.class_names or ())))

    @property
    def side(self) -> int:
        """The shorter side of an image in pixels."""
        return self.config.min_size

    @property
    def batches_of_epoch(self) -> int:
        """Batches that an epoch of one process trains on."""
        return (self.rows("train") or 0) // self.config.batch_size

    def rows(self, stage: str) -> int | None:
        """Return the number of images of `train`, `validate`, `test` or `predict`."""
        with self._set_up_for(stage):
            return len(self.chosen.by_stage[stage])

    def facts(self) -> dict[str, Any]:
        """Return what is known of the dataset of a training, for `summary.json`."""
        chosen, config = self.chosen, self.config
        names = ("path", "name", "revision", "train_fraction", "min_size", "max_size", "scales", "flip")
        return {
            **{name: getattr(config, name) for name in names},
            "image_size": config.min_size,
            "commit": chosen.commit,
            "train_images": self.rows("train"),
            "validation_images": self.rows("validate"),
            "objects_per_class": self.per_class(),
            "category_ids": self.category_ids,
            "annotations": chosen.counts,
            "notes": chosen.notes,
            "validation": chosen.note,
            "files": chosen.files or None,
        }

    def table(self, facts: dict[str, Any]) -> dict[str, str]:
        """Return the rows of a run's table that are about the data, by what is known of it."""
        scales = f", drawn from {facts['scales']}" if facts["scales"] else ""
        flip = f"flipped with probability {facts['flip']:g}" if facts["flip"] else "not flipped"
        counts = counted_classes(self.class_names or [], facts["objects_per_class"], "training objects")
        return {
            "data": f"{described(facts)}, {counts}",
            "": facts["validation"],
            **({"files": facts["files"]} if facts["files"] else {}),
            **({"boxes": "; ".join(facts["notes"])} if facts["notes"] else {}),
            "images": f"shorter side {facts['min_size']} px, longer one at most {facts['max_size']}{scales}; {flip}",
        }

    def per_class(self) -> list[int] | None:
        """Return the number of objects of each class to train on; None for scenes, which are new in each epoch."""
        if self.chosen.scenes:
            return None
        objects = objects_of(self.chosen.by_stage["train"])
        crowds = objects.field("iscrowd").flatten().to_numpy(zero_copy_only=False)
        categories = objects.field("category").flatten().to_numpy()[~crowds]
        return np.bincount(categories, minlength=len(self.class_names or ())).tolist()

    def sampled_objects(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return objects of up to 1000 images to train on, evenly chosen (of scenes: 50).

        These are boxes `(N, 4)` in pixels of the resized images, labels `(N,)`, and the images' heights and widths
        `(N, 2)`. Crowds are left out.
        """
        rows, found = self.chosen.by_stage["train"], []
        scenes = self.chosen.scenes.get("train")
        if scenes is not None:
            drawn = [scenes.draw((0, number)) for number in range(min(len(rows), _SCENES))]
            images = [(*pixels.shape[1:], objects) for pixels, objects in drawn]
        else:
            places = np.flatnonzero(learned_of_each(rows))
            chosen = rows.select(places[:: ceil(len(places) / _SAMPLE)]).select_columns(["height", "width", "objects"])
            images = [(row["height"], row["width"], reading.columns_of(row["objects"])) for row in chosen]
        for height, width, objects in images:
            sides = reading.resized_sides(height, width, self.config.min_size, self.config.max_size)
            boxes = objects["boxes"] * torch.tensor([sides[1] / width, sides[0] / height]).repeat(2)
            learned = ~objects["iscrowd"]
            found.append(
                (boxes[learned], objects["labels"][learned], torch.tensor(sides).expand(int(learned.sum()), 2))
            )
        boxes, labels, sizes = (torch.cat(each) for each in zip(*found, strict=True))
        return boxes, labels, sizes

    # ---- loaders

    def train_dataloader(self) -> DataLoader[Batch]:
        """Load a new permutation every epoch, without its last, smaller batch."""
        with self._set_up_for("train"):
            rows = self._counted("train")
            return loaders.EpochLoader(
                loaders.ImageDataset(rows, self.reader("train"), training=True),
                sampler=self._sampler(rows),
                progress=lambda: self._batches("current"),
                drop_last=True,
                collate_fn=reading.collate,
                **self._options(),
            )

    def _sampler(self, rows: Any) -> loaders.TrainSampler:
        if self.chosen.scenes or not self.config.group_by_aspect_ratio:
            return loaders.TrainSampler(rows, self.seed)
        sizes = rows.select_columns(["width", "height"]).with_format("numpy")[:]
        return GroupedSampler(rows, self.seed, self.config.batch_size, sizes["height"] > sizes["width"])

    def _eval_loader(self, stage: str) -> DataLoader[Batch]:
        with self._set_up_for(stage):
            dataset = loaders.ImageDataset(self._counted(stage), self.reader(stage))
            sampler = loaders.EvalSampler(dataset.rows)
            return DataLoader(dataset, sampler=sampler, collate_fn=reading.collate, **self._options())

    def reader(self, stage: str) -> Any:
        """Return what makes items of a stage's rows."""
        return reading.ObjectReader(
            self.config, stage == "train", self.chosen.image_column, self.with_masks, self.chosen.scenes.get(stage)
        )

    # ---- batches

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Finish the batch on the device."""
        return reading.finish(batch, self.mean, self.std)


class GroupedSampler(loaders.TrainSampler):
    """The same permutation, in which the rows of a batch are of one group, such as images that all lie or all stand.

    A batch has its place where its last row has it; the last batches of an epoch hold what is left of all groups.
    `groups` are booleans by row.
    """

    def __init__(self, rows: Sized, seed: int, batch_size: int, groups: Sequence[bool]) -> None:
        super().__init__(rows, seed)
        self.batch_size, self.groups = batch_size, groups

    def _rows(self) -> Iterator[int]:
        waiting: dict[bool, list[int]] = {False: [], True: []}
        for row in super()._rows():
            batch = waiting[bool(self.groups[row])]
            batch.append(row)
            if len(batch) == self.batch_size:
                yield from batch
                batch.clear()
        yield from chain.from_iterable(waiting.values())
