"""Which images are drawn, in which order, in one process and in many, from stored rows and from streams."""

import json
from collections import Counter
from pathlib import Path

import datasets
import pytest
import torch
from datasets import Dataset, Image

from shvit_pl.data import loaders
from shvit_pl.data.loaders import Draw, EvalSampler, TrainSampler
from shvit_pl.data.objects.datamodule import GroupedSampler
from tests.cli.runs import assert_same, fit, stopped, weights
from tests.data.pictures import open_dataset, ready

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
    assert len(set().union(*epochs)) > 256  # the official code shows one process the same 256 images forever
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


def test_batches_of_a_group_are_of_the_same_permutation_in_each_process_and_resume(processes):
    stand = torch.rand(61, generator=torch.Generator().manual_seed(0)) < 0.3
    drawn = []
    for rank in range(2):
        processes(2, rank)
        plain, grouped = TrainSampler(range(61), seed=0), GroupedSampler(range(61), 0, 4, stand.tolist())
        epochs = [rows_of(grouped, epoch) for epoch in (0, 1, 0)]
        assert epochs[0] == epochs[2] != epochs[1]
        assert sorted(epochs[1]) == sorted(rows_of(plain, 1))
        batches = stand[torch.tensor(epochs[0][:28])].view(7, 4)
        assert [len(batch.unique()) for batch in batches[:6]] == [1] * 6  # of at most three each are left over
        whole, grouped.start = list(grouped), 12
        assert list(grouped) == whole[12:]
        drawn += [draw.key for draw in whole]
    assert len(set(drawn)) == len(drawn) == 62


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


# ---- streams


ROWS, SHARDS, VALIDATION = 91, 3, 23


@pytest.fixture
def shards(tmp_path, monkeypatch):
    """A folder of parquet: three training shards of unequal length, and one for validation."""
    monkeypatch.setattr(datasets.config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0)  # it waits at the end of every pass
    rows = open_dataset("digits")["train"]
    for number in range(SHARDS):
        part = rows.select(range(ROWS)).shard(SHARDS, number, contiguous=True)
        part.to_parquet(tmp_path / "data" / f"train-{number:05}-of-{SHARDS:05}.parquet")
    held_out = rows.select(range(ROWS, ROWS + VALIDATION))
    held_out.to_parquet(tmp_path / "data" / "validation-00000-of-00001.parquet")
    return tmp_path / "data"


def streamed(path, **settings):
    options = {"batch_size": 7, "augment": "none", "streaming": True, "steps_per_epoch": 13}
    return ready(path=str(path), **(options | settings))


def images(loader):
    """The sum of each image, which tells it from all others."""
    return [image.sum().item() for batch in loader for image in batch["image"]]


@pytest.fixture
def stored(shards):
    """The training images, read map-style."""
    data = streamed(shards, streaming=False, steps_per_epoch=None)
    dataset = data.train_dataloader().dataset
    return Counter(dataset[Draw(row)]["image"].sum().item() for row in range(len(dataset)))


def test_a_pass_holds_every_image_once_and_several_workers_share_out_the_shards(shards, stored):
    for workers in (0, 1):
        loader = streamed(shards, num_workers=workers, batch_size=ROWS, steps_per_epoch=1).train_dataloader()
        assert Counter(images(loader)) == stored
    loader = streamed(shards, num_workers=5, steps_per_epoch=9).train_dataloader()
    assert loader.num_workers == SHARDS
    seen = Counter(images(loader))
    assert seen.total() == 63
    assert seen <= stored


@pytest.mark.parametrize("replicas", [2, 3])
def test_processes_share_the_stream_out(shards, stored, replicas, processes):
    seen = Counter()
    for rank in range(replicas):
        processes(replicas, rank)
        stream = streamed(shards, batch_size=2).train_dataloader().dataset
        seen.update(stream.reader.read(row, "row")["image"].sum().item() for row in stream.rows)
    assert seen == stored


@pytest.mark.parametrize(("replicas", "workers"), [(1, 0), (4, 0), (2, 2)])
def test_evaluation_counts_every_image_once_and_every_process_gets_as_many(shards, replicas, workers, processes):
    counted, lengths = 0, set()
    for rank in range(replicas):
        processes(replicas, rank)
        labels = torch.cat([batch["label"] for batch in streamed(shards, num_workers=workers).val_dataloader()])
        counted += int((labels >= 0).sum())
        lengths.add(len(labels))
    assert counted == VALIDATION
    assert len(lengths) == 1


def test_epochs_go_on_in_the_stream_and_a_new_pass_has_a_new_order(shards):
    loader = streamed(shards, steps_per_epoch=5).train_dataloader()
    drawn = [image for _ in range(6) for image in images(loader)]
    first, second = drawn[:ROWS], drawn[ROWS : 2 * ROWS]
    assert Counter(first) == Counter(second)
    assert first != second


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_image_of_a_stream_is_replaced_and_named(shards, workers):
    file = next(shards.glob("train-00001-*"))
    rows = Dataset.from_parquet(str(file)).cast_column("image", Image(decode=False)).to_list()
    rows[0]["image"] = {"bytes": b"torn", "path": "torn.png"}
    features = Dataset.from_parquet(str(file)).features
    Dataset.from_list(rows, features=features).to_parquet(file)
    batches = list(streamed(shards, num_workers=workers, shuffle_buffer=1, steps_per_epoch=10).train_dataloader())
    reasons = {reason for batch in batches for reason in batch["broken"] if reason}
    assert ["torn.png" in reason for reason in reasons] == [True]
    assert all((batch["label"] >= 0).all() for batch in batches)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_interrupted_stream_goes_on_at_its_next_batch(shards, workers, monkeypatch):
    """In its epoch of 5 batches, with the same images, augmented alike."""
    data = streamed(shards, num_workers=workers, steps_per_epoch=5, augment="crop")
    loader = data.train_dataloader()
    whole = [batch for _ in range(2) for batch in loader]
    for done in (2, 7):
        monkeypatch.setattr(data, "_batches", lambda span, done=done: done)
        left = list(data.train_dataloader())
        assert len(left) == 5 - done % 5
        for ours, theirs in zip(left, whole[done:], strict=False):
            assert torch.equal(ours["image"], theirs["image"])
            assert torch.equal(ours["key"], theirs["key"])


@pytest.mark.slow
def test_a_streamed_run_resumes_exactly(shards, tmp_path):
    flags = ["--data.streaming=true", "--data.steps_per_epoch=3", "--trainer.limit_train_batches=null"]
    flags += [f"--data.path={shards}", "--checkpoint_every_n_steps=1"]
    assert fit(*flags, "--trainer.default_root_dir=whole") == 0
    stopped(1, 1, *flags)
    assert fit(*flags, "--ckpt_path=last") == 0
    assert_same(*(weights(tmp_path / root / "tiny" / "version_0") for root in ("whole", "runs")))
