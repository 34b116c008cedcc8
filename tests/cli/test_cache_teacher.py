"""`shvit-pl cache-teacher`, and `shvit-pl fit` on what it has written."""

import re
import shutil

import pytest
import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from shvit_pl import DistillationModule, DistillConfig
from shvit_pl.runs.folder import read_summary
from shvit_pl.teachers import teacher as teacher_module
from shvit_pl.teachers.teacher import Teacher
from tests.cli.runs import EVERYTHING, assert_same, cache_flags, cache_teacher, columns, fit, only_run, stopped, weights

CLASSES = [str(number) for number in range(10)]


def times(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.fixture(scope="module")
def caches(tmp_path_factory, run):
    """Caches without mixing and with every augmentation: folder, and the flags that it was written with."""
    made = {}
    for name, more in (("plain", []), ("mixed", [*EVERYTHING, "--data.num_workers=0"])):
        folder = tmp_path_factory.mktemp(name) / "cache"
        made[name] = folder, cache_flags(run, folder, *more)
        assert cache_teacher(*made[name][1]) == 0
    return made


def test_what_it_writes_and_where_is_printed_and_a_second_time_it_writes_nothing(run, tmp_path, capsys):
    flags = cache_flags(run, "cache")
    assert cache_teacher(*flags) == 0
    out = capsys.readouterr().out
    assert f"teacher: {run}, 1.0 M parameters, 10 classes matched by name, 64 px, fp32; top-1 " in out
    size = re.search(r"3 views of 144 images: ([\d.]+) kB in cache; 3 of 3 files to write", out)
    written = sum(path.stat().st_size for path in (tmp_path / "cache").rglob("*.arrow"))
    assert float(size[1]) * 1000 == pytest.approx(written, rel=0.25)
    assert "now train, with the same flags for shvit-pl fit" in out
    assert not (tmp_path / "runs").exists()
    before = times(tmp_path / "cache")
    assert cache_teacher(*flags, "--seed_everything=7", "--data.batch_size=32") == 0
    printed = capsys.readouterr().out
    assert "complete: now train" in printed
    assert "teacher:" not in printed  # it is not even opened
    assert times(tmp_path / "cache") == before


@pytest.mark.parametrize("name", [pytest.param("plain", marks=pytest.mark.slow), "mixed"])
def test_a_run_on_a_cache_gets_the_logits_that_its_teacher_gives_for_its_images_and_resumes_exactly(
    name, caches, run, tmp_path, monkeypatch
):
    (folder, flags), seen, ask = caches[name], [], DistillationModule._teacher_forward
    flags = [*flags, "--checkpoint_every_n_steps=2"]

    def keep(self, images, batch):
        seen.append((images.clone(), ask(self, images, batch)[0]))
        return ask(self, images, batch)

    with monkeypatch.context() as patch:
        patch.setattr(DistillationModule, "_teacher_forward", keep)
        assert fit(*flags, "--trainer.default_root_dir=whole") == 0
    whole = tmp_path / "whole" / "tiny" / "version_0"
    assert read_summary(whole)["teacher"].startswith(f"{run}, logits from {folder}; top-1 ")
    config = DistillConfig(str(run), teacher_precision="fp32")
    teacher = Teacher(config, CLASSES, IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
    assert len(seen) == 8
    for images, cached in seen:
        online = teacher.logits(images)
        torch.testing.assert_close(cached, online - online.amax(1, keepdim=True), atol=1e-4, rtol=2**-10)
    if name == "mixed":
        stopped(1, 2, *flags)
        assert fit(*flags, "--ckpt_path=last") == 0
        assert_same(weights(whole), weights(only_run(tmp_path)))


def test_a_cache_that_was_begun_in_another_precision_is_not_completed(caches, refused, monkeypatch):
    flags = [*caches["plain"][1], "--model.distill.cache=cut", "--model.distill.teacher_precision=auto"]
    with monkeypatch.context() as patch:
        patch.setattr(teacher_module, "computes_in_bf16", lambda device: True)
        assert cache_teacher(*flags, "--trainer.limit_predict_batches=1") == 0
    monkeypatch.setattr(teacher_module, "computes_in_bf16", lambda device: False)
    refused(flags, "begun in bf16, and here the teacher computes in fp32", command="cache-teacher")


def test_an_incomplete_cache_is_not_called_complete_is_refused_and_then_completed(caches, tmp_path, refused, capsys):
    flags = [*caches["mixed"][1], "--model.distill.cache=cut"]
    for limit in ("--trainer.fast_dev_run=true", "--trainer.limit_predict_batches=10"):  # of 9 batches per file
        assert cache_teacher(*flags, limit) == 0
        printed = capsys.readouterr().out
        assert "files are there; run the same command again to continue" in printed
        assert "complete: now train" not in printed
    said = "model.distill.cache 'cut': it is incomplete, 1 of 3 files are there"
    refused(flags, said, "Run shvit-pl cache-teacher with the same settings")
    (first,) = (path for path in (tmp_path / "cut").iterdir() if path.is_dir())
    before = times(first)
    assert cache_teacher(*flags) == 0
    assert "2 of 3 files to write" in capsys.readouterr().out
    assert times(first) == before
    assert_same(columns(tmp_path / "cut"), columns(caches["mixed"][0]))


def test_a_cache_of_other_settings_is_refused_and_not_written_over(caches, refused):
    """All settings that count: tests/teachers/test_cache_files.py."""
    folder, flags = caches["plain"]
    before = times(folder)
    for change, words in (
        ("--data.erasing=0.25", "data.erasing 0.0 in the cache, 0.25 now"),
        ("--model.distill.top_k=5", "model.distill.top_k 10 in the cache, 5 now"),
        ("--model.distill.teacher_precision=bf16", "teacher.precision fp32 in the cache, bf16 now"),
        ("--model.distill.use_ema=true", "teacher.averaged False in the cache, True now"),
    ):
        refused([*flags, change], f"model.distill.cache '{folder}': it was written with other settings", words)
    refused([*flags, "--data.erasing=0.25"], "data.erasing 0.0 in the cache", command="cache-teacher")
    assert times(folder) == before


def test_what_changes_no_logit_may_be_changed_and_another_teacher_is_refused(caches, run, tmp_path, refused):
    flags = [*caches["plain"][1], "--model.distill.teacher=moved"]
    shutil.copytree(run, tmp_path / "moved")
    free = ["--model.distill.alpha=0.9", "--model.distill.heads=single", "--model.optim.lr=0.001"]
    free += ["--data.batch_size=8", "--seed_everything=3", "--model.design.depth=[1,1,1]", "--trainer.max_epochs=1"]
    assert fit(*flags, *free) == 0
    checkpoint = tmp_path / "moved" / "checkpoints" / "best.ckpt"
    content = torch.load(checkpoint, weights_only=True)
    content["state_dict"]["model.head.l.bias"] += 1
    torch.save(content, checkpoint)
    refused(flags, "other teacher.checkpoint")
