"""Crops of pictures: no pixel is in a training crop and in a validation crop."""

import numpy as np
import pytest
from PIL import Image

from benchmarks.photo_crops import GAP, PHOTOGRAPHS, SIDES, boxes, main, parts, pictures
from shvit_pl.data.datamodule import HFImageDataModule
from shvit_pl.errors import UserError

pytest.importorskip("skimage")


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_training_and_validation_crops_share_no_pixel(name):
    width, height = Image.open(pictures() / name).size
    seen = np.zeros((2, height, width), bool)
    generator = np.random.default_rng(0)
    for split, part in enumerate(parts(width, height)):
        for left, upper, right, lower in boxes(part, 300, generator):
            assert 0 <= left < right <= width
            assert 0 <= upper < lower <= height
            assert SIDES[0] <= right - left == lower - upper <= SIDES[1]
            seen[split, upper:lower, left:right] = True
    columns = [np.flatnonzero(of_split.any(axis=0)) for of_split in seen]
    assert columns[1].min() - columns[0].max() > GAP
    assert seen.mean() > 0.35  # of the two halves of all pixels: the crops are all over them


def test_the_folder_is_read_as_it_is_and_depends_on_the_seed_alone(tmp_path):
    for folder, changes in (("crops", {}), ("again", {}), ("gray", {"gray": True}), ("other", {"seed": 1})):
        main(tmp_path / folder, crops=2, validation_crops=1, size=16, **changes)
    files = sorted(path.relative_to(tmp_path / "crops") for path in (tmp_path / "crops").rglob("*.png"))
    assert len(files) == 15 * 3
    for file in files:
        assert (tmp_path / "crops" / file).read_bytes() == (tmp_path / "again" / file).read_bytes()
    gray, first, second = (Image.open(tmp_path / f / "train/coffee/0000.png") for f in ("gray", "crops", "other"))
    assert (gray.mode, first.mode) == ("L", "RGB")
    assert np.abs(np.asarray(first, int) - np.asarray(second, int)).max() > 20
    data = HFImageDataModule(path=str(tmp_path / "crops"), batch_size=4)
    data.setup("fit")
    assert (data.rows("train"), data.rows("validate"), len(data.class_names)) == (30, 15, 15)
    with pytest.raises(UserError, match="not empty"):
        main(tmp_path)
