"""Which images are drawn, in which order, in one process and in many."""

import json
from pathlib import Path

import pytest

from shvit_pl.data import loaders
from shvit_pl.data.loaders import EvalSampler, TrainSampler

OFFICIAL = json.loads((Path(__file__).parents[1] / "golden" / "repeated_aug_sampler.json").read_text())


@pytest.fixture
def processes(monkeypatch):
    """Pretend to be one of several processes; distributed runs are in tests/cli/test_ddp.py."""
    return lambda replicas, rank: monkeypatch.setattr(loaders, "process", lambda: (replicas, rank))


def rows_of(sampler, epoch=0):
    sampler.set_epoch(epoch)
    return [draw.row for draw in sampler]


@pytest.mark.parametrize("official", OFFICIAL, ids=lambda o: f"{o['dataset_len']}/{o['num_replicas']}/{o['rank']}")
def test_repeated_augmentation_draws_what_the_official_sampler_draws(official, processes):
    processes(official["num_replicas"], official["rank"])
    sampler = TrainSampler(range(official["dataset_len"]), seed=0, repeats=3)
    drawn = rows_of(sampler, official["epoch"])
    assert len(sampler) == len(drawn) == official["length"]
    assert (drawn[:24], drawn[-8:], sum(drawn)) == (official["first"], official["last"], official["sum"])


def test_repeated_augmentation_takes_a_new_permutation_every_epoch_and_seed_also_in_one_process():
    sampler = TrainSampler(range(1000), seed=0, repeats=3)
    epochs = [rows_of(sampler, epoch) for epoch in range(3)]
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert len(set().union(*epochs)) > 256  # the official code shows one process the same 256 images for ever
    assert rows_of(TrainSampler(range(1000), seed=1, repeats=3)) != epochs[0]
    draws = list(sampler)
    assert draws[0].row == draws[1].row
    assert len({draw.key for draw in draws}) == len(draws)  # each copy is augmented differently
    for size in (1, 2, 17, 200, 255):  # of a small dataset, as many images as it has
        assert len(rows_of(TrainSampler(range(size), seed=0, repeats=3))) == size


def test_processes_share_a_permutation_and_its_augmentations_without_overlap(processes):
    alone = {(draw.row, draw.key) for draw in TrainSampler(range(30), seed=0)}
    together = []
    for rank in range(3):
        processes(3, rank)
        together += [(draw.row, draw.key) for draw in TrainSampler(range(30), seed=0)]
    assert len(together) == 30
    assert set(together) == alone


def test_a_resumed_epoch_draws_what_is_left_of_it():
    sampler = TrainSampler(range(30), seed=0)
    whole = list(sampler)
    sampler.start = 12
    assert list(sampler) == whole[12:]
    assert len(sampler) == 30


@pytest.mark.parametrize("size", [1, 2, 7, 8, 9])
def test_evaluation_counts_every_row_once_and_gives_every_process_as_many(size, processes):
    counted, lengths = [], set()
    for rank in range(4):
        processes(4, rank)
        draws = list(EvalSampler(range(size)))
        lengths.add(len(draws))
        counted += [draw.row for draw in draws if draw.counted]
    assert sorted(counted) == list(range(size))
    assert len(lengths) == 1
