"""A cache's files: whole or not there, of the size that was said, and used for nothing else than they are of."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import datasets
import pytest

from shvit_pl import HFImageDataModule
from shvit_pl.modules.config import MixConfig
from shvit_pl.teachers.cache import TeacherCache, begin, missing, plan
from shvit_pl.teachers.config import DistillConfig
from shvit_pl.teachers.teacher import identity_of
from tests.data.pictures import encoded, photo
from tests.refusals import refused
from tests.teachers.conftest import CONFIG, digits, network, planned, write
from tests.teachers.makers import TEN, shaken, stored


def test_the_size_is_estimated_before_anything_is_written(tmp_path):
    data = digits(train_fraction=1.0, augment="none", auto_augment=None, erasing=0.0, repeats=1)
    wide = replace(planned(data, replace(CONFIG, top_k=9)), shard_slots=50_000)
    write(tmp_path, lambda images: images.mean(1).flatten(1)[:, :10], data, wide, MixConfig())
    real = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    assert wide.estimate() == pytest.approx(real, rel=0.1)


def files_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.arrow")}


def test_an_interrupted_cache_is_refused_then_completed_as_if_it_had_not_been(cache, tmp_path):
    folder, net, data, batches = tmp_path / "cache", network(), digits(), iter(range(5))

    def interrupted(images):
        if next(batches, None) is None:
            raise RuntimeError("cut off")
        return net(images)

    manifest = planned(data)
    with pytest.raises(RuntimeError, match="cut off"):
        write(folder, interrupted, data, manifest)
    left = missing(folder, manifest)
    assert 0 < len(left) < len(manifest.shards)
    with refused(f"incomplete, {len(manifest.shards) - len(left)} of {len(manifest.shards)}"):
        TeacherCache(folder, manifest)
    (folder / f".0_{left[0].name}").mkdir()
    (folder / f".0_{left[0].name}" / "half.arrow").write_bytes(b"of a killed process")
    write(folder, net, digits(), replace(manifest, shard_slots=1000))  # those that it was begun with count
    assert missing(folder, manifest) == []
    assert not list(folder.glob(".*"))
    assert files_of(folder) == files_of(cache[0])
    TeacherCache(folder, manifest)


@pytest.mark.parametrize("damage", ["cut short", "deleted", "swapped"])
def test_a_damaged_shard_is_written_again(damage, cache, tmp_path):
    folder, manifest = shutil.copytree(cache[0], tmp_path / "cache"), cache[1]
    first, last = (folder / manifest.shards[place].name for place in (0, -1))
    (data,) = first.glob("*.arrow")
    if damage == "cut short":
        data.write_bytes(data.read_bytes()[:-200])
    elif damage == "deleted":
        data.unlink()
    else:
        for source, target in ((first, folder / "kept"), (last, first), (folder / "kept", last)):
            source.rename(target)
    assert missing(folder, manifest)
    with refused("incomplete"):
        TeacherCache(folder, manifest)
    write(folder, network(), digits(), manifest)
    assert files_of(folder) == files_of(cache[0])


def test_a_stale_cache_is_refused_and_what_differs_is_named(cache):
    data = digits()
    for other, difference in (
        (planned(digits(erasing=0.1)), "data.erasing 0.5 in the cache, 0.1 now"),
        (planned(digits(image_size=40)), "data.image_size 32 in the cache, 40 now"),
        (planned(digits(train_fraction=0.2)), "another data.rows, data.train_fraction 0.1 in the cache, 0.2 now"),
        (planned(digits(split_seed=1)), "data.split_seed 0 in the cache, 1 now"),
        (planned(data, weights="abc"), "teacher.weights None in the cache, abc now"),
        (planned(data, mix=MixConfig(mixup=0.8)), "model.mix.cutmix 1.0 in the cache, 0.0 now"),
        (planned(data, replace(CONFIG, tau=1.0)), "model.distill.tau 2.0 in the cache, 1.0 now"),
        (planned(data, replace(CONFIG, views=3)), "model.distill.views 2 in the cache, 3 now"),
    ):
        for opens in (TeacherCache, begin):
            with refused("cache-teacher", difference):
                opens(cache[0], other)


def test_what_is_no_cache_is_refused(cache, tmp_path):
    folder, manifest, _ = cache
    with refused("no such folder"):
        TeacherCache(tmp_path / "nowhere", manifest)
    (tmp_path / "notes.txt").write_text("mine")
    for opens in (TeacherCache, begin):
        with refused("not a cache"):
            opens(tmp_path, manifest)
    whole = (folder / "manifest.json").read_text()
    for content in ('{"name": "of a web page"}', "[]", whole[:-20]):
        (tmp_path / "manifest.json").write_text(content)
        with refused("manifest.json can't be read"):
            TeacherCache(tmp_path, manifest)
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.slow
def test_a_killed_process_leaves_whole_shards_and_every_process_has_the_same_settings_and_identity(tmp_path):
    weights = stored(shaken("test_resnet"), tmp_path / "resnet.safetensors")
    config = DistillConfig("test_resnet", weights=weights, class_map={name: n for n, name in enumerate(TEN)})
    folder, data = tmp_path / "cache", digits()
    script = f"""
import os
from shvit_pl.teachers.config import DistillConfig
from shvit_pl.teachers.teacher import identity_of
from tests.teachers.conftest import digits, network, planned, write
import shvit_pl.teachers.cache as cache
save, data, left = cache.Dataset.save_to_disk, digits(), iter(range(2))
print(identity_of({config!r}), planned(data).settings, sep="\\n", flush=True)
def killed(rows, path):
    save(rows, path)
    next(left, None) is None and os.kill(os.getpid(), 9)
cache.Dataset.save_to_disk = killed
write({str(folder)!r}, network(), data, planned(data))
"""
    root, variables = Path(__file__).parents[2], {**os.environ, "PYTHONHASHSEED": "5"}
    there = subprocess.run([sys.executable, "-c", script], cwd=root, env=variables, capture_output=True, text=True)
    assert there.returncode == -9, there.stderr
    assert there.stdout.splitlines()[:2] == [str(identity_of(config)), str(planned(data).settings)]
    assert len(missing(folder, planned(data))) == len(planned(data).shards) - 2
    write(folder, network(), data, planned(data))
    TeacherCache(folder, planned(data))
    assert not list(folder.glob(".*"))


def folder_of_images(folder, changed=None):
    for seed in range(20):
        path = folder / "ab"[seed % 2] / f"{seed:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(photo(seed=seed + 100 * (seed == changed)), "PNG"))
    return str(folder)


def hash_of(path):
    data = HFImageDataModule(path=path, image_size=16, batch_size=4, num_workers=0)
    data.setup("fit")
    return plan(CONFIG, {}, {}, data).settings["data.rows"]


def test_the_rows_hash_changes_with_an_image_or_the_order_and_not_with_the_place(tmp_path):
    first = folder_of_images(tmp_path / "first")
    assert hash_of(folder_of_images(tmp_path / "copy")) == hash_of(first)
    assert hash_of(folder_of_images(tmp_path / "other", changed=7)) != hash_of(first)
    rows = datasets.load_dataset("imagefolder", data_dir=first, split="train")
    hashes = []
    for name, order in (("rows", range(20)), ("again", range(20)), ("turned", range(19, -1, -1))):
        (tmp_path / name).mkdir()
        rows.select(order).to_parquet(str(tmp_path / name / "train.parquet"))
        hashes.append(hash_of(str(tmp_path / name)))
    assert hashes[0] == hashes[1] != hashes[2]
