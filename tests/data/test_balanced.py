"""A balanced epoch has as many draws of each class, in any number of processes, and goes on where it was left."""

import numpy as np
import pytest

from shvit_pl import HFImageDataModule
from shvit_pl.data.balanced import BalancedSampler
from shvit_pl.data.loaders import TrainSampler
from tests.data.pictures import rows, saved

LABELS = np.array([0] * 40 + [2] * 15 + [3] * 5)  # no row of class 1


def classes_of(draws):
    return np.bincount(LABELS[[draw.row for draw in draws]], minlength=4).tolist()


def test_an_epoch_draws_all_classes_equally_often_and_keeps_its_length():
    sampler = BalancedSampler(LABELS, seed=0)
    epochs = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        epochs.append(list(sampler))
        assert classes_of(epochs[-1]) == [20, 0, 20, 20]
    assert len({tuple(draw.row for draw in epoch if draw.row < 40) for epoch in epochs}) == 3
    assert len(sampler) == len(epochs[0]) == len(TrainSampler(LABELS, seed=0))
    times = np.bincount([draw.row for draw in epochs[-1]], minlength=60)
    assert times[:40].max() == 1  # half of the large class, no image twice
    assert set(times[40:55]) == {1, 2}
    assert set(times[55:]) == {4}  # 20 draws of 5 images


def test_a_length_that_the_classes_do_not_divide_has_one_more_of_some():
    counts = {tuple(classes_of(BalancedSampler(LABELS[:59], seed))) for seed in range(9)}
    assert all(sorted(each) == [0, 19, 20, 20] for each in counts)
    assert len(counts) > 1  # not always of the same classes


def test_processes_share_the_draws_of_one_and_a_resumed_epoch_is_the_rest():
    alone = list(BalancedSampler(LABELS, 7))
    parts = [list(BalancedSampler(LABELS, 7, shares=(2, rank))) for rank in range(2)]
    assert [draw for pair in zip(*parts, strict=True) for draw in pair] == alone
    resumed = BalancedSampler(LABELS, 7)
    resumed.start = 23
    assert list(resumed) == alone[23:]


@pytest.mark.slow
def test_workers_change_nothing(tmp_path):
    path = saved(rows([0] * 20 + [1] * 4))(tmp_path)
    labels = []
    for workers in (0, 2):
        data = HFImageDataModule(path=str(path), image_size=8, batch_size=4, sampler="balanced", num_workers=workers)
        data.validation_fraction = 0.2
        data.setup("fit")
        labels.append([label for batch in data.train_dataloader() for label in batch["label"].tolist()])
    assert labels[0] == labels[1]
    assert 0.4 <= sum(labels[0]) / len(labels[0]) <= 0.6
