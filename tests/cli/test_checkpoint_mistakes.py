"""Mistakes about checkpoints and files of weights: missing, cut short, of something else, of another run, older."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from shvit_pl import load_weights
from shvit_pl.cli import main
from shvit_pl.deploy.images import RealImages, verification_images
from shvit_pl.models import create_model
from shvit_pl.models.open_network import open_network
from shvit_pl.models.weights import read_checkpoint
from tests import refusals
from tests.cli.runs import fit, only_run

MORE = "--extend_to=3"
CHANGED = ["--allow_changes=true", MORE]


@pytest.fixture
def last(short_run, tmp_path):
    """The last checkpoint of a run that ended well, in no run folder."""
    return shutil.copy(short_run / "checkpoints" / "last.ckpt", tmp_path / "last.ckpt")


def edit(path, change):
    """Write a checkpoint anew after `change`, which may return another one."""
    content = torch.load(path, weights_only=True)
    torch.save(change(content) or content, path)


def without(*keys):
    """A change that leaves out what these keys lead to."""

    def change(content):
        for key in keys[:-1]:
            content = content[key]
        del content[keys[-1]]

    return change


def with_hyper_parameters(**values):
    """A change of what the checkpoint says of its module."""
    return lambda content: content["hyper_parameters"].update(values)


def of_two_processes(content):
    state = content["callbacks"]["RunSettings"]
    state["processes"] = 2


NOT_WHOLE = {
    "weights": lambda content: content["state_dict"],
    "no optimizer": without("optimizer_states"),
    "no progress": without("loops"),
    "a list": lambda content: [1, 2],
    "no weights": without("state_dict"),
    "no data": without("datamodule_hyper_parameters"),
    "other design": with_hyper_parameters(design={"name": "tiny", "wings": 2}),
    "no classes": without("hyper_parameters", "class_names"),
}


@pytest.mark.parametrize("change", NOT_WHOLE.values(), ids=NOT_WHOLE)
def test_a_file_that_is_no_whole_checkpoint_of_ours(change, last):
    edit(last, change)
    words = "ckpt_path 'last.ckpt': not a complete checkpoint"
    with refusals.refused(words, "Give a run's checkpoints/best.ckpt or last.ckpt"):
        read_checkpoint("last.ckpt")


def test_a_checkpoint_that_was_cut_short_or_is_not_there(last, refused):
    content = last.read_bytes()
    for size in (0, 5000, -1000):
        last.write_bytes(content[:size])
        with refusals.refused("ckpt_path 'last.ckpt'", "can't be read"):
            read_checkpoint("last.ckpt")
    for path, words in (("nothing.ckpt", "no such file"), (".", "a folder")):
        with refusals.refused(f"ckpt_path '{path}': {words}", "last.ckpt"):
            read_checkpoint(path)
    for command in ("fit", "validate"):
        refused(["--ckpt_path=last.ckpt"], "can't be read", command=command)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("runs/pics", "a folder of runs. Give one, such as runs/pics/version_1"),
        ("runs", "a folder of runs. Give one, such as runs/pics/version_1"),
        ("runs/pics/version_1/checkpoints", "a folder in a run. Give the run, runs/pics/version_1"),
        ("nope", "no such file or folder. Give a run's folder, such as runs/pics/version_1, or"),
        ("runs/pics/version_7", "no such file or folder. Give a run's folder, such as runs/pics/version_1, or"),
        (
            "runs/pics/version_0/checkpoints/gone.ckpt",
            "no such file or folder. Give a run's folder, such as runs/pics/v",
        ),
    ],
)
def test_a_path_that_is_no_run_is_answered_by_the_run_to_give(path, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for version in range(2):
        (tmp_path / f"runs/pics/version_{version}/checkpoints").mkdir(parents=True)
        (tmp_path / f"runs/pics/version_{version}/checkpoints/best.ckpt").touch()
    with refusals.refused(f"ckpt_path '{path}': {words}"):
        read_checkpoint(path)
    if "folder" in words[:9]:
        with refusals.refused(f"'{path}': {words}"):
            load_weights(create_model("tiny"), path)


def test_a_relative_path_of_a_run_is_named_with_the_folder_in_which_it_was_started(
    image_folder, tmp_path, monkeypatch, refused
):
    assert fit("--data.path=images", "--data.batch_size=4", "--trainer.max_steps=1") == 0
    run, elsewhere = only_run(tmp_path), tmp_path / "elsewhere"
    shutil.copytree(run, elsewhere / "moved")
    monkeypatch.chdir(elsewhere)
    named = f"data.path 'images': relative to {tmp_path}, where the run was started."
    for command in ("validate", "test", "predict"):
        for flag in ("--ckpt_path", "--model.init_from"):
            refused([f"{flag}={run}"], f"{named} Give --data.path {image_folder}.", command=command)
    flags = [f"--ckpt_path={run}", "--data.path=images", "--extend_to=2"]
    refused(flags, f"{named} Resume the run in that folder, or: Give --data.path {image_folder} --allow_changes true.")
    moved = "the run was started in: give the images by --data.path."
    refused(["--ckpt_path=moved"], "data.path 'images': no such file", moved, command="validate")
    opened = open_network(str(run))
    with refusals.refused(f"{named} Give --data.path {image_folder}."):
        RealImages(opened, 64, None, normalized=True)
    assert f"'images': relative to {tmp_path}" in verification_images(opened, 64, None, True, 2)[1]
    assert main(["validate", f"--ckpt_path={run}", f"--data.path={image_folder}", "--data.num_workers=0"]) == 0
    assert json.loads(Path("metrics.json").read_text())["data"]["count"] == 5  # of 24: those that were held out


@pytest.mark.parametrize(
    ("change", "flags", "words"),
    [
        (without("state_dict", "model.head.l.bias"), CHANGED, "the checkpoint's tensors don't fit this model"),
        (with_hyper_parameters(class_names=None), CHANGED, "has no class names"),
        (of_two_processes, [MORE], "the run had 2 processes, this one has 1"),
        (without("callbacks", "RunSettings", "settings", "model.freeze_bn"), [MORE], "model.freeze_bn unset -> False"),
    ],
    ids=["a tensor is missing", "no classes", "two processes", "a setting is missing"],
)
def test_a_checkpoint_that_does_not_fit(change, flags, words, last, refused):
    edit(last, change)
    refused(["--ckpt_path=last.ckpt", *flags], words)


def test_weights_that_a_run_began_with_need_not_be_there_to_measure_it(last):
    edit(last, with_hyper_parameters(init_from="averaged.ckpt", use_ema=True))
    assert main(["predict", "--ckpt_path=last.ckpt", "--trainer.limit_predict_batches=1"]) == 0


OTHERS = [
    ([MORE, "--model.optim.lr=1e-5"], ["model.optim.lr 0.008 -> 1e-05", "--allow_changes true"]),
    ([MORE, "--data.batch_size=8", "--seed_everything=3"], ["seed_everything 0 -> 3", "data.batch_size 16 -> 8"]),
    ([*CHANGED, "--model.optim.name=sgd"], ["model.optim.name adamw -> sgd", "--model.init_from"]),
    ([*CHANGED, "--model.optim.layer_decay=0.9"], ["model.optim.layer_decay None -> 0.9", "--model.init_from"]),
    ([*CHANGED, "--model.ema.decay=0.9"], ["model.ema.decay 0.9", "no averaged weights", "--model.init_from"]),
    (
        [*CHANGED, "--model.design.drop_path=0.1"],
        ["another network", "model.design.drop_path is 0.0 there and 0.1 "],
    ),
    ([*CHANGED, "--data.path=./nothing"], ["data.path './nothing'"]),
    ([MORE, "--monitor=val/loss"], ["monitor val/acc1 -> val/loss"]),
]


@pytest.mark.parametrize(("flags", "words"), OTHERS, ids=lambda value: " ".join(value) or "nothing left to do")
def test_a_resumed_run_that_would_be_another(flags, words, short_run, refused):
    refused([f"--ckpt_path={short_run / 'checkpoints' / 'last.ckpt'}", *flags], *words)


def test_mistakes_in_measuring_a_checkpoint(last, refused):
    none = "model.use_ema true: the checkpoint has no averaged weights"
    for command, flag, words in (
        *((command, "--model.use_ema=true", none) for command in ("validate", "predict")),
        ("test", "--model.ema.decay=0.9", "model.ema.decay 0.9: the checkpoint holds no averaged weights"),
        ("validate", "--model.design.name=s1", "here). Leave them out."),
        (
            "test",
            "--model.class_names=[a,b]",
            "model.class_names: it names 2 classes (a; b), and the checkpoint has",
        ),
    ):
        refused(["--ckpt_path=last.ckpt", flag], words, command=command)


def test_files_of_weights_that_are_none_or_not_there(refused, tmp_path):
    """All kinds: tests/models/test_weights.py."""
    (tmp_path / "text.pth").write_text("no weights")
    for source, words in {"text.pth": "not a readable file of weights", "gone.pth": "no such file"}.items():
        refused([f"--model.init_from={source}"], f"model.init_from {source!r}", words)


def test_weights_of_another_design_and_averaged_ones_that_are_not_there(last, refused):
    flags = ["--model.init_from=last.ckpt", "--model.design.name=s2", "--data.image_size=128"]
    refused(flags, "model.init_from 'last.ckpt'", "another design", "Nothing was loaded", "set model.design")
    refused(["--model.init_from=last.ckpt", "--model.use_ema=true"], "no averaged weights", "Leave out model.use_ema")
