"""Mistakes about checkpoints and files of weights: missing, cut short, of something else, of another run, older."""

import io
import os
import pickle
import shutil

import pytest
import torch

from shvit_pl.cli import main
from tests.cli.refusals import assert_refused, files, line_of
from tests.cli.runs import fit

MORE = "--trainer.max_epochs=3"
CHANGED = ["--allow_changes=true", MORE]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of two epochs that ended well."""
    root = tmp_path_factory.mktemp("run")
    assert fit(f"--trainer.default_root_dir={root}") == 0
    return root / "tiny" / "version_0"


@pytest.fixture
def last(run, tmp_path):
    """Its last checkpoint, for this test alone, and in no run folder."""
    return shutil.copy(run / "checkpoints" / "last.ckpt", tmp_path / "last.ckpt")


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


def with_unknown_design(content):
    content["hyper_parameters"]["design"]["wings"] = 2


def without_classes(content):
    content["hyper_parameters"]["class_names"] = None


def of_two_processes(content):
    state = content["callbacks"]["RunSettings"]
    state["processes"], state["settings"]["trainer.max_epochs"] = 2, 3


NOT_OURS = {
    "plain weights": lambda content: content["state_dict"],
    "a list": lambda content: [1, 2],
    "nothing in it": lambda content: {"epoch": 1},
    "no optimiser": without("optimizer_states"),
    "no weights": without("state_dict"),
    "no progress": without("loops"),
    "no settings of the data": without("datamodule_hyper_parameters"),
    "an older design": with_unknown_design,
    "no classes": without("hyper_parameters", "class_names"),
}


@pytest.mark.parametrize("command", ["fit", "validate"])
@pytest.mark.parametrize("mistake", NOT_OURS)
def test_a_file_that_is_no_whole_checkpoint_of_ours(mistake, command, last, capsys, tmp_path):
    edit(last, NOT_OURS[mistake])
    before = files(tmp_path)
    assert main([command, "--ckpt_path=last.ckpt"]) == 2
    line = line_of(capsys)
    assert "ckpt_path 'last.ckpt': not a whole checkpoint" in line
    assert "Give a run's checkpoints/best.ckpt or last.ckpt" in line
    assert files(tmp_path) == before


@pytest.mark.parametrize("size", [0, 5000, -1000])
def test_a_checkpoint_that_was_cut_short(size, last, capsys, tmp_path):
    content = last.read_bytes()
    last.write_bytes(content[:size])
    assert_refused(["--ckpt_path=last.ckpt"], ["ckpt_path 'last.ckpt'", "can't be read"], capsys, tmp_path)


@pytest.mark.parametrize(("path", "said"), [("nothing.ckpt", "no such file"), (".", "a folder")])
def test_a_checkpoint_that_is_not_there(path, said, capsys, tmp_path):
    assert_refused([f"--ckpt_path={path}"], [f"ckpt_path '{path}': {said}", "last.ckpt"], capsys, tmp_path)


@pytest.mark.parametrize(
    ("change", "flags", "said"),
    [
        (without("state_dict", "model.head.l.bias"), CHANGED, "the checkpoint's tensors are not this model's"),
        (without_classes, CHANGED, "does not name its classes"),
        (of_two_processes, [MORE], "the interrupted run had 2 processes, this one has 1"),
        (without("callbacks", "RunSettings", "settings", "model.freeze_bn"), [], "model.freeze_bn unset -> False"),
    ],
    ids=["a tensor is missing", "no classes", "two processes", "an older setting"],
)
def test_a_checkpoint_that_does_not_fit(change, flags, said, last, capsys, tmp_path):
    edit(last, change)
    assert_refused(["--ckpt_path=last.ckpt", *flags], [said], capsys, tmp_path)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--model.optim.lr=1e-5"], ["model.optim.lr 0.008 -> 1e-05", "--allow_changes true"]),
        (["--trainer.max_epochs=5"], ["trainer.max_epochs 2 -> 5", "--allow_changes true"]),
        (["--data.batch_size=8", "--seed_everything=3"], ["seed_everything 0 -> 3", "data.batch_size 16 -> 8"]),
        ([], ["its 2 epochs are all", "--trainer.max_epochs 3 --allow_changes true"]),
        (["--trainer.max_epochs=1", "--allow_changes=true"], ["its 2 epochs are all", "--trainer.max_epochs 3"]),
        ([*CHANGED, "--model.optim.name=sgd"], ["model.optim.name adamw -> sgd", "--model.init_from"]),
        ([*CHANGED, "--model.optim.layer_decay=0.9"], ["model.optim.layer_decay None -> 0.9", "--model.init_from"]),
        ([*CHANGED, "--model.ema.decay=0.9"], ["model.ema.decay 0.9", "no averaged weights", "--model.init_from"]),
        ([*CHANGED, "--model.design.drop_path=0.1"], ["another model.design", "drop_path is 0.0 there and 0.1 here"]),
        ([*CHANGED, "--data.path=./nothing"], ["data.path './nothing'"]),
    ],
    ids=lambda value: " ".join(value) or "nothing left to do",
)
def test_a_resumed_run_that_would_be_another(flags, said, run, capsys, tmp_path):
    assert_refused([f"--ckpt_path={run / 'checkpoints' / 'last.ckpt'}", *flags], said, capsys, tmp_path)


@pytest.mark.parametrize("command", ["validate", "test", "predict"])
@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--model.use_ema=true"], "model.use_ema true: the checkpoint has no averaged weights"),
        (["--model.ema.decay=0.9"], "model.ema.decay 0.9: the checkpoint holds no averaged weights"),
        (["--model.design.name=s1"], "another model.design"),
    ],
    ids=lambda value: value[0],
)
def test_a_mistake_in_measuring_a_checkpoint(flags, said, command, last, capsys, tmp_path):
    before = files(tmp_path)
    assert main([command, "--ckpt_path=last.ckpt", *flags]) == 2
    assert said in line_of(capsys)
    assert files(tmp_path) == before


def saved(content):
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


class Program:
    """Pickled, it is a call: unpickling would make the folder `made`."""

    def __reduce__(self):
        return os.mkdir, ("made",)


NO_WEIGHTS = {
    "an empty file": ("w.pth", b""),
    "a text": ("w.pth", b"hello"),
    "a part of a file": ("w.ckpt", saved({"a": torch.zeros(9)})[:300]),
    "a part of safetensors": ("w.safetensors", b"\x20\0\0\0\0\0\0\0{"),
    "a program": ("w.pth", pickle.dumps(Program())),
    "a program, as torch saves it": ("w.pth", saved({"model": Program()})),
    "a list": ("w.pth", saved([1, 2])),
    "a number": ("w.ckpt", saved({"state_dict": 3})),
}


@pytest.mark.parametrize("mistake", NO_WEIGHTS)
def test_a_file_of_weights_that_is_none(mistake, capsys, tmp_path):
    name, content = NO_WEIGHTS[mistake]
    (tmp_path / name).write_bytes(content)
    said = [f"model.init_from '{name}'", "not a readable file of weights", "Give"]
    assert_refused([f"--model.init_from={name}"], said, capsys, tmp_path)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("nothing.pth", "no such file"),
        ("./nothing", "no such file"),
        (".", "a folder"),
        ("", "no such file"),
        ("someone/model", "Hub cannot be reached"),
    ],
)
def test_weights_that_are_not_there(source, said, capsys, tmp_path):
    assert_refused([f"--model.init_from={source}"], [f"model.init_from {source!r}", said], capsys, tmp_path)


def test_weights_of_another_design(last, capsys, tmp_path):
    flags = ["--model.init_from=last.ckpt", "--model.design.name=s2", "--data.image_size=128"]
    said = ["model.init_from 'last.ckpt'", "another design", "Nothing was loaded", "set model.design"]
    assert_refused(flags, said, capsys, tmp_path)


def test_averaged_weights_that_are_not_there(last, capsys, tmp_path):
    flags = ["--model.init_from=last.ckpt", "--model.use_ema=true"]
    assert_refused(flags, ["no averaged weights", "Leave out model.use_ema"], capsys, tmp_path)


def test_last_with_nothing_to_resume_begins_anew(tmp_path):
    (tmp_path / "runs" / "tiny" / "version_of_mine").mkdir(parents=True)
    assert fit("--ckpt_path=last", "--trainer.max_epochs=1") == 0
    assert (tmp_path / "runs" / "tiny" / "version_0" / "summary.json").is_file()


def with_averaged_weights_at_its_start(content):
    content["hyper_parameters"].update(init_from="averaged.ckpt", use_ema=True)


def test_a_run_that_began_with_averaged_weights_is_measured_with_its_own(last):
    edit(last, with_averaged_weights_at_its_start)
    assert main(["predict", "--ckpt_path=last.ckpt", "--trainer.limit_predict_batches=1"]) == 0
