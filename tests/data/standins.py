"""Tiny stand-ins for the datasets of `cli_configs/data/`: configurations, splits, columns and quirks of the real ones.

Every one is a dictionary of file names and contents, as `tests.hub_server.HubServer.commit` takes it.
"""

from __future__ import annotations

import json
from io import BytesIO

import yaml
from datasets import ClassLabel, Dataset, Features, Image
from PIL import Image as PILImage

Files = dict[str, bytes]

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR100 = tuple(f"fine {n}" for n in range(100))
CIFAR100_COARSE = tuple(f"coarse {n}" for n in range(20))
IMAGENETTE = (
    *("n01440764", "n02102040", "n02979186", "n03000684", "n03028079"),
    *("n03394916", "n03417042", "n03425413", "n03445777", "n03888257"),
)
FOOD101 = tuple(f"dish_{n}" for n in range(101))
PETS = tuple(f"breed_{n}" for n in range(37))
IMAGENET = tuple(f"n{n:08}, with a synonym" for n in range(1000))  # the real names hold commas, too


def encoded(shade=0, mode="RGB", size=(40, 32), orientation=None) -> bytes:
    """One image of one color as JPEG, or as PNG where JPEG has no such mode."""
    image = PILImage.new("RGB", size, (shade % 256, shade // 4 % 256, 128)).convert(mode)
    exif = PILImage.Exif()
    if orientation:
        exif[0x0112] = orientation
    buffer = BytesIO()
    image.save(buffer, "PNG" if mode in ("RGBA", "P") else "JPEG", exif=exif)
    return buffer.getvalue()


def card(**configs: dict[str, str]) -> bytes:
    """A README whose header says which files each configuration has: `default={"train": "data/train-*"}`."""
    header = [
        {"config_name": name, "data_files": [{"split": split, "path": path} for split, path in splits.items()]}
        for name, splits in configs.items()
    ]
    return f"---\n{yaml.safe_dump({'configs': header})}---\n".encode()


def _splits(folder: str, splits: dict[str, list[int]], image="image", images=None, **labels: tuple[str, ...]) -> Files:
    """Parquet files as `push_to_hub` writes them: the first label is as given, the others are its remainder."""
    features = Features({image: Image(), **{name: ClassLabel(names=list(names)) for name, names in labels.items()}})
    files = {}
    for split, values in splits.items():
        encoded_images = (images or {}).get(split) or [encoded(n) for n in range(len(values))]
        rows: dict[str, list] = {image: [{"bytes": data, "path": None} for data in encoded_images]}
        for name, names in labels.items():
            rows[name] = [value % len(names) if value >= 0 else -1 for value in values]
        buffer = BytesIO()
        Dataset.from_dict(rows, features=features).to_parquet(buffer)
        files[f"{folder}/{split}-00000-of-00001.parquet"] = buffer.getvalue()
    return files


def _every(classes: tuple[str, ...], times: int) -> list[int]:
    return list(range(len(classes))) * times


def _with_card(folder: str, config: str, splits: dict[str, list[int]], *args, **labels) -> Files:
    """The same with a README that names one configuration."""
    files = {split: f"{folder}/{split}-*" for split in splits}
    return _splits(folder, splits, *args, **labels) | {"README.md": card(**{config: files})}


def cifar10() -> Files:
    """`img`, `label`; one configuration with a name of its own."""
    splits = {"train": _every(CIFAR10, 10), "test": _every(CIFAR10, 1)}
    return _with_card("plain_text", "plain_text", splits, "img", label=CIFAR10)


def cifar100() -> Files:
    """`img` and two label columns."""
    splits = {"train": _every(CIFAR100, 2), "test": _every(CIFAR100, 1)}
    return _with_card("cifar100", "cifar100", splits, "img", fine_label=CIFAR100, coarse_label=CIFAR100_COARSE)


def imagenette() -> Files:
    """`image`, `label`; one split, no README, and the `dataset_infos.json` that `push_to_hub` wrote in 2022."""
    features = {
        "image": {"decode": True, "id": None, "_type": "Image"},
        "label": {"num_classes": 10, "names": IMAGENETTE, "id": None, "_type": "ClassLabel"},
    }
    split = {"name": "train", "num_bytes": 1, "num_examples": 120, "dataset_name": "imagenette2-320"}
    infos = {"johnowhitaker--imagenette2-320": {"features": features, "splits": {"train": split}}}
    files = {"dataset_infos.json": json.dumps(infos).encode()}
    return files | _splits("data", {"train": _every(IMAGENETTE, 12)}, label=IMAGENETTE)


def food101() -> Files:
    """`image`, `label`; the official test images are the split `validation`."""
    return _with_card("data", "default", dict.fromkeys(("train", "validation"), _every(FOOD101, 1)), label=FOOD101)


def oxford_pets() -> Files:
    """`image`, `label` (breeds), `label_cat_dog`."""
    splits = {"train": _every(PETS, 3), "test": _every(PETS, 1)}
    return _with_card("data", "default", splits, label=PETS, label_cat_dog=("cat", "dog"))


def imagenet1k() -> Files:
    """`image`, `label`; no test image has a label; validation images are CMYK, gray, palette, RGBA or turned."""
    quirks = [encoded(mode=mode) for mode in ("RGB", "CMYK", "L", "P", "RGBA")]
    quirks += [encoded(orientation=turned, size=(17, 90)) for turned in (3, 6)]
    images = {"train": [encoded()] * len(IMAGENET), "validation": quirks, "test": quirks}
    splits = {"train": _every(IMAGENET, 1), "validation": list(range(7)), "test": [-1] * 7}
    return _with_card("data", "default", splits, "image", images, label=IMAGENET)


def splits_of(*names: str, **splits: list[int]) -> Files:
    """Splits of a dataset of these classes, with the labels of their rows: `train=[0, 1, 0]`."""
    return _splits("data", splits, label=names)
