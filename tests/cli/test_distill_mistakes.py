"""Mistakes about a teacher on the command line; those about teachers themselves: tests/teachers/test_mistakes.py."""

import os
import shutil

import pytest
import torch
from timm.models import save_for_hf

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

VALUES = [
    (["alpha=2"], ["model.distill.alpha 2.0", "from 0 (labels alone) to 1"]),
    (["alpha=lots"], ["model.distill.alpha lots", "a number"]),
    (["tau=0"], ["model.distill.tau 0.0", "from 0.01"]),
    (["tau=.nan"], ["model.distill.tau nan", "from 0.01 to 1000"]),
    (["objective=sofft"], ["model.distill.objective sofft", "did you mean 'soft'"]),
    (["heads=triple"], ["model.distill.heads triple", "dual, single"]),
    (["heads=dual", "objective=feature"], ["model.distill.heads dual", "--model.distill.objective soft"]),
    (["teacher_size=0"], ["model.distill.teacher_size 0", "1 to 4096"]),
    (["teacher_precision=fp16"], ["model.distill.teacher_precision fp16", "auto, fp32, bf16"]),
    (["top_k=0"], ["model.distill.top_k 0", "1 or more"]),
    (["views=0"], ["model.distill.views 0", "1 to 1000"]),
    (["teacher="], ["model.distill.teacher ''", "a timm model, a checkpoint"]),
    (["techer=x"], ["--model.distill.techer", "did you mean '--model.distill.teacher'"]),
    (["class_map=gone.yaml"], ["model.distill.class_map 'gone.yaml'", "No such file"]),
    (["class_map=resnet.safetensors"], ["model.distill.class_map 'resnet.safetensors'", "can't be read"]),
    (["class_map={a: 1}"], ["model.distill.class_map", "'a' is no class of the data"]),
    (["cache=gone"], ["model.distill.cache 'gone'", "no such folder", "shvit-pl cache-teacher"]),
    (["cache=backbone"], ["model.distill.cache 'backbone'", "this folder is no cache"]),
    (["cache=text.ckpt"], ["model.distill.cache 'text.ckpt'", "cache-teacher"]),
    (["cache=gone", "objective=feature"], ["model.distill.cache 'gone'", "it holds logits"]),
]
FIT = [
    *(([*UNCHECKED, *(f"{D}{flag}" for flag in flags)], words) for flags, words in VALUES),
    ([f"{D}teacher=test_resnet", f"{D}weights=seven.safetensors"], ["7 classes and the data has 10", "class_map"]),
    (NAMED, ["model.distill.teacher 'test_resnet'", "Likely reasons", "--model.distill.check false"]),
    ([f"{D}alpha=0.3"], ["model.distill.alpha 0.3", "there is no teacher"]),
    ([f"{D}cache=cache"], ["model.distill.cache 'cache'", "there is no teacher"]),
    (["--model.distill=x"], ["model.distill x", "section", "model.distill.teacher"]),
    ([*NAMED, "--model.design.distilled=false"], ["model.design.distilled false", "--model.distill.heads single"]),
    ([*NAMED, "--model.design.distilled=true", f"{D}heads=single"], ["model.design.distilled true", "Leave it out"]),
    ([*CACHED, *STREAM], ["data.streaming true", "--data.streaming false"]),
]
CACHE_TEACHER = [
    (NAMED, ["needs a teacher and a folder", "--model.distill.cache FOLDER"]),
    ([f"{D}cache=new"], ["model.distill.cache 'new'", "there is no teacher"]),
    ([*NAMED, f"{D}cache=new"], ["model.distill.teacher 'test_resnet'", "Likely reasons"]),
    ([*CACHED, f"{D}cache=backbone"], ["model.distill.cache 'backbone'", "this folder is no cache"]),
    ([*CACHED, f"{D}cache=text.ckpt/new"], ["model.distill.cache 'text.ckpt/new'", "text.ckpt is a file"]),
    ([*CACHED, f"{D}cache="], ["model.distill.cache ''", "a folder"]),
    ([*CACHED, f"{D}objective=feature"], ["it holds logits"]),
    ([*CACHED, *STREAM], ["data.streaming true", "--data.streaming false"]),
    ([*CACHED, f"{D}cahce=new"], ["--model.distill.cahce", "did you mean '--model.distill.cache'"]),
    ([*CACHED, "--trainer.max_epohs=2"], ["--trainer.max_epohs", "did you mean"]),
    ([*CACHED, "--ckpt_path=last"], ["ckpt_path last: cache-teacher trains nothing"]),
]
if os.getuid() != 0:  # root may write anywhere
    CACHE_TEACHER.append(([*CACHED, f"{D}cache=locked/new"], ["no access"]))


@pytest.fixture(scope="module")
def things(tmp_path_factory):
    """A folder with networks and files of all kinds."""
    root = tmp_path_factory.mktemp("things")
    for name, classes in (("resnet", 10), ("seven", 7)):
        stored(shaken("test_resnet", classes=classes), root / f"{name}.safetensors")
    (root / "text.ckpt").write_text("no weights")
    (root / "stream").mkdir()
    for split in ("train", "validation"):
        open_dataset("digits")["train"].select(range(64)).to_parquet(root / "stream" / f"{split}.parquet")
    save_for_hf(shaken("test_resnet", classes=0), root / "backbone", safe_serialization=True)
    (root / "locked").mkdir(mode=0o500)
    return root


@pytest.fixture
def here(things, tmp_path, monkeypatch):
    """The working directory, with these things in it."""
    shutil.copytree(things, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.mark.parametrize(
    ("command", "flags", "words"),
    [("fit", *case) for case in FIT] + [("cache-teacher", *case) for case in CACHE_TEACHER],
    ids=lambda value: value[-1] if isinstance(value, list) else value,
)
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
    refused([*flags, "--data.batch_size=15"], "data.batch_size 15", "14 and 16")
    assert fit(*flags) == 0


def test_a_teacher_whose_answers_are_not_numbers(here, line):
    model = shaken("test_resnet")
    torch.nn.init.constant_(model.get_classifier().bias, torch.nan)
    stored(model, here / "resnet.safetensors")
    assert cache_teacher(*CACHED, f"{D}views=1", "--data.train_fraction=0.1") == 2
    assert "model.distill.teacher: its logits are not finite" in line()


def test_a_setting_of_a_teacher_is_checked_in_other_commands_too(run, refused):
    best = f"--ckpt_path={run / 'checkpoints' / 'best.ckpt'}"
    refused([best, f"{D}alpha=2"], "model.distill.alpha 2.0", command="validate")
