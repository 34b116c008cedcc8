"""A hash of the images to train on, by which what is computed of them is kept."""

from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from shvit_pl.data import splits

_HASHED = 256e6  # bytes of images; hashing all of ImageNet at the start of every run would take as long as an epoch


def rows_hash(chosen: splits.ChosenRows) -> str:
    """Return a hash of the training rows that is the same in every process, and wherever the data is kept.

    It covers all labels in their order, the size of every stored image, and the images' bytes: all of them up to
    256 MB, beyond that as many, evenly spaced.
    """
    rows, column = chosen.by_stage["train"], chosen.image_column
    assert chosen.label_column is not None, "training rows have labels"
    images = rows.data.column(column)  # also those that no row selects
    sizes = pc.fill_null(pc.binary_length(pc.struct_field(images, "bytes")), -1).to_numpy().astype(np.int64)
    if (sizes < 0).any():  # only the paths of files are stored
        paths = [path and Path(path) for path in pc.struct_field(images, "path").to_pylist()]
        files = [path.stat().st_size if path and path.is_file() else -1 for path in paths]
        sizes = np.where(sizes < 0, files, sizes)
    digest = sha256(splits.class_indices(rows, chosen.label_column).tobytes() + sizes.tobytes())
    hashed = min(len(rows), int(_HASHED / max(1.0, sizes.mean())))
    for index in np.linspace(0, len(rows) - 1, hashed).astype(int).tolist():
        image = rows[index][column] or {}
        path = Path(image.get("path") or "")
        digest.update(image.get("bytes") or (path.read_bytes() if path.is_file() else b""))
    return digest.hexdigest()
