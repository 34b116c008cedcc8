"""`shvit-pl cache-teacher`, and `shvit-pl fit` on what it has written."""

import re
import shutil

import pytest
import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from shvit_pl import DistillationModule, DistillConfig
from shvit_pl.runs.folder import read_summary
from shvit_pl.teachers import teacher as teacher_module
from shvit_pl.teachers.cache import TeacherCacher
from shvit_pl.teachers.teacher import open_teacher
from tests.cli.caches import answers, assert_same_answers, cache_teacher, flags_of
from tests.cli.refusals import line_of
from tests.cli.runs import EVERYTHING, assert_same, fit, stop_at, weights

CLASSES = [str(number) for number in range(10)]


def times(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.fixture(scope="module")
def plain(tmp_path_factory, run):
    """A cache without mixing, and the flags that it was written with."""
    folder = tmp_path_factory.mktemp("plain") / "cache"
    flags = flags_of(run, folder)
    assert cache_teacher(*flags) == 0
    return folder, flags


@pytest.fixture(scope="module")
def mixed(tmp_path_factory, run):
    """A cache with every augmentation, and the flags that it was written with."""
    folder = tmp_path_factory.mktemp("mixed") / "cache"
    flags = flags_of(run, folder, *EVERYTHING, "--data.num_workers=0")
    assert cache_teacher(*flags) == 0
    return folder, flags


def test_it_says_what_it_writes_and_where(run, tmp_path, capsys):
    assert cache_teacher(*flags_of(run, "cache")) == 0
    out = capsys.readouterr().out
    assert f"teacher: {run}, 1.0 M parameters, 10 classes matched by name, 64 px, fp32; top-1 " in out
    said = re.search(r"3 views of 144 images: ([\d.]+) kB in cache; 3 of 3 files to write", out)
    written = sum(path.stat().st_size for path in (tmp_path / "cache").rglob("*.arrow"))
    assert float(said[1]) * 1000 == pytest.approx(written, rel=0.25)
    assert "train with the same flags by shvit-pl fit" in out
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("name", ["plain", "mixed"])
def test_a_run_on_a_cache_gets_the_answers_that_its_teacher_gives_to_its_images(name, run, request, monkeypatch):
    flags, seen = request.getfixturevalue(name)[1], []
    ask = DistillationModule._teacher_forward

    def keep(self, images, batch):
        seen.append((images.clone(), ask(self, images, batch)[0]))
        return ask(self, images, batch)

    monkeypatch.setattr(DistillationModule, "_teacher_forward", keep)
    assert fit(*flags) == 0
    teacher = open_teacher(
        DistillConfig(str(run), teacher_precision="fp32"), CLASSES, IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
    )
    assert len(seen) == 8
    for images, cached in seen:
        online = teacher.logits(images)
        distance = online - online.amax(1, keepdim=True)
        torch.testing.assert_close(cached, distance, atol=1e-4, rtol=2**-10)


def test_a_run_on_a_cache_says_where_its_answers_are_from_and_needs_no_teachers_network(plain, run, tmp_path):
    folder, flags = plain
    assert fit(*flags) == 0
    (of_run,) = (tmp_path / "runs" / "tiny").iterdir()
    note = read_summary(of_run)["teacher"]
    assert note.startswith(f"{run}, answers from {folder}; top-1 ")


def test_a_run_on_a_cache_that_was_stopped_resumes_exactly(mixed, tmp_path, monkeypatch):
    flags = [*mixed[1], "--checkpoint_every_n_steps=2"]
    assert fit(*flags, "--trainer.default_root_dir=whole") == 0
    with monkeypatch.context() as patch:
        stop_at(patch, epoch=1, batch=2)
        assert fit(*flags) == 130
    assert fit(*flags, "--ckpt_path=last") == 0
    whole, cut = (weights(tmp_path / root / "tiny" / "version_0") for root in ("whole", "runs"))
    assert_same(whole, cut)


def test_a_second_time_it_writes_nothing(plain, capsys):
    folder, flags = plain
    before = times(folder)
    assert cache_teacher(*flags, "--seed_everything=7", "--data.batch_size=32") == 0
    printed = capsys.readouterr().out
    assert "whole" in printed
    assert "teacher:" not in printed  # it is not even opened
    assert times(folder) == before


@pytest.mark.parametrize("limit", ["--trainer.limit_predict_batches=1", "--trainer.fast_dev_run=true"])
def test_what_is_not_whole_is_not_said_to_be(limit, plain, capsys):
    flags = [*plain[1], "--model.distill.cache=cut"]
    assert cache_teacher(*flags, limit) == 0
    printed = capsys.readouterr().out
    assert "files are there; the same command goes on" in printed
    assert "whole" not in printed


def test_a_cache_that_was_begun_in_another_precision_is_not_completed(plain, capsys, monkeypatch):
    flags = [*plain[1], "--model.distill.cache=cut", "--model.distill.teacher_precision=auto"]
    with monkeypatch.context() as patch:
        patch.setattr(teacher_module, "computes_in_bf16", lambda device: True)
        assert cache_teacher(*flags, "--trainer.limit_predict_batches=1") == 0
        capsys.readouterr()
    monkeypatch.setattr(teacher_module, "computes_in_bf16", lambda device: False)
    assert cache_teacher(*flags) == 2
    assert "begun in bf16, and here the teacher computes in fp32" in capsys.readouterr().err


def test_a_checkpoint_to_go_on_with_is_refused(plain, capsys):
    assert cache_teacher(*plain[1], "--ckpt_path=last") == 2
    assert "ckpt_path last: cache-teacher trains nothing" in capsys.readouterr().err


def test_an_interrupted_cache_is_refused_and_then_completed(mixed, tmp_path, monkeypatch, capsys):
    flags = [*mixed[1], "--model.distill.cache=cut"]
    write, written = TeacherCacher._write, []

    def stop(cacher, shard, columns):
        if written:
            raise KeyboardInterrupt
        written.append(shard.name)
        write(cacher, shard, columns)

    with monkeypatch.context() as patch:
        patch.setattr(TeacherCacher, "_write", stop)
        assert cache_teacher(*flags) == 130
    capsys.readouterr()
    assert fit(*flags) == 2
    line = line_of(capsys)
    assert "model.distill.cache 'cut': it is not whole, 1 of 3 files are there" in line
    assert "Run shvit-pl cache-teacher with the same settings" in line
    assert not (tmp_path / "runs").exists()
    first = times(tmp_path / "cut" / written[0])
    assert cache_teacher(*flags) == 0
    assert "2 of 3 files to write" in capsys.readouterr().out
    assert times(tmp_path / "cut" / written[0]) == first
    assert_same_answers(answers(tmp_path / "cut"), answers(mixed[0]))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("--data.erasing=0.25", "data.erasing 0.0 there, 0.25 here"),
        ("--model.mix.mixup=0.8", "model.mix.mixup 0.0 there, 0.8 here"),
        ("--model.distill.top_k=5", "model.distill.top_k 10 there, 5 here"),
        ("--model.distill.tau=3", "model.distill.tau 1.0 there, 3.0 here"),
        ("--model.distill.views=2", "model.distill.views 3 there, 2 here"),
        ("--model.distill.teacher_precision=bf16", "teacher.precision fp32 there, bf16 here"),
        ("--data.train_fraction=0.2", "other data.rows, data.train_fraction 0.1 there, 0.2 here"),
        ("--model.distill.use_ema=true", "teacher.averaged False there, True here"),
    ],
)
def test_a_cache_of_other_settings_is_refused(change, said, plain, capsys, tmp_path):
    folder, flags = plain
    assert fit(*flags, change) == 2
    line = line_of(capsys)
    assert f"model.distill.cache '{folder}': it holds answers of other settings" in line
    assert said in line
    assert not (tmp_path / "runs").exists()


