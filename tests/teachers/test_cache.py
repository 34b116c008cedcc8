"""A teacher's cached answers are those that it would give to the very pixels that the student sees."""

import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import datasets
import lightning as L
import pytest
import timm
import torch
from lightning.fabric.utilities import move_data_to_device

from shvit_pl import HFImageDataModule
from shvit_pl.data import replay
from shvit_pl.data.mixing import mix_pairs
from shvit_pl.errors import UserError
from shvit_pl.modules.mixing import MixConfig
from shvit_pl.teachers.answers import dense
from shvit_pl.teachers.cache import TeacherCache, begin, missing
from shvit_pl.teachers.caching import TeacherCacher
from shvit_pl.teachers.config import DistillConfig
from shvit_pl.teachers.fingerprint import plan
from tests.data.pictures import encoded, photo

MIX = MixConfig(mixup=0.8, cutmix=1.0)
CONFIG = DistillConfig(teacher="test_resnet", objective="soft", tau=2.0, views=2, top_k=4)
EVERYTHING = {"augment": "crop", "auto_augment": "rand-m9-mstd0.5-inc1", "erasing": 0.5, "repeats": 3}


def opened(seed=0, **settings):
    """Some of the digits with every augmentation."""
    settings = {"image_size": 32, "train_fraction": 0.1, "batch_size": 32, "num_workers": 0, **EVERYTHING} | settings
    data = HFImageDataModule("digits", **settings)
    data.seed = seed
    data.setup("fit")
    return data


def in_a_process(script, **environment):
    """The script's result; it may import this file."""
    root, variables = Path(__file__).parents[2], {**os.environ, **environment}
    return subprocess.run([sys.executable, "-c", script], cwd=root, env=variables, capture_output=True, text=True)


def planned(data, config=CONFIG, mix=MIX, **teacher):
    return replace(plan(config, {"name": "test_resnet", **teacher}, asdict(mix), data), shard_slots=60)


def network():
    torch.manual_seed(0)
    net = timm.create_model("test_resnet", num_classes=10)
    torch.nn.init.normal_(net.get_classifier().weight, std=2)  # far from uniform
    return net.eval()


def ask(answer, folder, data, manifest, mix=MIX):
    cacher = TeacherCacher(answer, data, mix.build(2, 0.0), folder, manifest)
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
    trainer.predict(cacher, return_predictions=False)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A whole cache, what it was planned as, and the teacher's input of every slot."""
    folder, data, net, seen = tmp_path_factory.mktemp("answers") / "cache", opened(), network(), []

    def answer(images):
        seen.append(images.clone())
        return net(images)

    manifest = begin(folder, planned(data))
    ask(answer, folder, data, manifest)
    return folder, manifest, torch.cat(seen)


def epoch(data, number):
    """The batches of an epoch as `training_step` gets them."""
    loader = data.train_dataloader()
    loader.sampler.set_epoch(number)
    for batch in loader:
        yield data.on_after_batch_transfer(data.on_before_batch_transfer(batch, 0), 0)


