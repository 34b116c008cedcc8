"""Other libraries still have the private API that is used here."""

from argparse import ArgumentParser

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Value

from shvit_pl import compat


def test_parser_actions_are_its_options():
    parser = ArgumentParser()
    parser.add_argument("--name")
    assert [action.dest for action in compat.parser_actions(parser)] == ["help", "name"]


@pytest.mark.parametrize("seed", [0, 7])
def test_stratified_indices_are_those_of_datasets_public_split(seed):
    labels = np.array([0] * 31 + [1] * 17 + [2] * 9)
    features = Features({"label": ClassLabel(num_classes=3), "index": Value("int64")})
    rows = Dataset.from_dict({"label": labels, "index": np.arange(len(labels))}, features=features)
    parts = rows.train_test_split(test_size=18, seed=seed, stratify_by_column="label")
    found = compat.stratified_indices(labels, (len(labels) - 18, 18), np.random.default_rng(seed))
    for part, indices in zip(("train", "test"), found, strict=True):
        assert parts[part]["index"][:] == indices.tolist()


def test_a_builder_that_is_not_of_the_cache_stays_as_it_is():
    """Of the cache: tests/data/test_hub.py, where the version that was asked for comes from it."""
    builder = object()
    assert compat.at_cached_commit(builder, "user/name", "0123") is builder
