"""A user's mistake is one line that names flag, value and what is allowed; exit code 2; no run folder is left."""

import pytest
import torch
from datasets import ClassLabel

from shvit_pl.cli import main
from shvit_pl.data.sources import open_dataset
from tests.cli.runs import fit

MISTAKES = [
    (["--model.design.stge1=conv"], ["model.design.stge1", "did you mean 'model.design.stage1'"]),
    (["--model.design.stage1=cnv"], ["model.design.stage1 cnv", "conv, attention", "did you mean 'conv'"]),
    (["--model.design.mixers=[conv,atn,conv]"], ["model.design.mixers", "atn", "single_head"]),
    (["--model.design.patch_size=5"], ["model.design.patch_size 5", "4, 8, 16"]),
    (["--model.design.patch_size=big"], ["model.design.patch_size big", "whole number"]),
    (["--model.design.name=tinny"], ["model.design.name 'tinny'", "did you mean 'tiny'"]),
    (["--model.design.depth=[1,2]"], ["model.design.depth [1, 2]", "3 stages"]),
    (["--model.optim.name=adamww"], ["model.optim.name 'adamww'", "did you mean 'adamw'"]),
    (["--model.optim.lr=0"], ["model.optim.lr 0", "above 0"]),
    (["--model.label_smoothing=1.5"], ["model.label_smoothing 1.5", "below 1"]),
    (["--model.init_from=nothing.pth"], ["model.init_from", "nothing.pth", "no such file"]),
    (["--data.image_size=32"], ["data.image_size 32", "stride 64"]),
    (["--data.batch_size=1"], ["data.batch_size 1", "2 or more"]),
    (["--data.batch_size=5000"], ["data.batch_size 5000", "1437"]),
    (["--data.path=./nothing"], ["data.path './nothing'", "no such file or folder"]),
    (["--data.path=someone/dataset"], ["data.path 'someone/dataset'", "Hub", "Give a folder"]),
    (["--data.image_column=img"], ["data.image_column 'img'", "did you mean 'image'"]),
    (["--data.train_split=trian"], ["data.train_split 'trian'", "did you mean 'train'"]),
    (["--data.image_column=label"], ["data.image_column 'label'", "images or their bytes"]),
    (["--data.split_seed=-1"], ["data.split_seed -1", "0 or more"]),
    (["--model.class_names=[one]"], ["model.class_names", "two classes or more"]),
    (["--model.design.embed_dim=80"], ["model.design.embed_dim 80", "a list such as"]),
    (["--seed_everything=-1"], ["seed_everything -1", "from 0"]),
    (["--run_name=../elsewhere"], ["run_name '../elsewhere'", "folder's name"]),
    (["--trainer.accelerator=gpuu"], ["trainer", "gpuu", "cpu"]),
    (["--trainer.limit_val_batches=1.5"], ["trainer", "limit_val_batches", "1.5"]),
    (["--trainer.accumulate_grad_batches=0"], ["trainer.accumulate_grad_batches", "from 1"]),
    (["--data.augment=flip"], ["data.augment flip", "none, shift, crop"]),
    (["--data.crop_pct=1.5"], ["data.crop_pct 1.5", "at most 1"]),
    (["--trainer.max_epohs=3"], ["trainer.max_epohs", "did you mean 'trainer.max_epochs'"]),
    (["--trainer.max_epochs=many"], ["trainer.max_epochs many", "whole number"]),
    (["--config=s9.yaml"], ["--config 's9.yaml'", "s1.yaml"]),
    (["--ckpt_path=nothing.ckpt"], ["ckpt_path 'nothing.ckpt'", "no such file"]),
]


@pytest.mark.parametrize(("flags", "said"), MISTAKES, ids=lambda value: value[0])
def test_a_mistake_in_fit(flags, said, capsys, tmp_path):
    assert fit(*flags) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
    assert len(lines) == 1
    for text in said:
        assert text in lines[0]
    assert list(tmp_path.rglob("version_*")) == []


def test_an_unknown_key_in_a_config_is_named(tmp_path, capsys):
    (tmp_path / "mine.yaml").write_text("model: {design: {nmae: s1}}\n")
    assert fit("--config=mine.yaml") == 2
    assert "model.design.nmae" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["fti"], "did you mean 'fit'"),
        (["validate"], "--ckpt_path"),
        (["validate", "--ckpt_path=nothing.ckpt"], "no such file"),
        (["designs", "--cube=s11"], "did you mean 's1'"),
        (["designs", "--cubee=s1"], "did you mean 'cube'"),
        (["designs", "--image_size=small"], "image_size small"),
        (["designs", "--image_size=32"], "stride"),
    ],
    ids=str,
)
def test_a_mistake_in_another_command(args, said, capsys):
    assert main(args) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("content", [[1], {"hyper_parameters": {"lr": 1}}, {}], ids=str)
def test_a_file_that_is_no_checkpoint_of_ours_is_said_so(content, tmp_path, capsys):
    torch.save(content, tmp_path / "fake.ckpt")
    assert main(["validate", "--ckpt_path=fake.ckpt"]) == 2
    assert "fake.ckpt" in capsys.readouterr().err


def test_rows_without_a_label_are_refused(tmp_path, capsys):
    rows = open_dataset("digits")["train"].select(range(40)).remove_columns("label").add_column("label", [-1, 1] * 20)
    rows.cast_column("label", ClassLabel(names=["a", "b"])).to_parquet(tmp_path / "rows.parquet")
    assert fit("--data.path=rows.parquet") == 2
    assert "rows without a label" in capsys.readouterr().err


def test_a_broken_image_in_a_worker_is_one_line(image_folder, capsys):
    (image_folder / "red" / "00.png").write_bytes(b"no image")
    assert fit(f"--data.path={image_folder}", "--data.batch_size=4", "--data.num_workers=1") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("shvit-pl fit: error: ")
    assert "00.png: not an image" in error