def check_answers(batch, seen, net):
    """The student's pixels are the teacher's, and its answers are those of now, less the largest logit."""
    images, _ = mix_pairs(batch["image"], batch["label"], batch["mix"], classes=10)
    assert torch.equal(images, seen[batch["slot"]])
    with torch.inference_mode():
        online = net(images)
    kept = batch["teacher"]["indices"].long()
    distance = online - online.amax(1, keepdim=True)
    torch.testing.assert_close(
        dense(batch["teacher"], 10).gather(1, kept), distance.gather(1, kept), atol=1e-4, rtol=2**-10
    )
    assert torch.equal(dense(batch["teacher"], 10).argmax(1), online.argmax(1))
    tail = 1 - (online / CONFIG.tau).softmax(1).gather(1, kept).sum(1)
    cached_tail = 1 - (dense(batch["teacher"], 10) / CONFIG.tau).softmax(1).gather(1, kept).sum(1)
    torch.testing.assert_close(cached_tail, tail, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(("workers", "batch_size", "number"), [(0, 32, 0), (2, 18, 3)])
def test_cached_answers_are_online_ones_for_every_sample_of_an_epoch(cache, workers, batch_size, number):
    folder, manifest, seen = cache
    data = opened(seed=number, num_workers=workers, batch_size=batch_size)
    data.train_on(TeacherCache(folder, planned(data)))
    slots, net = [], network()
    for batch in epoch(data, number):
        check_answers(batch, seen, net)
        slots += batch["slot"].tolist()
    view = number % manifest.views
    assert len(set(slots)) == len(slots) == manifest.slots // batch_size * batch_size
    assert {slot // manifest.slots for slot in slots} == {view}


def test_views_are_mixed_erased_and_differ(cache):
    seen = cache[2]
    first, second = seen.chunk(2)
    assert not any(torch.equal(*both) for both in zip(first, second, strict=True))
    assert first.min() < -2.7  # noise of erased rectangles goes below black


def test_two_processes_train_on_the_cached_answers_without_overlap(cache, monkeypatch):
    folder, manifest, seen = cache
    slots, net = [], network()
    for rank in range(2):
        monkeypatch.setattr(replay, "process", lambda rank=rank: (2, rank))
        data = opened(seed=3, batch_size=16)
        data.train_on(TeacherCache(folder, manifest))
        for batch in epoch(data, 1):
            check_answers(batch, seen, net)
            slots += batch["slot"].tolist()
    assert len(set(slots)) == len(slots) >= manifest.slots - 2 * 16


def test_a_run_resumed_within_an_epoch_gets_the_batches_that_are_left(cache, monkeypatch):
    data = opened(seed=3)
    data.train_on(TeacherCache(cache[0], cache[1]))
    whole = list(epoch(data, 1))
    monkeypatch.setattr(data, "_batches_of_epoch", lambda: 2)
    left = list(epoch(data, 1))
    assert len(left) == len(whole) - 2
    for ours, theirs in zip(left, whole[2:], strict=True):
        assert torch.equal(ours["image"], theirs["image"])
        assert torch.equal(ours["slot"], theirs["slot"])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_trains_on_the_pixels_that_were_cached_on_a_cpu(cache):
    data = opened(seed=3)
    data.train_on(TeacherCache(cache[0], cache[1]))
    for batch in data.train_dataloader():
        batch = move_data_to_device(data.on_before_batch_transfer(batch, 0), torch.device("cuda"))
        batch = data.on_after_batch_transfer(batch, 0)
        images, _ = mix_pairs(batch["image"], batch["label"], batch["mix"], classes=10)
        torch.testing.assert_close(images.cpu(), cache[2][batch["slot"].cpu()], atol=1e-5, rtol=1e-5)


class Student(L.LightningModule):
    """Learns nothing, but checks all that it gets."""

    def __init__(self, seen):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen, self.net, self.slots = seen, [network().float()], []

    def training_step(self, batch, batch_idx):
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.float32)  # of the check alone
        check_answers(batch, self.seen, self.net[0])
        torch.set_default_dtype(before)
        self.slots.append(batch["slot"].tolist())
        return self.weight.float()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.parametrize("precision", ["32-true", "bf16-true"])
def test_a_fit_with_persistent_workers_gets_view_after_view(cache, precision):
    folder, manifest, seen = cache
    data, student = opened(num_workers=2), Student(seen)
    data.train_on(TeacherCache(folder, manifest))
    trainer = L.Trainer(
        accelerator="cpu",
        precision=precision,
        max_epochs=3,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(student, datamodule=data)
    steps = len(student.slots) // 3
    views = [{slot // manifest.slots for slot in batch} for batch in student.slots]
    assert views == [{0}] * steps + [{1}] * steps + [{0}] * steps
    assert student.slots[0] != student.slots[2 * steps]


def test_no_number_of_a_batch_is_rounded_in_reduced_precision(cache):
    data = opened()
    data.train_on(TeacherCache(cache[0], cache[1]))
    batch = next(iter(data.train_dataloader()))
    tensors = [value for value in [*batch.values(), *batch["teacher"].values()] if isinstance(value, torch.Tensor)]
    assert len(tensors) >= 8
    assert not any(tensor.is_floating_point() for tensor in tensors)


def test_the_size_is_estimated_before_anything_is_written(cache):
    folder, manifest, _ = cache
    real = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert manifest.estimate() == pytest.approx(real, rel=0.1)


def test_the_size_of_large_shards_is_estimated_too(tmp_path):
    data = opened(train_fraction=1.0, augment="none", auto_augment=None, erasing=0.0, repeats=1)
    wide = replace(planned(data, replace(CONFIG, top_k=9)), shard_slots=50_000)
    ask(lambda images: images.mean(1).flatten(1)[:, :10], tmp_path, data, begin(tmp_path, wide), MixConfig())
    real = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    assert wide.estimate() == pytest.approx(real, rel=0.1)


def files_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.arrow")}


def test_an_interrupted_cache_is_refused_then_completed_as_if_it_had_not_been(cache, tmp_path):
    folder, net = tmp_path / "cache", network()
    data, batches = opened(), iter(range(5))

    def interrupted(images):
        if next(batches, None) is None:
            raise RuntimeError("cut off")
        return net(images)

    manifest = begin(folder, planned(data))
    with pytest.raises(RuntimeError, match="cut off"):
        ask(interrupted, folder, data, manifest)
    left = missing(folder, manifest)
    assert 0 < len(left) < len(manifest.shards)
    with pytest.raises(UserError, match=f"not whole, {len(manifest.shards) - len(left)} of {len(manifest.shards)}"):
        TeacherCache(folder, planned(data))
    (folder / f"{left[0].name}.partial").mkdir()
    (folder / f"{left[0].name}.partial" / "half.arrow").write_bytes(b"of a killed process")
    ask(net, folder, opened(), begin(folder, replace(planned(data), shard_slots=1000)))
    assert missing(folder, manifest) == []
    assert not list(folder.glob("*.partial"))
    assert files_of(folder) == files_of(cache[0])
    TeacherCache(folder, planned(data))


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"erasing": 0.1}, "data.erasing 0.5 there, 0.1 here"),
        ({"image_size": 40}, "data.image_size 32 there, 40 here"),
        ({"train_fraction": 0.2}, "data.train_fraction 0.1 there, 0.2 here"),
        ({"split_seed": 1}, "data.split_seed 0 there, 1 here"),
    ],
)
def test_a_stale_cache_is_refused_and_what_differs_is_named(cache, settings, named):
    other = planned(opened(**settings))
    for refused in (TeacherCache, begin):
        with pytest.raises(UserError, match="cache-teacher") as error:
            refused(cache[0], other)
        assert named in str(error.value)


