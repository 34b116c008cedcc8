"""Write shvit_pl/data/digits.parquet: the UCI handwritten digits as PNG images with class labels.

Usage: python scripts/make_digits.py (needs scikit-learn, whose `load_digits` holds the images).
"""

from pathlib import Path

import numpy as np
from datasets import ClassLabel, Dataset, Features, Image
from PIL import Image as PILImage
from sklearn.datasets import load_digits

TARGET = Path(__file__).parents[1] / "shvit_pl" / "data" / "digits.parquet"


def main() -> None:
    """Scale the 17 gray levels to 0..255 and store the 1797 images of 8x8 pixels in their order."""
    digits = load_digits()
    pixels = np.rint(digits.images * 255 / 16).astype(np.uint8)
    features = Features({"image": Image(), "label": ClassLabel(names=[str(name) for name in digits.target_names])})
    rows = {"image": [PILImage.fromarray(image) for image in pixels], "label": digits.target.tolist()}
    Dataset.from_dict(rows, features=features).to_parquet(TARGET)


if __name__ == "__main__":
    main()
