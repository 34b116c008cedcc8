"""Several datasets as one: classes are joined by name, and each has its own images to train on and to validate."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from datasets import Dataset, DatasetDict, Image, Value, concatenate_datasets

from shvit_pl.data import folds, splits, tables
from shvit_pl.data.config import DataConfig
from shvit_pl.data.opening import Opened, open_source
from shvit_pl.errors import UserError, error_prefix, first_names

_TRAIN, _VALIDATION, _TEST = "train", "validation", "test"
_IMAGE, _LABEL = "image", "label"


def choose_rows(config: DataConfig, stage: str, held_out: bool, known: Sequence[str] = ()) -> splits.ChosenRows:
    """Open all datasets of `data.path`, and choose as `splits.choose_rows` does of one.

    The classes are those of the first dataset, in its order, then the new ones of the second, and so on. A dataset
    without a validation split, where others have one, has a part of its own held out. Raises `UserError` for a dataset
    that can't be opened, or has no labels.
    """
    if isinstance(config.path, str):
        return splits.choose_rows(config, stage, held_out, known)
    opened = [open_source(replace(config, path=path), sort=stage != "predict") for path in config.path]
    trains = stage == "fit" or (stage != "predict" and held_out and all(config.train_split in o.splits for o in opened))
    parts, names = list[dict[str, Dataset]](), list[list[str]]()
    for path, one in zip(config.path, opened, strict=True):
        with error_prefix(f"data.path {config.path}, in {path!r}: "):
            rows, classes = _of_one(one, replace(config, path=path), stage, trains)
        parts.append(rows)
        names.append(classes)
    classes = list(dict.fromkeys(name for own in names for name in own))
    # before rows are selected: of a selection, all images would be written anew
    parts = [
        {name: splits.numbered(rows, _LABEL, classes) if classes else rows for name, rows in part.items()}
        for part in parts
    ]
    without = []
    if trains and config.fold is None and any(_VALIDATION in part for part in parts):
        without = [number for number, part in enumerate(parts) if _VALIDATION not in part]
        parts = [_divided(part, config) if number in without else part for number, part in enumerate(parts)]
    whole = _joined(parts)
    sources = [_facts(*each, classes) for each in zip(config.path, opened, parts, names, strict=True)]
    commits = [one.commit for one in opened if one.commit]
    columns: dict[str, Any] = {"image_column": _IMAGE, "label_column": None, "delimiter": None, "root": None}
    columns |= {"train_split": _TRAIN, "validation_split": None, "path": joined_path(config.path)}
    commit, files = "+".join(commits) or None, "; ".join(filter(None, (one.files for one in opened)))
    joined = Opened(whole, commit, files, found=True)
    chosen = splits.choose_opened(joined, replace(config, **columns), stage, trains, known)
    held_out_of = first_names([config.path[number] for number in without])
    note = f"; {config.validation_fraction:.0%} of {held_out_of} held out (seed {config.split_seed})" * bool(without)
    return replace(chosen, sources=tuple(sources), note=f"{chosen.note}{note}", divided=chosen.divided or bool(without))


def joined_path(path: str | list[str]) -> str:
    """Return the path of a dataset, or those of several in one line."""
    return path if isinstance(path, str) else f"{len(path)} datasets: {' + '.join(path)}"


def described(source: dict[str, Any]) -> str:
    """Return a source's name, images and classes in a line."""
    version = f" at {source['commit'][:7]}" if source["commit"] else ""
    parts = [f"{source['path']}{version}: {source['images']} images"]
    parts += [f"{source['classes']} class{'es' * (source['classes'] != 1)}"] if source["classes"] else []
    parts += [f"without {first_names(source['lacks'])}"] if source["lacks"] else []
    return ", ".join(parts)


def _of_one(opened: Opened, config: DataConfig, stage: str, trains: bool) -> tuple[dict[str, Dataset], list[str]]:
    """Return one dataset's rows by `train`, `validation` and `test`, with the columns of all, and its classes."""
    every = DatasetDict(opened.splits)
    first = config.train_split if trains else splits.evaluated_split(every, config, stage)
    splits.check_split(every, "data.train_split" if trains else "data.validation_split", first)
    validation = config.validation_split or splits.validation_name(every, first)
    if trains and config.validation_split is not None:
        splits.check_split(every, "data.validation_split", config.validation_split, first)
    used = {first: _TRAIN if trains else _TEST if stage == "test" else _VALIDATION}
    if trains:
        used |= {name: kind for name, kind in ((validation, _VALIDATION), ("test", _TEST)) if name in every and name}
    image = splits.image_column(every[first].features, config.image_column)
    kept = DatasetDict({name: every[name] for name in used if len(every[name])}).cast_column(image, Image(decode=False))
    if not opened.found and stage != "predict":
        tables.check_files(str(config.path), kept, image)
    if stage == "predict":
        return {_TEST: kept[first].select_columns(image).rename_columns({image: _IMAGE})}, []
    label = splits.label_column(every[first].features, image, config.label_column)
    labeled, classes = splits.encode_labels(kept, label)
    if first not in labeled:
        raise UserError(f"the split {first!r} has no labels. Label it, or leave this dataset out.")
    return {used[name]: _renamed(rows, image, label, config.split_by) for name, rows in labeled.items()}, classes


def _renamed(rows: Dataset, image: str, label: str, group: str | None) -> Dataset:
    """Keep the columns of images, labels and groups, by the names that those of all datasets have."""
    columns = {image: _IMAGE, label: _LABEL}
    if group is None:
        return rows.select_columns([*columns]).rename_columns(columns)
    groups = folds.group_names(rows, group, (image, label))
    named = rows.select_columns([*columns]).rename_columns(columns)
    return named.add_column(group, groups, feature=Value("string"))


def _joined(parts: Sequence[dict[str, Dataset]]) -> dict[str, Dataset]:
    """Return the rows of all datasets by split."""
    names = [name for name in (_TRAIN, _VALIDATION, _TEST) if any(name in part for part in parts)]
    return {name: concatenate_datasets([part[name] for part in parts if name in part]) for name in names}


def _divided(part: dict[str, Dataset], config: DataConfig) -> dict[str, Dataset]:
    """Hold out a part of the training images of a dataset without a validation split."""
    rows = part[_TRAIN]
    if config.split_by is None:
        trained, validated = splits.divide(rows, config.validation_fraction, _LABEL, config.split_seed)
    else:
        labels = splits.class_indices(rows, _LABEL)
        trained, validated, _ = folds.divided(rows, _TRAIN, labels, config, (_IMAGE, _LABEL))
    return {**part, _TRAIN: trained, _VALIDATION: validated}


def _facts(
    path: str, opened: Opened, parts: dict[str, Dataset], names: Sequence[str], classes: Sequence[str]
) -> dict[str, Any]:
    """Return what is known of one of the datasets, for `summary.json`."""
    return {
        "path": path,
        "commit": opened.commit,
        "images": sum(map(len, parts.values())),
        "classes": len(names),
        "lacks": [name for name in classes if name not in names],
    }
