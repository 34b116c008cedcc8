"""Data: opening any image dataset, and the normalization that model, export and card read from here."""

from shvit_pl.data.config import DataConfig
from shvit_pl.data.datamodule import HFImageDataModule

__all__ = ["DataConfig", "HFImageDataModule"]
