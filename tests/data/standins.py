"""Tiny stand-ins for the datasets of `cli_configs/data/`: configurations, splits, columns and quirks of the real ones.

Every one is a dictionary of file names and contents, as `tests.hub_server.HubServer.commit` takes it.
"""

import json
from functools import partial
from io import BytesIO

import yaml
from datasets import ClassLabel, Dataset, Features, Image
from PIL import Image as PILImage

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


def encoded(shade=0, mode="RGB", size=(40, 32), orientation=None):
    """One image of one color as JPEG, or as PNG where JPEG has no such mode."""
    image = PILImage.new("RGB", size, (shade % 256, shade // 4 % 256, 128)).convert(mode)
    exif = PILImage.Exif()
    if orientation:
        exif[0x0112] = orientation
    buffer = BytesIO()
    image.save(buffer, "PNG" if mode in ("RGBA", "P") else "JPEG", exif=exif)
    return buffer.getvalue()


def card(**configs):
    """A README whose header says which files each configuration has: `default={"train": "data/train-*"}`."""
    header = [
        {"config_name": name, "data_files": [{"split": split, "path": path} for split, path in splits.items()]}
        for name, splits in configs.items()
    ]
    return f"---\n{yaml.safe_dump({'configs': header})}---\n".encode()


def parquet(folder, splits, image, labels, images=None):
    """Parquet files as `push_to_hub` writes them: the first label is as listed, the others are its remainder."""
    features = Features({image: Image(), **{name: ClassLabel(names=list(names)) for name, names in labels.items()}})
    files = {}
    for split, values in splits.items():
        stored = (images or {}).get(split) or [encoded(n) for n in range(len(values))]
        rows = {image: [{"bytes": data, "path": None} for data in stored]}
        rows |= {name: [value % len(own) if value >= 0 else -1 for value in values] for name, own in labels.items()}
        buffer = BytesIO()
        Dataset.from_dict(rows, features=features).to_parquet(buffer)
        files[f"{folder}/{split}-00000-of-00001.parquet"] = buffer.getvalue()
    return files


def with_card(folder, config, splits, *columns):
    """The same with a README that names one configuration."""
    paths = {split: f"{folder}/{split}-*" for split in splits}
    return parquet(folder, splits, *columns) | {"README.md": card(**{config: paths})}


def imagenette():
    """One split, no README, and the `dataset_infos.json` that `push_to_hub` wrote in 2022."""
    features = {
        "image": {"decode": True, "id": None, "_type": "Image"},
        "label": {"num_classes": 10, "names": IMAGENETTE, "id": None, "_type": "ClassLabel"},
    }
    split = {"name": "train", "num_bytes": 1, "num_examples": 120, "dataset_name": "imagenette2-320"}
    infos = {"johnowhitaker--imagenette2-320": {"features": features, "splits": {"train": split}}}
    files = {"dataset_infos.json": json.dumps(infos).encode()}
    return files | parquet("data", {"train": [*range(10)] * 12}, "image", {"label": IMAGENETTE})


def imagenet1k():
    """No test image has a label; validation images are CMYK, gray, palette, RGBA or turned."""
    quirks = [encoded(mode=mode) for mode in ("RGB", "CMYK", "L", "P", "RGBA")]
    quirks += [encoded(orientation=turned, size=(17, 90)) for turned in (3, 6)]
    images = {"train": [encoded()] * 1000, "validation": quirks, "test": quirks}
    splits = {"train": range(1000), "validation": range(7), "test": [-1] * 7}
    return with_card("data", "default", splits, "image", {"label": IMAGENET}, images)


def every(classes, **times):
    """Splits with so many images of each class."""
    return {split: [*range(classes)] * number for split, number in times.items()}


FINE, BREEDS = (
    {"fine_label": CIFAR100, "coarse_label": CIFAR100_COARSE},
    {"label": PETS, "label_cat_dog": ("cat", "dog")},
)
CARDS = {
    "uoft-cs/cifar10": ("plain_text", "plain_text", every(10, train=10, test=1), "img", {"label": CIFAR10}),
    "uoft-cs/cifar100": ("cifar100", "cifar100", every(100, train=2, test=1), "img", FINE),
    "ethz/food101": ("data", "default", every(101, train=1, validation=1), "image", {"label": FOOD101}),
    "timm/oxford-iiit-pet": ("data", "default", every(37, train=3, test=1), "image", BREEDS),
}
DATASETS = {"johnowhitaker/imagenette2-320": imagenette, "ILSVRC/imagenet-1k": imagenet1k}
DATASETS |= {repo: partial(with_card, *content) for repo, content in CARDS.items()}


def splits_of(*names, **splits):
    """Splits of a dataset of these classes, with the labels of their rows: `train=[0, 1, 0]`."""
    return parquet("data", splits, "image", {"label": names})
