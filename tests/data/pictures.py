"""Pictures for the tests, as they are stored, datasets of them, and datasets that the tests look into."""

from io import BytesIO

import numpy as np
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image
from PIL import Image as PILImage

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


def open_dataset(path, name=None):
    """All splits, of stored rows."""
    return DatasetDict(open_source(path, name).splits)
