"""Datasets that the tests look into."""

from datasets import DatasetDict

from shvit_pl.data.opening import open_source


def open_dataset(path, name=None):
    """All splits, of stored rows."""
    return DatasetDict(open_source(path, name).splits)
