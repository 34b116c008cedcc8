"""The data module's settings, checked before anything is opened."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from shvit_pl.command_line import ranges
from shvit_pl.errors import UserError, refuse

EMBEDDED = "digits"
THREE_AUGMENT = "3a"
Augment = Literal["none", "shift", "crop"]
Resize = Literal["crop", "squash"]
Corruption = Literal[
    "gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "snow",
    "frost", "fog", "brightness", "contrast", "elastic_transform", "pixelate", "jpeg_compression",
]  # fmt: skip
CORRUPTIONS: tuple[Corruption, ...] = get_args(Corruption)  # in ImageNet-C's order

_AUGMENTATIONS: dict[Augment, str] = {
    "none": "not augmented",
    "shift": "shifted, with black borders",
    "crop": "random resized crop, flip",
}
COLUMN_SETTINGS = ("image_column", "label_column", "delimiter", "root")
_SPLIT_SETTINGS = ("name", "revision", "train_split", "validation_split", "train_fraction")
_GROUPS = ("split_by", "fold")
ROW_SETTINGS = (  # what is trained on and held out
    *("path", *_SPLIT_SETTINGS, *_GROUPS),
    *("validation_fraction", "split_seed"),
)
DATASET_SETTINGS = (  # not for another dataset
    *(*_SPLIT_SETTINGS, *_GROUPS, *COLUMN_SETTINGS),
    *("streaming", "steps_per_epoch"),
)

_FOLD = re.compile(r"\d{1,9}/\d{1,9}")
_FLOAT = r"\d+(\.\d+)?"
_RAND_AUGMENT = re.compile(rf"rand(-(m(\d|10)|n[1-9]|p(0(\.\d+)?|1)|mstd{_FLOAT}|mmax\d+|inc[01]|t(weights|3a|3aw)))*")


@dataclass(frozen=True)
class SplitConfig:
    """Which images of a dataset train and validate, and how they are loaded."""

    path: str
    name: str | None = None
    """The configuration of a Hub dataset that has several."""
    revision: str | None = None
    """Branch, tag or commit of a Hub dataset."""
    image_column: str | None = None
    """Image column, if the dataset has several."""
    train_split: str = "train"
    """Name of the training split."""
    validation_split: str | None = None
    """Name of the validation split (default: validation, valid, val or dev, the first there)."""
    validation_fraction: ranges.Fraction = 0.2
    """Share of the training split held out where there is no validation split."""
    train_fraction: ranges.Share = 1.0
    """Share of the training images to use."""
    split_seed: ranges.FromZero = 0
    """Seed of both divisions, apart from the run's seed so that runs share their validation images."""
    intensity_range: tuple[float, float] | None = None
    """Intensities that become black and white, for images of more than 8 bits, such as [0, 4095] or [0, 1]."""
    num_workers: ranges.Workers | None = None
    """Worker processes that load images (default: none when training on a CPU, else one per core, 8 at most)."""
    prefetch: ranges.FromOne = 2
    """Batches that each worker loads ahead."""

    def __post_init__(self) -> None:
        mistakes = list(ranges.out_of_range("data", self))
        if self.intensity_range is not None and not self.intensity_range[0] < self.intensity_range[1]:
            given = list(self.intensity_range)
            mistakes.append(f"data.intensity_range {given}: allowed are two rising numbers, such as [0, 4095].")
        refuse([*mistakes, *self._contradictions()])

    def _contradictions(self) -> Iterator[str]:
        """Yield a message for each mistake of a task's own."""
        yield from ()


