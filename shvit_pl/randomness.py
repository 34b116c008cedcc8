"""Random numbers that depend on a key alone (seed, epoch, position, ...), so that a resumed run draws the same ones."""

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def run_seed() -> int:
    """Return the run's seed, as `seed_everything` has set it."""
    return int(os.environ.get("PL_GLOBAL_SEED", 0))


def seed_all(*key: int) -> None:
    """Seed torch, numpy and `random` (timm's augmentations draw from all three) by the key's hash."""
    torch.manual_seed(hash(key) % 2**63)
    seed_cpu(*key)


def seed_cpu(*key: int) -> None:
    """Seed as `seed_all` does, but leave the generators of other devices alone."""
    seed = hash(key) % 2**63  # Python hashes integers alike in every process
    torch.default_generator.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


def generator_of(*key: int) -> torch.Generator:
    """Return a generator that draws what torch draws when seeded by the key."""
    return torch.Generator().manual_seed(hash(key) % 2**63)


@contextmanager
def seeded(*key: int) -> Iterator[None]:
    """Draw by the key within the block; outside of a loader's worker, the states before it are restored."""
    if torch.utils.data.get_worker_info() is not None:
        seed_all(*key)
        yield
        return
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    seed_cpu(*key)
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])
