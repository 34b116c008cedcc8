"""A teacher's cached logits are its own for the very pixels that the student sees."""

import lightning as L
import numpy as np
import pytest
import torch
from lightning.fabric.utilities import move_data_to_device

from shvit_pl.data import loaders
from shvit_pl.teachers.cache import TeacherCache, compress_logits, expand_logits
from tests.refusals import refused
from tests.teachers.conftest import CONFIG, digits, network, planned


def kept(logits, top_k, tau=1.0):
    columns = compress_logits(logits, top_k, tau)
    bits = {"logits": columns["logits"].view(np.int16), "tail": columns["tail"].view(np.int32)}
    return {name: torch.from_numpy(column) for name, column in {**columns, **bits}.items()}


@pytest.mark.parametrize("tau", [0.5, 1.0, 4.0])
def test_the_tail_keeps_its_probability_and_the_order_stays(tau):
    torch.manual_seed(0)
    logits = 4 * torch.randn(64, 100)
    cached = kept(logits, 5, tau)
    ours, theirs = (expand_logits(cached, 100) / tau).softmax(1), (logits / tau).softmax(1)
    top = logits.topk(5).indices
    assert torch.equal(cached["indices"].long(), top)
    torch.testing.assert_close(ours.gather(1, top), theirs.gather(1, top), atol=1e-5, rtol=5e-3)
    torch.testing.assert_close(1 - ours.gather(1, top).sum(1), 1 - theirs.gather(1, top).sum(1), atol=1e-3, rtol=1e-2)
    rest = ours.scatter(1, top, float("nan"))
    rest = rest[~rest.isnan()].view(64, 95)
    torch.testing.assert_close(rest.amax(1), rest.amin(1))
    assert torch.equal(expand_logits(cached, 100).argmax(1), logits.argmax(1))


def test_large_logits_fit_into_half_precision_and_all_classes_may_be_kept():
    logits = torch.tensor([[1e6, 1e6 - 3, -1e6, 0.0], [-2e5, -2e5 + 1, -2e5 - 2, -2e5]])
    for top_k in (2, 3, 4):
        expanded = expand_logits(kept(logits, top_k), 4)
        assert expanded.isfinite().all()
        torch.testing.assert_close(expanded.softmax(1)[:, :2], logits.softmax(1)[:, :2], atol=0.08, rtol=0)
    for top_k in (4, 20):
        cached = kept(logits / 1e6, top_k)
        assert cached["indices"].shape == (2, 4)
        distance = (logits - logits.amax(1)[:, None]) / 1e6
        torch.testing.assert_close(expand_logits(cached, 4), distance, atol=1e-3, rtol=0)
    with refused("not finite"):
        compress_logits(torch.tensor([[0.0, float("nan")]]), 1, 1.0)


def test_indices_are_as_wide_as_the_classes_need():
    for classes, dtype in ((1000, torch.int16), (32768, torch.int16), (32769, torch.int32)):
        logits = torch.zeros(1, classes)
        logits[0, -1] = 1
        cached = kept(logits, 2)
        assert (cached["indices"].dtype, cached["indices"][0, 0]) == (dtype, classes - 1)


# ---- a whole cache


def epoch(data, number):
    """The batches of an epoch as `training_step` gets them."""
    loader = data.train_dataloader()
    loader.sampler.set_epoch(number)
    for batch in loader:
        yield data.on_after_batch_transfer(data.on_before_batch_transfer(batch, 0), 0)


def check_logits(batch, seen, net):
    """The student's pixels are the teacher's, and the cached logits are those of now, less the largest logit."""
    images = batch["image"]
    assert torch.equal(images, seen[batch["slot"]])
    with torch.inference_mode():
        online = net(images)
    kept = batch["teacher"]["indices"].long()
    distance = online - online.amax(1, keepdim=True)
    torch.testing.assert_close(
        expand_logits(batch["teacher"], 10).gather(1, kept), distance.gather(1, kept), atol=1e-4, rtol=2**-10
    )
    assert torch.equal(expand_logits(batch["teacher"], 10).argmax(1), online.argmax(1))
    tail = 1 - (online / CONFIG.tau).softmax(1).gather(1, kept).sum(1)
    cached_tail = 1 - (expand_logits(batch["teacher"], 10) / CONFIG.tau).softmax(1).gather(1, kept).sum(1)
    torch.testing.assert_close(cached_tail, tail, atol=1e-3, rtol=1e-3)