@dataclass(frozen=True)
class DataConfig(SplitConfig):
    """Data and augmentation."""

    path: list[str] | str = EMBEDDED  # type: ignore[assignment]
    """digits (embedded), a folder of images, a folder or file of parquet or arrow, a table of paths, the id of a Hub
    dataset, or a list of several such, joined by the names of their classes."""
    label_column: str | None = None
    """Label column, if the dataset has several."""
    delimiter: str | None = None
    """What separates the columns of a CSV file, or tab (default: what divides its header)."""
    root: str | None = None
    """Folder where relative paths of a table begin (default: the table's)."""
    split_by: str | None = None
    """Column of groups, such as patients or sites, of which none is both trained on and validated."""
    fold: str | None = None
    """Validate on one part of the training split and train on the others: 2/5 is the second of five folds."""
    image_size: ranges.FromOne | Literal["auto"] = 224
    """Side of the square input in pixels; on the command line also auto: the design's own."""
    crop_pct: ranges.Share = 0.875
    """In evaluation, the side's share of the resized image that the central crop keeps."""
    resize: Resize = "crop"
    """In evaluation, crop (keep the aspect ratio, crop the center) or squash (resize to a square, keep all)."""
    augment: Augment = "crop"
    """none, shift (for digits and the like) or crop (natural images: random resized crop and flip)."""
    auto_augment: str | None = None
    """A policy of timm: rand-m9-mstd0.5-inc1 (the paper's RandAugment), 3a (3-Augment), ..."""
    color_jitter: ranges.NonNegative = 0.0
    """Strength of brightness, contrast and saturation jitter; auto_augment other than 3a turns it off."""
    erasing: ranges.Probability = 0.0
    """Probability of an image to have a rectangle erased (the paper's: 0.25)."""
    sampler: Literal["random", "balanced"] = "random"
    """What an epoch draws: each image once, or as many of each class (balanced; images of small classes often)."""
    repeats: ranges.FromOne = 1
    """Repeated augmentation: copies of each drawn image in an epoch (the paper's: 3)."""
    exif_rotation: bool = False
    """Turn images upright as their EXIF block says; torchvision's ImageFolder and the paper do not."""
    streaming: bool = False
    """Stream the dataset instead of downloading it; needs steps_per_epoch."""
    steps_per_epoch: ranges.FromOne | None = None
    """Batches per process that make an epoch of a stream."""
    shuffle_buffer: ranges.FromOne = 2000
    """Rows of a stream in the buffer that is shuffled."""
    batch_size: ranges.FromTwo = 64
    """Images per step and device."""
    augment_on: Literal["workers", "device"] = "workers"
    """Where training images are cropped, flipped and jittered: workers, or device, where workers are too slow."""

    @property
    def part(self) -> tuple[int, int] | None:
        """The fold, counted from 1, and the number of folds; None without folds."""
        if self.fold is None:
            return None
        number, _, folds = self.fold.partition("/")
        return int(number), int(folds)

    @property
    def side(self) -> int:
        """Side of the square input in pixels; raises `UserError` where it is still auto."""
        if self.image_size == "auto":
            raise UserError("data.image_size auto: from Python, give the side in pixels.")
        return self.image_size

    @property
    def fits_device(self) -> bool:
        """True if the device can do this augmentation; timm's policies are for PIL images."""
        return self.augment == "crop" and self.auto_augment is None

    def augmentation(self, mixing: str = "") -> str:
        """Describe what is done to training images, mixing as given, and to images of an evaluation."""
        parts = [_AUGMENTATIONS[self.augment], self.auto_augment or ""]
        jitters = self.color_jitter and self.auto_augment in (None, THREE_AUGMENT)
        parts.append(f"color jitter {self.color_jitter:g}" if jitters else "")
        parts.append(f"erasing {self.erasing:g}" if self.erasing else "")
        parts.append(f"{self.repeats} repeats" if self.repeats > 1 else "")
        parts.append(mixing)
        evaluated = "squashed to a square" if self.resize == "squash" else "center crop"
        return f"{', '.join(filter(None, parts))}; evaluation: {evaluated}, crop_pct {self.crop_pct:g}"

    def check_batch_size(self, images: int, processes: int = 1) -> None:
        """Raise `UserError` where so many training images, shared by processes, make no batch in each."""
        if images < 2:
            raise UserError(
                f"data.validation_fraction {self.validation_fraction}: with data.train_fraction {self.train_fraction} "
                f"it leaves {images} image to train on, and BatchNorm needs 2 or more."
            )
        share = -(-images // processes)  # the sampler fills up
        if share < self.batch_size:
            each = f" for each of {processes} processes" if processes > 1 else ""
            raise UserError(
                f"data.batch_size {self.batch_size}: there are only {share} training images{each}; allowed are 2 to "
                f"{share}."
            )

    def _contradictions(self) -> Iterator[str]:
        yield from self._sources()
        policy = self.auto_augment  # timm would ignore the parts that it doesn't know
        if policy is not None and policy != THREE_AUGMENT and not _RAND_AUGMENT.fullmatch(policy):
            yield (
                f"data.auto_augment {policy!r}: allowed are timm's 'rand-...', such as 'rand-m9-mstd0.5-inc1', and "
                "'3a'."
            )
        steps = self.steps_per_epoch
        if not self.streaming and steps is not None:
            yield f"data.steps_per_epoch {steps}: only for --data.streaming true; leave it out."
        if self.streaming and steps is None:
            yield (
                "data.steps_per_epoch: a stream has no length; give the number of steps in an epoch (images of the "
                "dataset / global batch)."
            )
        for flag in ("train_fraction", "repeats"):
            if self.streaming and getattr(self, flag) != 1:
                yield (
                    f"data.{flag} {getattr(self, flag)}: streaming requires 1. Leave it out, or set --data.streaming "
                    "false without data.steps_per_epoch."
                )
        yield from self._divisions()
        if self.sampler == "balanced" and (self.streaming or self.repeats > 1):
            other = "streaming true" if self.streaming else f"repeats {self.repeats}"
            yield f"data.sampler balanced: impossible with data.{other}; leave out one of the two."
        if self.augment_on == "device" and not self.fits_device:
            wrong = "augment" if self.augment != "crop" else "auto_augment"
            yield (
                f"data.augment_on device: data.{wrong} {getattr(self, wrong)} works in the workers alone; only the "
                "crop, the flip and color_jitter can move. Set --data.augment crop and --data.auto_augment null, or "
                "leave augment_on out."
            )

    def _divisions(self) -> Iterator[str]:
        """Yield a message for each mistake in folds and groups."""
        numbers = [int(number) for number in (self.fold or "").split("/")] if _FOLD.fullmatch(self.fold or "") else []
        if self.fold is not None and not (numbers and 1 <= numbers[0] <= numbers[1] and numbers[1] >= 2):
            most = numbers[1] if numbers and numbers[1] >= 2 else 5
            yield (
                f"data.fold {self.fold!r}: allowed is a fold and the number of folds, which is 2 or more: 1/{most} to "
                f"{most}/{most}, for example."
            )
        if self.delimiter is not None and len(self.delimiter) != 1 and self.delimiter not in ("tab", "\\t"):
            yield f"data.delimiter {self.delimiter!r}: allowed is one character, such as ';', or tab."
        for flag in _GROUPS:
            if self.streaming and getattr(self, flag) is not None:
                yield (
                    f"data.{flag} {getattr(self, flag)}: a stream can't be divided. Leave it out, or set "
                    "--data.streaming false without data.steps_per_epoch."
                )
        if self.fold is not None and self.validation_split is not None:
            yield (
                f"data.validation_split {self.validation_split!r}: with data.fold {self.fold}, a part of the training "
                "split is validated. Leave out one of the two (--data.fold null)."
            )

    def _sources(self) -> Iterator[str]:
        """Yield a message for each mistake in a list of datasets; make a list of one its dataset."""
        if isinstance(self.path, str):
            return
        if not self.path or "" in self.path:
            yield f"data.path {self.path}: allowed are a dataset, or a list of several, such as [images, more.csv]."
            return
        if len(self.path) == 1:
            object.__setattr__(self, "path", self.path[0])
            return
        places = [os.path.realpath(os.path.expanduser(path)) if path != EMBEDDED else path for path in self.path]
        if len(set(places)) < len(places):
            twice = next(path for path, place in zip(self.path, places, strict=True) if places.count(place) > 1)
            yield f"data.path {self.path}: {twice!r} is in it twice; its images would count double. Keep one."
        for flag in ("name", "revision"):
            if (value := getattr(self, flag)) is not None:
                yield f"data.{flag} {value!r}: it would be of each of {len(self.path)} datasets; leave it out."
        if self.streaming:
            yield (
                f"data.path {self.path}: several datasets can't be streamed. Give one, or set --data.streaming false "
                "without data.steps_per_epoch."
            )
