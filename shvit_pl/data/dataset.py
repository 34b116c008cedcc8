"""Rows of a Hugging Face dataset as decoded, transformed images."""

from __future__ import annotations

from typing import Any

import torch
from datasets import Dataset

from shvit_pl.data.decode import decode
from shvit_pl.data.samplers import Draw


class ImageDataset(torch.utils.data.Dataset[dict[str, Any]]):
    """Decoded and transformed rows: `image` uint8 `(3, S, S)`, `label` (where there is one), `file`.

    Index it with a row number, or with a `Draw` for a reproducible augmentation.
    """

    def __init__(self, rows: Dataset, image_column: str, label_column: str | None, transform: Any) -> None:
        self.rows = rows
        self.image_column = image_column
        self.label_column = label_column
        self.transform = transform

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, draw: int | Draw) -> dict[str, Any]:
        index, seed = draw if isinstance(draw, tuple) else (draw, 0)
        row = self.rows[index]
        file = row[self.image_column]["path"] or f"row {index}"
        image = decode(row[self.image_column], file)
        with torch.random.fork_rng(devices=[]):
            torch.random.default_generator.manual_seed(seed)
            item = {"image": self.transform(image), "file": file}
        if self.label_column is not None:
            item["label"] = row[self.label_column]
        return item
