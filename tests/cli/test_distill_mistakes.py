"""Mistakes about a teacher on the command line; settings and teachers themselves: tests/teachers/test_mistakes.py."""

import os
import shutil

import pytest
import torch

from shvit_pl.runs.folder import read_summary
from tests.cli.runs import cache_teacher, files_up_to, fit, only_run
from tests.data.pictures import open_dataset
from tests.teachers.makers import shaken, stored

D = "--model.distill."
NAMED = [f"{D}teacher=test_resnet", f"{D}weights=resnet.safetensors", f"{D}teacher_size=32"]
UNCHECKED = [*NAMED, f"{D}check=false"]
CACHED = [*UNCHECKED, f"{D}cache=cache"]
STREAM = ["--data.streaming=true", "--data.steps_per_epoch=2", "--trainer.limit_train_batches=null"]
STREAM += ["--data.path=stream"]

MISTAKES = [
    ("fit", [*UNCHECKED, f"{D}class_map={{a: 1}}"], ["model.distill.class_map", "'a' is no class of the data"]),
    ("fit", [*UNCHECKED, f"{D}cache=gone"], ["model.distill.cache 'gone'", "no such folder", "shvit-pl cache-teacher"]),
    ("fit", [*UNCHECKED, f"{D}cache=text.ckpt"], ["model.distill.cache 'text.ckpt'", "cache-teacher"]),
    ("fit", NAMED, ["model.distill.teacher 'test_resnet'", "Likely reasons", "--model.distill.check false"]),
    ("cache-teacher", NAMED, ["model.distill.cache: cache-teacher needs it", "--model.distill.cache FOLDER"]),
    ("cache-teacher", [*NAMED, f"{D}cache=new"], ["model.distill.teacher 'test_resnet'", "Likely reasons"]),
    ("cache-teacher", [*CACHED, f"{D}cache=text.ckpt/new"], ["cache 'text.ckpt/new'", "text.ckpt is a file"]),
    ("cache-teacher", [*CACHED, *STREAM], ["data.streaming true: impossible with model.distill.cache"]),
    ("cache-teacher", [*CACHED, "--data.sampler=balanced"], ["data.sampler balanced: impossible with model.distill"]),
    ("cache-teacher", [*CACHED, "--ckpt_path=last"], ["ckpt_path 'last': cache-teacher trains nothing"]),
]
if os.getuid() != 0:  # root may write anywhere
    MISTAKES.append(("cache-teacher", [*CACHED, f"{D}cache=locked/new"], ["no access"]))


@pytest.fixture(scope="module")
def things(tmp_path_factory):
    """A folder with a network, a stream's files and others."""
    root = tmp_path_factory.mktemp("things")
    stored(shaken("test_resnet"), root / "resnet.safetensors")
    (root / "text.ckpt").write_text("no weights")
    (root / "stream").mkdir()
    for split in ("train", "validation"):
        open_dataset("digits")["train"].select(range(64)).to_parquet(root / "stream" / f"{split}.parquet")
    (root / "locked").mkdir(mode=0o500)
    return root


@pytest.fixture
def here(things, tmp_path, monkeypatch):
    """The working directory, with these things in it."""
    shutil.copytree(things, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.mark.parametrize(("command", "flags", "words"), MISTAKES, ids=str)
def test_a_mistake(command, flags, words, here, refused):
    refused(flags, *words, command=command)


def test_who_insists_has_an_untrained_teacher_and_a_config_may_say_that_there_is_none(here):
    (here / "mine.yaml").write_text("model: {distill: {teacher: null}}")
    for flags in (UNCHECKED, ["--config=mine.yaml", "--run_name=none"]):
        assert fit(*flags, "--trainer.max_epochs=1", "--trainer.limit_train_batches=1") == 0
    assert "not checked" in read_summary(only_run(here))["teacher"]
    assert read_summary(here / "runs" / "none" / "version_0")["teacher"] is None


@pytest.mark.slow
def test_a_full_disk_leaves_a_cache_that_can_be_completed(here, line, refused):
    flags = [*CACHED, f"{D}views=2", "--data.train_fraction=0.1"]
    with files_up_to(8000):
        assert cache_teacher(*flags) == 2
    message = line()
    for text in ("File too large", "make room", "another --model.distill.cache"):
        assert text in message
    assert cache_teacher(*flags) == 0
    refused([*flags, "--data.batch_size=15"], "data.batch_size 15", "14 or 16")
    assert fit(*flags) == 0


def test_a_teacher_whose_logits_are_not_numbers(here, line):
    model = shaken("test_resnet")
    torch.nn.init.constant_(model.get_classifier().bias, torch.nan)
    stored(model, here / "resnet.safetensors")
    assert cache_teacher(*CACHED, f"{D}views=1", "--data.train_fraction=0.1") == 2
    assert "model.distill.teacher: its logits are not finite" in line()


def test_a_setting_of_a_teacher_is_checked_in_other_commands_too(run, refused):
    best = f"--ckpt_path={run / 'checkpoints' / 'best.ckpt'}"
    refused([best, f"{D}alpha=2"], "model.distill.alpha 2", "numbers from 0 to 1", command="validate")
