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
from shvit_pl.errors import UserError
from shvit_pl.modules.config import MixConfig
from shvit_pl.teachers.cache import TeacherCache, begin, missing
from shvit_pl.teachers.cache_manifest import plan
from tests.data.pictures import encoded, photo
from tests.teachers.caches import CONFIG, ask, network, opened, planned


def in_a_process(script, **environment):
    """The script's result; it may import this file."""
    root, variables = Path(__file__).parents[2], {**os.environ, **environment}
    return subprocess.run([sys.executable, "-c", script], cwd=root, env=variables, capture_output=True, text=True)


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


@pytest.mark.parametrize("damage", ["cut short", "deleted", "swapped"])
def test_a_damaged_shard_is_written_anew(damage, cache, tmp_path):
    folder, net = tmp_path / "cache", network()
    shutil.copytree(cache[0], folder)
    first, last = (folder / cache[1].shards[place].name for place in (0, -1))
    (data,) = first.glob("*.arrow")
    if damage == "cut short":
        data.write_bytes(data.read_bytes()[:-200])
    elif damage == "deleted":
        data.unlink()
    else:
        first.rename(folder / "kept")
        last.rename(first)
        (folder / "kept").rename(last)
    assert missing(folder, cache[1])
    with pytest.raises(UserError, match="not whole"):
        TeacherCache(folder, planned(opened()))
    ask(net, folder, opened(), begin(folder, planned(opened())))
    assert files_of(folder) == files_of(cache[0])


def test_a_manifest_that_was_changed_by_hand_is_refused(cache, tmp_path):
    shutil.copytree(cache[0], tmp_path / "cache")
    manifest = tmp_path / "cache" / "manifest.json"
    text = manifest.read_text()
    views = f'"views": {cache[1].views},'
    assert views in text
    manifest.write_text(text.replace(views, '"views": 1,'))
    with pytest.raises(UserError, match="can't be read"):
        TeacherCache(tmp_path / "cache", planned(opened()))


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


@pytest.mark.slow
def test_a_killed_writer_leaves_only_whole_shards(tmp_path):
    folder = tmp_path / "cache"
    script = f"""
import os
from shvit_pl.teachers.cache import begin
from tests.teachers.caches import ask, network, opened, planned
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


@pytest.mark.slow
def test_the_settings_are_the_same_in_every_process():
    script = "from tests.teachers.caches import opened, planned; print(planned(opened()).settings)"
    there = in_a_process(script, PYTHONHASHSEED="5").stdout.splitlines()[-1]
    assert there == str(planned(opened()).settings)


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