def test_another_teacher_mix_or_temperature_is_another_cache(cache):
    data = opened()
    for other, named in (
        (planned(data, weights="abc"), "teacher.weights None there, abc here"),
        (planned(data, mix=MixConfig(mixup=0.8)), "model.mix.cutmix 1.0 there, 0.0 here"),
        (planned(data, replace(CONFIG, tau=1.0)), "model.distill.tau 2.0 there, 1.0 here"),
        (planned(data, replace(CONFIG, views=3)), "model.distill.views 2 there, 3 here"),
    ):
        with pytest.raises(UserError) as error:
            TeacherCache(cache[0], other)
        assert named in str(error.value)


def test_what_is_no_cache_is_refused(cache, tmp_path):
    data = opened()
    with pytest.raises(UserError, match="no such folder"):
        TeacherCache(tmp_path / "nowhere", planned(data))
    (tmp_path / "notes.txt").write_text("mine")
    for refused in (TeacherCache, begin):
        with pytest.raises(UserError, match="no cache"):
            refused(tmp_path, planned(data))
    (tmp_path / "manifest.json").write_text('{"name": "of a web page"}')
    with pytest.raises(UserError, match=r"manifest\.json can't be read"):
        TeacherCache(tmp_path, planned(data))
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_killed_writer_leaves_only_whole_shards(tmp_path):
    folder = tmp_path / "cache"
    script = f"""
import os
from tests.teachers.test_cache import ask, begin, network, opened, planned
import shvit_pl.teachers.cache as cache
save, data, left = cache.Dataset.save_to_disk, opened(), iter(range(2))
def killed(rows, path):
    save(rows, path)
    next(left, None) is None and os.kill(os.getpid(), 9)
cache.Dataset.save_to_disk = killed
ask(network(), {str(folder)!r}, data, begin({str(folder)!r}, planned(data)))
"""
    assert in_a_process(script).returncode == -9
    data = opened()
    assert len(missing(folder, planned(data))) == len(planned(data).shards) - 2
    ask(network(), folder, data, begin(folder, planned(data)))
    TeacherCache(folder, planned(data))
    assert not list(folder.glob("*.partial"))


def test_the_fingerprint_is_the_same_in_every_process():
    script = "from tests.teachers.test_cache import opened, planned; print(planned(opened()).fingerprint)"
    there = in_a_process(script, PYTHONHASHSEED="5").stdout.split()[-1]
    assert there == planned(opened()).fingerprint


def folder_of_images(folder, changed=None):
    for seed in range(20):
        path = folder / "ab"[seed % 2] / f"{seed:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(photo(seed=seed + 100 * (seed == changed)), "PNG"))
    return str(folder)


def hash_of(path):
    data = HFImageDataModule(path, image_size=16, batch_size=4, num_workers=0)
    data.setup("fit")
    return plan(CONFIG, {}, {}, data).settings["data.rows"]


def test_a_copy_of_the_images_has_the_same_fingerprint_and_another_image_another(tmp_path):
    first = hash_of(folder_of_images(tmp_path / "first"))
    assert hash_of(folder_of_images(tmp_path / "copy")) == first
    assert hash_of(folder_of_images(tmp_path / "other", changed=7)) != first


def test_rows_in_another_order_have_another_fingerprint(tmp_path):
    rows = datasets.load_dataset("imagefolder", data_dir=folder_of_images(tmp_path / "images"), split="train")
    found = []
    for name, order in (("rows", range(20)), ("again", range(20)), ("turned", range(19, -1, -1))):
        (tmp_path / name).mkdir()
        rows.select(order).to_parquet(str(tmp_path / name / "train.parquet"))
        found.append(hash_of(str(tmp_path / name)))
    assert found[0] == found[1] != found[2]