def test_a_cache_of_other_settings_is_not_written_over(plain, capsys):
    folder, flags = plain
    before = times(folder)
    assert cache_teacher(*flags, "--data.erasing=0.25") == 2
    assert "data.erasing 0.0 there, 0.25 here" in line_of(capsys)
    assert times(folder) == before


def test_the_same_teacher_elsewhere_is_the_same_teacher_and_another_one_is_not(plain, run, tmp_path, capsys):
    shutil.copytree(run, tmp_path / "moved")
    assert fit(*plain[1], "--model.distill.teacher=moved") == 0
    checkpoint = tmp_path / "moved" / "checkpoints" / "best.ckpt"
    content = torch.load(checkpoint, weights_only=True)
    content["state_dict"]["model.head.l.bias"] += 1
    torch.save(content, checkpoint)
    capsys.readouterr()
    assert fit(*plain[1], "--model.distill.teacher=moved") == 2
    assert "other teacher.checkpoint" in line_of(capsys)


@pytest.mark.parametrize(
    "free",
    [
        ["--model.distill.alpha=0.9", "--model.distill.heads=single", "--model.optim.lr=0.001"],
        ["--data.batch_size=8", "--seed_everything=3", "--model.design.name=s1", "--trainer.max_epochs=1"],
    ],
    ids=["learning", "run"],
)
def test_what_changes_no_answer_may_be_changed(free, plain):
    assert fit(*plain[1], *free) == 0
