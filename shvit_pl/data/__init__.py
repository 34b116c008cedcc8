"""Data: opening any image dataset, and the normalisation that model, export and card read from here."""

from shvit_pl.data.datamodule import HFImageDataModule

__all__ = ["HFImageDataModule"]
