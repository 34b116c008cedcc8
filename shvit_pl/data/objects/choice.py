"""Which images with objects train, validate and are tested, and the classes that they share."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, DatasetDict, Image

from shvit_pl.data.folders import readable_endings
from shvit_pl.data.objects.config import SCENES, ObjectsConfig
from shvit_pl.data.objects.fields import NoObjectsError
from shvit_pl.data.objects.layout import Objects
from shvit_pl.data.objects.opening import check_path, open_objects
from shvit_pl.data.objects.scenes import EVALUATED_SCENES, HELD_OUT, Scenes
from shvit_pl.data.opening import open_source
from shvit_pl.data.splits import all_of, check_split, evaluated_split, image_column, validation_name
from shvit_pl.errors import UserError, first_line

_DIGITS = [str(digit) for digit in range(10)]


@dataclass(frozen=True)
class ChosenObjects(Objects):
    """Images with objects, and the rows of a stage."""

    by_stage: dict[str, Any] = field(default_factory=dict)
    """Rows of `train`, `validate`, `test`, `predict`, as far as the stage needs them."""
    image_column: str = "image"
    """The column of encoded images."""
    note: str = ""
    """A sentence about where the evaluated rows come from."""
    divided: bool = False
    """True if the validation rows are a part of the training split."""
    test_split: str = "test"
    """The split of the rows of `test`."""
    scenes: dict[str, Scenes] = field(default_factory=dict)
    """What draws the rows of a stage, instead of reading them."""


def choose_objects(config: ObjectsConfig, stage: str, held_out: bool, known: Sequence[str] = ()) -> ChosenObjects:
    """Open the dataset and choose rows for a stage: fit, validate, test or predict.

    With `held_out`, the data is what the model trained on, of which a part may be held out; otherwise all rows of the
    evaluated split count, and their classes are found by name among `known` ones. Raises `UserError` for what is not
    there, or ambiguous.
    """
    if config.path == SCENES:
        return _scenes(config, stage)
    if stage == "predict":
        return _to_predict(config)
    chosen = ChosenObjects(**vars(open_objects(config, [] if stage == "fit" else known)))
    has_training = config.train_split in chosen.splits or config.train_split != "train"  # a wrong name is refused
    if stage == "fit" or (held_out and has_training):
        return _trained_on(chosen, config)
    split = evaluated_split(chosen.splits, config, stage)
    check_split(chosen.splits, "data.validation_split", split)
    rows = chosen.splits[split]
    return replace(chosen, by_stage={stage: rows}, note=all_of(rows, split))


def _trained_on(chosen: ChosenObjects, config: ObjectsConfig) -> ChosenObjects:
    """Choose the rows of a training, and those that are held out from it."""
    found, train = chosen.splits, config.train_split
    check_split(found, "data.train_split", train)
    validation = config.validation_split or validation_name(found, train)
    rows = found[train]
    if validation is not None:
        check_split(found, "data.validation_split", validation, train)
        evaluated, note = found[validation], f"validation on the split '{validation}'"
    else:
        share, seed = config.validation_fraction, config.split_seed
        evaluated, rows = _divided(rows, share, seed, "data.validation_fraction")
        note = f"no validation split: {share:.0%} of '{train}' held out (seed {seed})"
    if ceil(config.train_fraction * len(rows)) < len(rows):
        rows, _ = _divided(rows, config.train_fraction, config.split_seed, "data.train_fraction")
    for name, part in (("training", rows), ("validation", evaluated)):
        if not learned_of_each(part).any():
            if _entries_of_each(part).any():
                raise UserError(
                    f"data.crowd ignore: all objects of the {len(part)} {name} images are crowds (iscrowd 1), which "
                    "are neither trained on nor measured. If they are objects, give --data.crowd object."
                )
            raise UserError(
                f"data.path {config.path!r}: none of the {len(part)} {name} images has an object ({note}). Give a "
                f"split with objects by --data.{'train' if part is rows else 'validation'}_split, or more images."
            )
    if not config.keep_empty:
        rows = rows.select(np.flatnonzero(_entries_of_each(rows)))
    by_stage = {"train": rows, "validate": evaluated}
    if "test" in found and train != "test":
        by_stage["test"] = found["test"]
    return replace(chosen, by_stage=by_stage, note=note, divided=validation is None)


def _divided(rows: Dataset, fraction: float, seed: int, flag: str) -> tuple[Dataset, Dataset]:
    """Divide rows at random, the first part being `fraction` of them; raises `UserError` for an empty part."""
    first = ceil(fraction * len(rows))
    if len(rows) < 2:
        raise UserError(f"{flag} {fraction}: there is only {len(rows)} image to divide. Give more, or a second split.")
    if round(fraction * len(rows)) < 1 or first == len(rows):
        raise UserError(
            f"{flag} {fraction}: of {len(rows)} images, one part would be empty; allowed are {1 / len(rows):.3g} to "
            f"{1 - 1 / len(rows):.3g}."
        )
    drawn = np.random.default_rng(seed).permutation(len(rows))
    return rows.select(np.sort(drawn[:first])), rows.select(np.sort(drawn[first:]))


def objects_of(rows: Dataset) -> Any:
    """Return the column of objects, as Arrow."""
    return rows.select_columns("objects").with_format("arrow")[:]["objects"].combine_chunks()


def _entries_of_each(rows: Dataset) -> Any:
    """Return the number of objects and crowds of each image."""
    return np.diff(objects_of(rows).field("category").offsets.to_numpy())


def learned_of_each(rows: Dataset) -> Any:
    """Return the number of objects of each image that are no crowds."""
    crowds = objects_of(rows).field("iscrowd")
    before = np.concatenate([[0], np.cumsum(~crowds.values.to_numpy(zero_copy_only=False))])
    return np.diff(before[crowds.offsets.to_numpy()])


def _to_predict(config: ObjectsConfig) -> ChosenObjects:
    """Choose images; where they are annotated, with their ids."""
    check_path(config.path)
    unused = ""
    try:
        if Path(config.path).suffix.lower() in readable_endings():
            raise NoObjectsError(config.path)  # an image alone
        objects = open_objects(config)
        split = evaluated_split(objects.splits, config, "predict")
        check_split(objects.splits, "data.validation_split", split)
        rows = objects.splits[split].remove_columns("objects")
        return ChosenObjects(
            by_stage={"predict": rows}, note=all_of(rows, split), commit=objects.commit, files=objects.files
        )
    except NoObjectsError:
        pass
    except UserError as error:  # objects are not needed
        unused = f"; its annotations and their ids are not used: {first_line(error)}"
    source = open_source(config, sort=config.validation_split is not None)
    found = DatasetDict(source.splits)
    split = evaluated_split(found, config, "predict")
    check_split(found, "data.validation_split", split)
    column = image_column(found[split].features, config.image_column)
    rows = found[split].select_columns(column).cast_column(column, Image(decode=False))
    note = (all_of(rows, split) if len(found) > 1 else f"{len(rows)} images") + unused
    return ChosenObjects(
        by_stage={"predict": rows}, image_column=column, note=note, commit=source.commit, files=source.files
    )


def _scenes(config: ObjectsConfig, stage: str) -> ChosenObjects:
    drawn, held_out = Scenes(held_out=False), Scenes(held_out=True)
    first, second = (
        [{"number": start + number} for number in range(EVALUATED_SCENES)] for start in (0, EVALUATED_SCENES)
    )
    return ChosenObjects(
        class_names=None if stage == "predict" else _DIGITS,
        category_ids=list(range(len(_DIGITS))),
        has_masks=True,
        by_stage={
            "train": [{"number": number} for number in range(config.scenes)],
            **{"validate": first, "test": second, "predict": second},
        },
        note=f"validation on scenes of every {HELD_OUT}th digit, which are not trained on; training scenes are new in "
        "each epoch",
        scenes={"train": drawn, **dict.fromkeys(("validate", "test", "predict"), held_out)},
    )
