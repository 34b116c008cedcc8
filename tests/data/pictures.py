"""Pictures for the tests, as they are stored."""

from io import BytesIO

import numpy as np
from PIL import Image


def photo(width=90, height=70, seed=0):
    """Smooth noise over the whole range, with a saturated part: resizing and compression meet what photographs hold."""
    generator = np.random.default_rng(seed)
    coarse = Image.fromarray(generator.integers(0, 256, (7, 9, 3), dtype=np.uint8)).resize((width, height), 3)
    noise = generator.normal(0, 12, (height, width, 3))
    return Image.fromarray((1.3 * (np.asarray(coarse, float) - 128) + 128 + noise).clip(0, 255).astype(np.uint8))


def encoded(image, form, **options):
    """The picture as a file's bytes."""
    file = BytesIO()
    image.save(file, form, **options)
    return file.getvalue()
