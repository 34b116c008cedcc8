"""Every mistake about a teacher on the command line: one short message, exit code 2, and nothing is left behind."""

import os
import shutil

import pytest
import torch
import yaml
from timm.models import save_for_hf

from shvit_pl.cli import main
from shvit_pl.runs.folder import read_summary
from tests.cli.disk import files_up_to
from tests.cli.refusals import files, line_of
from tests.cli.runs import QUICK, fit
from tests.data.opening import open_dataset
from tests.teachers.makers import shaken, stored

D = "--model.distill."
NAMED = [f"{D}teacher=test_resnet", f"{D}weights=resnet.safetensors", f"{D}teacher_size=32"]
CACHED = [*NAMED, f"{D}check=false", f"{D}cache=cache"]
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
    (["check=maybe"], ["model.distill.check maybe", "true or false"]),
    (["top_k=0"], ["model.distill.top_k 0", "1 or more"]),
    (["views=0"], ["model.distill.views 0", "1 to 1000"]),
    (["views=some"], ["model.distill.views some", "whole number"]),
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
TEACHERS = [  # all others: tests/teachers/test_mistakes.py
    ([f"{D}teacher=regnety_16"], ["model.distill.teacher 'regnety_16'", "did you mean 'regnety_160'"]),
    ([f"{D}teacher=test_resnet", f"{D}weights=gone.pth"], ["model.distill.weights 'gone.pth'", "no such file"]),
    ([f"{D}teacher=test_resnet", f"{D}weights=seven.safetensors"], ["7 classes and the data has 10", "class_map"]),
    (NAMED, ["model.distill.teacher 'test_resnet'", "Likely reasons", "--model.distill.check false"]),
]
CONTRADICTIONS = [
    ([f"{D}alpha=0.3"], ["model.distill.alpha 0.3", "there is no teacher"]),
    ([f"{D}cache=cache"], ["model.distill.cache 'cache'", "there is no teacher"]),
    (["--model.distill=x"], ["model.distill x", "section", "model.distill.teacher"]),
    (["--model.distill=true"], ["model.distill true", "section", "model.distill.teacher"]),
    ([*NAMED, "--model.design.distilled=false"], ["model.design.distilled false", "--model.distill.heads single"]),
    ([*NAMED, "--model.design.distilled=true", f"{D}heads=single"], ["model.design.distilled true", "Leave it out"]),
    ([*CACHED, *STREAM], ["data.streaming true", "--data.streaming false"]),
]
YAML = {
    "an unknown key": ("teacher: t\n    techer: t", ["model.distill.techer", "did you mean 'model.distill.teacher'"]),
    "a text for a number": ("teacher: t\n    alpha: lots", ["model.distill.alpha lots", "a number"]),
    "no teacher": ("tau: 3.0", ["model.distill.tau 3.0", "there is no teacher"]),
    "an unknown objective": ("objective: logits", ["model.distill.objective logits", "hard, soft"]),
}


@pytest.fixture(scope="module")
def things(tmp_path_factory):
    """A folder with networks and files of all kinds."""
    root = tmp_path_factory.mktemp("things")
    for name, model, classes in (
        ("resnet", "test_resnet", 10),
        ("seven", "test_resnet", 7),
    ):
        stored(shaken(model, classes=classes), root / f"{name}.safetensors")
    (root / "text.ckpt").write_text("no weights")
    (root / "stream").mkdir()
    for split in ("train", "validation"):
        open_dataset("digits")["train"].select(range(64)).to_parquet(root / "stream" / f"{split}.parquet")
    (root / "run" / "checkpoints").mkdir(parents=True)
    save_for_hf(shaken("test_resnet", classes=0), root / "backbone", safe_serialization=True)
    return root


