"""Private API of other libraries, collected so that an upgrade that breaks one breaks a test of this file."""

from __future__ import annotations

from argparse import Action, ArgumentParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def parser_actions(parser: ArgumentParser) -> list[Action]:
    """Return the options of a parser; argparse has no public list of them."""
    return parser._actions


def at_cached_commit(builder: Any, repo: str, commit: str | None) -> Any:
    """Return a builder of the local cache for the same dataset at another commit; None if the cache lacks that.

    When the Hub does not answer, `datasets` takes the newest version in its cache, and has no public way to choose.

    Args:
        builder: What `load_dataset_builder` gave; returned as it is where it doesn't come from the cache alone.
        repo: The dataset's id.
        commit: The version; None takes any.
    """
    from datasets.packaged_modules.cache.cache import Cache

    if not isinstance(builder, Cache) or commit in (None, builder.hash):
        return builder
    names = {"dataset_name": builder.dataset_name, "config_name": builder.config.name, "repo_id": repo}
    other = Cache(**names, version=str(builder.config.version), hash=commit)
    return other if Path(other.cache_dir).is_dir() else None


def stratified_indices(
    labels: NDArray[np.int64], sizes: tuple[int, int], generator: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the indices of both parts as `Dataset.train_test_split(stratify_by_column=...)` chooses them.

    That takes 40 seconds for the labels of a million rows, as it reads them one by one; this takes half a second.
    """
    from datasets.utils.stratify import stratified_shuffle_split_generate_indices

    first, second = next(stratified_shuffle_split_generate_indices(labels, *sizes, rng=generator))
    return first, second