def training_on(cache, **settings):
    data = digits(**settings)
    data.train_on(TeacherCache(cache[0], planned(data)))
    return data


@pytest.mark.parametrize(("workers", "batch_size", "number"), [(0, 32, 0), (2, 18, 3)])
def test_cached_logits_are_online_ones_for_every_sample_of_an_epoch(cache, workers, batch_size, number):
    _, manifest, seen = cache
    data = training_on(cache, seed=number, num_workers=workers, batch_size=batch_size)
    slots, net = [], network()
    for batch in epoch(data, number):
        check_logits(batch, seen, net)
        slots += batch["slot"].tolist()
    assert len(set(slots)) == len(slots) == manifest.slots // batch_size * batch_size
    assert {slot // manifest.slots for slot in slots} == {number % manifest.views}


def test_views_are_mixed_erased_and_differ(cache):
    first, second = cache[2].chunk(2)
    assert not any(torch.equal(*both) for both in zip(first, second, strict=True))
    assert first.min() < -2.7  # noise of erased rectangles goes below black


def test_two_processes_train_on_the_cached_logits_without_overlap(cache, monkeypatch):
    slots, net = [], network()
    for rank in range(2):
        monkeypatch.setattr(loaders, "process", lambda rank=rank: (2, rank))
        for batch in epoch(training_on(cache, seed=3, batch_size=16), 1):
            check_logits(batch, cache[2], net)
            slots += batch["slot"].tolist()
    assert len(set(slots)) == len(slots) >= cache[1].slots - 2 * 16


def test_a_run_resumed_within_an_epoch_gets_the_batches_that_are_left(cache, monkeypatch):
    data = training_on(cache, seed=3)
    whole = list(epoch(data, 1))
    monkeypatch.setattr(data, "_batches", lambda span: 2)
    left = list(epoch(data, 1))
    assert len(left) == len(whole) - 2
    for ours, theirs in zip(left, whole[2:], strict=True):
        assert torch.equal(ours["image"], theirs["image"])
        assert torch.equal(ours["slot"], theirs["slot"])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_trains_on_the_pixels_that_were_cached_on_a_cpu(cache):
    data = training_on(cache, seed=3)
    for batch in data.train_dataloader():
        batch = move_data_to_device(data.on_before_batch_transfer(batch, 0), torch.device("cuda"))
        batch = data.on_after_batch_transfer(batch, 0)
        torch.testing.assert_close(batch["image"].cpu(), cache[2][batch["slot"].cpu()], atol=1e-5, rtol=1e-5)


class Student(L.LightningModule):
    """Learns nothing, but checks all that it gets."""

    def __init__(self, seen):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen, self.net, self.slots = seen, [network().float()], []

    def training_step(self, batch, batch_idx):
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.float32)  # of the check alone
        check_logits(batch, self.seen, self.net[0])
        torch.set_default_dtype(before)
        self.slots.append(batch["slot"].tolist())
        return self.weight.float()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_a_fit_in_bf16_with_persistent_workers_gets_view_after_view(cache):
    data, student, slots = training_on(cache, num_workers=2), Student(cache[2]), cache[1].slots
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    quiet |= {"accelerator": "cpu", "enable_checkpointing": False, "limit_val_batches": 0}
    L.Trainer(precision="bf16-true", max_epochs=3, **quiet).fit(student, datamodule=data)
    steps = len(student.slots) // 3
    views = [{slot // slots for slot in batch} for batch in student.slots]
    assert views == [{0}] * steps + [{1}] * steps + [{0}] * steps
    assert student.slots[0] != student.slots[2 * steps]
    batch = next(iter(training_on(cache).train_dataloader()))  # nothing in it is rounded in reduced precision
    tensors = [value for value in [*batch.values(), *batch["teacher"].values()] if isinstance(value, torch.Tensor)]
    assert len(tensors) >= 8
    assert not any(tensor.is_floating_point() for tensor in tensors)
