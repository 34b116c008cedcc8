"""Views that are drawn once: their images, their mixing and erasing, and how epochs replay them."""

import numpy as np
import pytest
import torch
from timm.data import Mixup
from timm.data.random_erasing import RandomErasing

from shvit_pl.data import loaders
from shvit_pl.data.loaders import TrainSampler
from shvit_pl.data.transforms import decode_mix, draw_mix, encode_mix, erase_each, mix_images, mix_targets
from shvit_pl.data.views import RangeSampler, ReplaySampler, Views
from shvit_pl.randomness import seed_cpu, seeded

BOTH = {"mixup_alpha": 0.8, "cutmix_alpha": 1.0}
MIXES = {
    "batch": BOTH,
    "pair": {**BOTH, "mode": "pair"},
    "elem": {**BOTH, "mode": "elem"},
    "mixup": {"mixup_alpha": 0.2, "cutmix_alpha": 0.0},
    "cutmix": {"mixup_alpha": 0.0, "cutmix_alpha": 1.0, "prob": 0.6},
    "seldom": {**BOTH, "prob": 0.3, "switch_prob": 0.9},
}


def views(rows, repeats=1, mixup=None, views=3):
    return Views(rows, repeats=repeats, size=16, mixup=mixup, views=views)


def encoded(mixes):
    return torch.from_numpy(encode_mix(np.array([m[0] for m in mixes]), np.array([m[1] for m in mixes])))


@pytest.mark.parametrize("settings", MIXES.values(), ids=MIXES)
def test_mixing_is_timms_on_batches_of_two_seeded_alike(settings):
    torch.manual_seed(0)
    images, labels = torch.randn(120, 3, 24, 24), torch.randint(0, 7, (120,))
    mixup = Mixup(**settings, num_classes=7, label_smoothing=0.1)
    mixes = encoded([mix for pair in range(60) for mix in draw_mix(mixup, 24, (5, pair))])
    mixed, targets = mix_images(images, mixes), mix_targets(labels, mixes, mixup)
    for pair in range(60):
        two = slice(2 * pair, 2 * pair + 2)
        with seeded(5, pair):
            expected, their_targets = mixup(images[two].clone(), labels[two])
        torch.testing.assert_close(mixed[two], expected, atol=1e-6, rtol=0)
        torch.testing.assert_close(targets[two], their_targets, atol=1e-6, rtol=0)
    changed = (mixed != images).flatten(1).any(1).float().mean()
    assert changed < 0.7 if settings.get("prob", 1) < 1 else changed > 0.8


def test_a_rectangle_is_copied_exactly_what_is_not_mixed_stays_and_parameters_survive_as_integers():
    images = torch.randn(4, 3, 8, 8) * 1e3
    mix = encoded([(0.75, (2, 6, 4, 8)), (1.0, (0, 0, 0, 0)), (0.25, (0, 0, 0, 0)), (1.0, (0, 8, 0, 8))])
    mixed = mix_images(images, mix)
    assert torch.equal(mixed[0, :, 2:6, 4:], images[1, :, 2:6, 4:])
    assert torch.equal(mixed[0, :, :, :4], images[0, :, :, :4])
    assert torch.equal(mixed[1], images[1])
    torch.testing.assert_close(mixed[2], 0.25 * images[2] + 0.75 * images[3])
    assert torch.equal(mixed[3], images[2])
    lam, box = np.array([0.1, 1e-7], np.float32), np.array([[1, 2, 3, 4], [0, 384, 0, 384]], np.int16)
    integers = encode_mix(lam, box)
    assert integers.dtype == np.int32
    assert all(np.array_equal(*both) for both in zip(decode_mix(integers), (lam, box), strict=True))


