"""Pictures for the tests, as they are stored, datasets of them, and data modules that are ready."""

from io import BytesIO

import numpy as np
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image
from PIL import Image as PILImage

from shvit_pl import HFImageDataModule
from shvit_pl.data.config import DataConfig
from shvit_pl.data.opening import open_source

AB = ClassLabel(names=["a", "b"])


def photo(width=90, height=70, seed=0):
    """Smooth noise over the whole range, with a saturated part: resizing and compression meet what photographs hold."""
    generator = np.random.default_rng(seed)
    coarse = PILImage.fromarray(generator.integers(0, 256, (7, 9, 3), dtype=np.uint8)).resize((width, height), 3)
    noise = generator.normal(0, 12, (height, width, 3))
    return PILImage.fromarray((1.3 * (np.asarray(coarse, float) - 128) + 128 + noise).clip(0, 255).astype(np.uint8))


def encoded(image, form, **options):
    """The picture as a file's bytes."""
    file = BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def rows(labels, feature=AB, **columns):
    """A dataset of one image and one label per row, and further columns given as (values, feature)."""
    values = {"image": [PILImage.new("RGB", (8, 8))] * len(labels), "label": labels}
    values |= {name: column[0] for name, column in columns.items()}
    features = {"image": Image(), "label": feature, **{name: column[1] for name, column in columns.items()}}
    return Dataset.from_dict(values, features=Features(features))


def stored_rows(images, labels, feature=AB):
    """A dataset of encoded images, given as bytes (or None); broken ones carry their row's number as a name."""
    stored = [image and {"bytes": image, "path": f"{number}.png"} for number, image in enumerate(images)]
    return Dataset.from_dict({"image": stored, "label": labels}, features=Features(image=Image(), label=feature))


# ---- what writes a dataset into a folder, and returns its path


def saved(train, **splits):
    """Splits as `save_to_disk` writes them."""

    def write(folder):
        DatasetDict(train=train, **splits).save_to_disk(folder / "data")
        return folder / "data"

    return write


def parquet(train, **splits):
    def write(folder):
        for name, split in {"train": train, **splits}.items():
            split.to_parquet(folder / f"{name}.parquet")
        return folder

    return write


def images(*names):
    def write(folder):
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            PILImage.new("RGB", (8, 8)).save(folder / name)
        return folder

    return write


# ---- what is opened


def ready(stage="fit", **settings):
    """A data module after its `setup`."""
    data = HFImageDataModule(**{"image_size": 32, "batch_size": 4, "num_workers": 0, **settings})
    data.held_out = stage == "fit"
    data.setup(stage)
    return data


def source(path, streaming=False, **settings):
    """A dataset as it is opened."""
    return open_source(DataConfig(path=str(path), **settings), streaming)


def open_dataset(path, name=None):
    """All splits, of stored rows."""
    return DatasetDict(source(path, name=name).splits)
