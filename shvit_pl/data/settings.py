"""The data module's settings, checked before anything is opened."""

from __future__ import annotations

from typing import Any

from shvit_pl.cores import cores_of_process
from shvit_pl.errors import UserError

OF_COLUMNS = ("image_column", "label_column")
OF_ROWS = (  # which images are trained on and which are held out
    "path",
    "name",
    "revision",
    "train_split",
    "validation_split",
    "validation_fraction",
    "train_fraction",
    "split_seed",
)
OF_ONE_DATASET = (
    "name",
    "revision",
    *OF_COLUMNS,
    "train_split",
    "validation_split",
    "train_fraction",
    "streaming",
    "steps_per_epoch",
)


def check_settings(hp: Any) -> None:
    """Raise `UserError` for a value that is impossible, or that contradicts another one."""
    most = max(32, 4 * cores_of_process())
    for flag, ok, allowed in (
        ("batch_size", hp.batch_size >= 2, "2 or more (BatchNorm)"),
        ("image_size", hp.image_size == "auto" or hp.image_size >= 1, "1 or more, or auto"),
        ("crop_pct", 0 < hp.crop_pct <= 1, "above 0 and at most 1"),
        ("train_fraction", 0 < hp.train_fraction <= 1, "above 0 and at most 1"),
        ("validation_fraction", 0 < hp.validation_fraction < 1, "above 0 and below 1"),
        ("split_seed", hp.split_seed >= 0, "0 or more"),
        ("color_jitter", hp.color_jitter >= 0, "0 (none) or more, such as 0.3"),
        ("erasing", 0 <= hp.erasing <= 1, "from 0 (never) to 1 (always)"),
        ("repeats", hp.repeats >= 1, "1 (none) or more; the paper's recipe has 3"),
        ("shuffle_buffer", hp.shuffle_buffer >= 1, "1 or more"),
        ("prefetch", hp.prefetch >= 1, "1 batch per worker, or more"),
        ("num_workers", hp.num_workers is None or 0 <= hp.num_workers <= most, f"0 to {most}"),
    ):
        if not ok:
            raise UserError(f"data.{flag} {hp[flag]}: allowed is {allowed}.")
    _check_stream(hp)
    if hp.augment_on == "device" and not can_move(hp):
        setting = f"data.augment {hp.augment}" if hp.augment != "crop" else f"data.auto_augment {hp.auto_augment}"
        raise UserError(
            f"data.augment_on device: {setting} works in the workers alone; only the crop, the flip and color_jitter "
            "can move. Set --data.augment crop and --data.auto_augment null, or leave augment_on out."
        )


def check_batch_size(hp: Any, images: int) -> None:
    """Raise `UserError` where so many training images make no batch."""
    if images < 2:
        raise UserError(
            f"data.validation_fraction {hp['validation_fraction']}: with data.train_fraction {hp['train_fraction']} it "
            f"leaves {images} image to train on, and BatchNorm needs 2 or more."
        )
    if images < hp["batch_size"]:
        raise UserError(
            f"data.batch_size {hp['batch_size']}: there are only {images} training images; allowed are 2 to {images}."
        )


def can_move(hp: Any) -> bool:
    """Whether the device can augment as these settings say: timm's policies are for PIL images."""
    return hp["augment"] == "crop" and hp["auto_augment"] is None


def _check_stream(hp: Any) -> None:
    steps = hp.steps_per_epoch
    if not hp.streaming:
        if steps is not None:
            raise UserError(f"data.steps_per_epoch {steps}: it belongs to --data.streaming true; leave it out.")
        return
    if steps is None or steps < 1:
        raise UserError(
            f"data.steps_per_epoch {steps}: a stream has no length; say how many steps make an epoch, 1 or more "
            "(images of the dataset / global batch)."
        )
    for flag, ok in (("train_fraction", hp.train_fraction == 1), ("repeats", hp.repeats == 1)):
        if not ok:
            raise UserError(f"data.{flag} {hp[flag]}: of a stream it can only be 1. Set --data.streaming false.")