def test_an_image_is_erased_as_by_timm_by_its_own_key_whatever_stands_beside_it():
    images, keys = torch.randn(6, 3, 32, 32), [11, 12, 13, 14, 15, 16]
    before = torch.get_rng_state()
    erased = erase_each(images.clone(), 0.5, keys)
    assert torch.equal(torch.get_rng_state(), before)
    assert 0 < sum(torch.equal(*both) for both in zip(images, erased, strict=True)) < 6
    for image, key, ours in zip(images.clone(), keys, erased, strict=True):
        seed_cpu(key)
        assert torch.equal(RandomErasing(0.5, mode="pixel", device="cpu")(image), ours)


def test_a_view_is_an_epoch_of_the_training_sampler_and_every_other_view_another():
    drawn = views(41)
    assert drawn.slots == 40
    for view in range(3):
        sampler = TrainSampler(range(41), seed=0)
        sampler.set_epoch(view)
        draws = list(sampler)
        columns = drawn.read(range(view * 40, view * 40 + 40))
        ours = list(zip(columns["row"].tolist(), map(tuple, columns["key"].tolist()), strict=True))
        assert ours[::2] == [(draw.row, draw.key) for draw in draws[:20]]
        assert ours[1::2] == [(draw.row, draw.key) for draw in draws[20:40]]
        assert len(set(columns["row"].tolist())) == 40  # each image once


def test_slots_are_drawn_the_same_in_any_order_and_company(monkeypatch):
    settings = {"rows": 30, "repeats": 3, "mixup": Mixup(**BOTH, num_classes=2), "views": 2}
    whole, some = views(**settings).read(range(60)), [41, 2, 3, 59, 0]
    monkeypatch.setattr(loaders, "process", lambda: (3, 1))
    for name, column in views(**settings).read(some).items():
        assert np.array_equal(column, whole[name][some]), name


def test_copies_of_an_image_are_not_mixed_with_each_other():
    drawn = views(300, repeats=3, views=4)
    rows = drawn.read(range(4 * drawn.slots))["row"].reshape(-1, 2)
    assert len(rows) == 4 * 128
    assert (rows[:, 0] != rows[:, 1]).all()


def slots_of(sampler, epoch=0):
    sampler.set_epoch(epoch)
    slots = list(sampler)
    assert all(a % 2 == 0 and b == a + 1 for a, b in zip(slots[::2], slots[1::2], strict=True))
    return slots


def test_an_epoch_replays_the_pairs_of_its_view_in_an_order_of_its_own_and_resumes():
    epochs = [slots_of(ReplaySampler(views(40), seed=1), epoch) for epoch in range(6)]
    for epoch, slots in enumerate(epochs):
        assert sorted(slots) == list(range(epoch % 3 * 40, epoch % 3 * 40 + 40))
    assert epochs[0] != epochs[3]
    assert slots_of(ReplaySampler(views(40), seed=2), 0) != epochs[0]
    resumed = ReplaySampler(views(40), seed=1)
    resumed.start = 12
    assert slots_of(resumed) == epochs[0][12:]
    assert len(resumed) == 40


@pytest.mark.parametrize("replicas", [2, 3])
def test_processes_share_out_the_pairs_of_a_view(replicas, monkeypatch):
    drawn = []
    for rank in range(replicas):
        monkeypatch.setattr(loaders, "process", lambda rank=rank: (replicas, rank))
        slots = slots_of(ReplaySampler(views(41), seed=1), 1)
        assert len(slots) == len(ReplaySampler(views(41), seed=1)) == 40 // 2 // replicas * 2
        drawn += slots
    assert len(set(drawn)) == len(drawn) == 20 // replicas * replicas * 2


def test_processes_share_out_ranges_by_their_numbers(monkeypatch):
    ranges, drawn = {0: range(10), 2: range(20, 30), 5: range(50, 53)}, []
    for rank in range(2):
        monkeypatch.setattr(loaders, "process", lambda rank=rank: (2, rank))
        drawn.append(list(RangeSampler(ranges, batch_size=5)))
    assert drawn[0] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9], [20, 21, 22, 23], [24, 25, 26, 27], [28, 29]]
    assert drawn[1] == [[50, 51, 52]]