@pytest.fixture
def here(things, tmp_path, monkeypatch):
    """The working directory, with these things in it."""
    shutil.copytree(things, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def assert_refused(command, flags, said, capsys, folder):
    before = files(folder)
    assert main([command, *QUICK, *flags]) == 2
    line = line_of(capsys)
    assert line.startswith(f"shvit-pl {command}: error: ")
    for text in said:
        assert text in line
    assert files(folder) == before
    assert not (folder / "runs" / "tiny").exists()


@pytest.mark.parametrize(("flags", "said"), VALUES, ids=lambda value: value[0])
def test_a_wrong_value(flags, said, here, capsys):
    flags = [f"{D}{flag}" for flag in flags]
    assert_refused("fit", [*NAMED, f"{D}check=false", *flags], said, capsys, here)


@pytest.mark.parametrize(("flags", "said"), TEACHERS, ids=lambda value: " ".join(value))
def test_a_teacher_that_can_not_teach(flags, said, here, capsys):
    assert_refused("fit", flags, said, capsys, here)


@pytest.mark.parametrize(("flags", "said"), CONTRADICTIONS, ids=lambda value: value[-1])
def test_settings_that_contradict_each_other(flags, said, here, capsys):
    assert_refused("fit", flags, said, capsys, here)


@pytest.mark.parametrize("mistake", YAML)
def test_a_mistake_in_a_config(mistake, here, capsys):
    text, said = YAML[mistake]
    (here / "mine.yaml").write_text(f"model:\n  distill:\n    {text}\n")
    assert_refused("fit", ["--config=mine.yaml"], said, capsys, here)


def test_an_untrained_teacher_teaches_whom_who_insists(here):
    assert fit(*NAMED, f"{D}check=false") == 0
    assert "not checked" in read_summary(here / "runs" / "tiny" / "version_0")["teacher"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ([], ["model.distill", "needs a teacher and a folder"]),
        (NAMED, ["needs a teacher and a folder", "--model.distill.cache FOLDER"]),
        ([f"{D}cache=new"], ["model.distill.cache 'new'", "there is no teacher"]),
        ([*NAMED, f"{D}cache=new"], ["model.distill.teacher 'test_resnet'", "Likely reasons"]),
        ([*CACHED, f"{D}cache=backbone"], ["model.distill.cache 'backbone'", "this folder is no cache"]),
        ([*CACHED, f"{D}cache=text.ckpt"], ["model.distill.cache 'text.ckpt'", "text.ckpt is a file"]),
        ([*CACHED, f"{D}cache=text.ckpt/new"], ["model.distill.cache 'text.ckpt/new'", "text.ckpt is a file"]),
        ([*CACHED, f"{D}cache="], ["model.distill.cache ''", "a folder"]),
        ([*CACHED, f"{D}objective=feature"], ["it holds logits"]),
        ([*CACHED, *STREAM], ["data.streaming true", "--data.streaming false"]),
        ([*CACHED, f"{D}views=0"], ["model.distill.views 0"]),
        ([*CACHED, f"{D}cahce=new"], ["--model.distill.cahce", "did you mean '--model.distill.cache'"]),
        ([*CACHED, "--trainer.max_epohs=2"], ["--trainer.max_epohs", "did you mean"]),
    ],
    ids=lambda value: value[-1] if value else "nothing",
)
def test_a_mistake_of_cache_teacher(flags, said, here, capsys):
    assert_refused("cache-teacher", flags, said, capsys, here)


@pytest.mark.skipif(os.getuid() == 0, reason="root may write anywhere")
def test_a_cache_where_nothing_can_be_written(here, capsys):
    (here / "locked").mkdir(mode=0o500)
    assert_refused("cache-teacher", [*CACHED, f"{D}cache=locked/new"], ["no access"], capsys, here)


@pytest.mark.slow
def test_a_full_disk_leaves_a_cache_that_can_be_completed(here, capsys):
    flags = [*CACHED, f"{D}views=2", "--data.train_fraction=0.1"]
    with files_up_to(8000):
        assert main(["cache-teacher", *QUICK, *flags]) == 2
    line = line_of(capsys)
    for text in ("File too large", "make room", "another --model.distill.cache"):
        assert text in line
    assert main(["cache-teacher", *QUICK, *flags]) == 0
    capsys.readouterr()
    assert_refused("fit", [*flags, "--data.batch_size=15"], ["data.batch_size 15", "14 and 16"], capsys, here)
    assert fit(*flags) == 0


def test_a_teacher_whose_answers_are_not_numbers(here, capsys):
    model = shaken("test_resnet")
    torch.nn.init.constant_(model.get_classifier().bias, torch.nan)
    stored(model, here / "resnet.safetensors")
    flags = [*CACHED, f"{D}views=1", "--data.train_fraction=0.1"]
    assert main(["cache-teacher", *QUICK, *flags]) == 2
    assert "model.distill.teacher: its logits are not finite" in line_of(capsys)


def test_a_setting_of_a_teacher_is_no_setting_of_other_commands_to_get_wrong(run, capsys):
    checkpoint = f"--ckpt_path={run / 'checkpoints' / 'best.ckpt'}"
    assert main(["validate", checkpoint, f"{D}alpha=2"]) == 2
    assert "model.distill.alpha 2.0" in line_of(capsys)


def test_the_distillation_of_a_config_without_a_teacher_is_none(here):
    (here / "mine.yaml").write_text(yaml.safe_dump({"model": {"distill": {"teacher": None}}}))
    assert fit("--config=mine.yaml") == 0
    assert read_summary(here / "runs" / "tiny" / "version_0")["teacher"] is None
