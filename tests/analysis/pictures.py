"""Is a picture there, and is something on it?"""

import numpy as np
from PIL import Image


def colors(path):
    """The number of distinct colors that cover more than a thousandth of a picture."""
    pixels = np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3)
    _, counts = np.unique(pixels, axis=0, return_counts=True)
    return int((counts > len(pixels) / 1000).sum())
