"""The catalogue of users' mistakes: each is one short line with the flag, its value, what is allowed or what to do.

Exit code 2, before anything slow happens, and nothing is left behind.
"""

import pytest
import torch
from datasets import ClassLabel
from PIL import Image

from shvit_pl import ClassificationModule
from shvit_pl.cli import main
from tests.cli.refusals import assert_refused, files, line_of
from tests.cli.runs import fit
from tests.data.opening import open_dataset

WHOLE = "--trainer.limit_train_batches=null"

DESIGN = [
    (["--model.design.stge1=conv"], ["--model.design.stge1", "did you mean '--model.design.stage1'"]),
    (["--model.design.name=tinny"], ["model.design.name 'tinny'", "did you mean 'tiny'"]),
    (["--model.design=s2"], ["model.design s2", "section", "model.design.name"]),
    (["--model.design.stage1=cnv"], ["model.design.stage1 cnv", "conv, attention", "did you mean 'conv'"]),
    (["--model.design.mixers=[conv,atn,conv]"], ["model.design.mixers", "atn", "single_head"]),
    (["--model.design.patch_size=5"], ["model.design.patch_size 5", "4, 8, 16"]),
    (["--model.design.patch_size=big"], ["model.design.patch_size big", "whole number"]),
    (["--model.design.depth=[1,2]"], ["model.design.depth [1, 2]", "3 stages"]),
    (["--model.design.stages=9"], ["model.design.stages 9", "give depth with 9 entries"]),
    (["--model.design.embed_dim=80"], ["model.design.embed_dim 80", "a list such as"]),
    (["--model.design.drop_path=1"], ["model.design.drop_path 1.0", "below 1"]),
]
MODEL = [
    (["--model.optim.name=adamww"], ["model.optim.name 'adamww'", "did you mean 'adamw'"]),
    (["--model.optim.lr=0"], ["model.optim.lr 0", "above 0"]),
    (["--model.optim.lr=.inf"], ["model.optim.lr inf", "finite number above 0"]),
    (["--model.optim.min_lr=.nan"], ["model.optim.min_lr nan", "finite number from 0"]),
    (["--model.optim.lr=nan"], ["model.optim.lr nan", "a number"]),
    (["--model.optim.weight_decay=atuo"], ["model.optim.weight_decay atuo", "auto or a number"]),
    (["--model.optim.layer_decay=2"], ["model.optim.layer_decay 2.0", "at most 1"]),
    (["--model.optim.options=momentum"], ["model.optim.options momentum", "a mapping such as"]),
    (['--model.optim.options={"beta": [0.9, 0.99]}'], ["model.optim.options {'beta'", "adamw", "beta"]),
    (['--model.optim.options={"betas": [0.9, 1.5]}'], ["model.optim.options {'betas'", "1.5"]),
    (['--model.optim.options={"lr": 0.1}'], ["model.optim.options {'lr'", "--model.optim.lr"]),
    (["--model.optim.agc=-1"], ["model.optim.agc -1", "from 0"]),
    (
        ["--model.optim.agc=0.02", "--trainer.gradient_clip_val=1"],
        ["gradient_clip_val 1", "agc 0.02", "one of the two"],
    ),
    (["--model.mix.mixup=-1"], ["model.mix.mixup -1", "0 (none) or more"]),
    (["--model.mix.mixup=.inf"], ["model.mix.mixup inf", "0 (none) or more"]),
    (["--model.mix.mixup=0.8", "--data.batch_size=15"], ["data.batch_size 15", "even", "14 or 16"]),
    (["--model.ema=true"], ["model.ema true", "section", "model.ema.decay"]),
    (["--model.ema.decay=1.0"], ["model.ema.decay 1.0", "below 1"]),
    (["--model.use_ema=true"], ["model.use_ema true", "no average", "--model.init_from"]),
    (["--monitor=val/acc1_ema"], ["monitor val/acc1_ema", "--model.ema.decay"]),
    (["--monitor=val/acc"], ["monitor val/acc", "val/acc1", "val/loss"]),
    (["--model.label_smoothing=1.5"], ["model.label_smoothing 1.5", "below 1"]),
    (["--model.compile=maybe"], ["model.compile maybe", "true or false"]),
    (["--model.channels_last=yess"], ["model.channels_last yess", "true or false"]),
    (["--model.class_names=[one]"], ["model.class_names", "two classes or more"]),
    (["--model.class_names=[a,b]"], ["10 classes", "the model 2 (a, b, ...)"]),
]
TRAINER = [
    (["--trainer.max_epohs=3"], ["--trainer.max_epohs", "did you mean '--trainer.max_epochs'"]),
    (["--epochs=3"], ["--epochs", "did you mean '--trainer.max_epochs'"]),
    (["--lr=0.1"], ["--lr", "did you mean '--model.optim.lr'"]),
    (["data.batch_size=8"], ["data.batch_size", "did you mean '--data.batch_size'"]),
    (["--data.batch_size"], ["--data.batch_size", "expected one argument"]),
    (["--trainer.max_epochs=many"], ["trainer.max_epochs many", "whole number"]),
    (["--trainer.max_epochs=0"], ["trainer.max_epochs 0", "from 1"]),
    (["--trainer.max_epochs=-1"], ["trainer.max_epochs -1", "together with max_steps"]),
    (["--trainer.max_steps=0"], ["trainer.max_steps 0", "from 1"]),
    (["--trainer.limit_train_batches=0"], ["trainer.limit_train_batches 0", "from 1"]),
    (["--trainer.limit_train_batches=0.0001"], ["trainer", "limit_train_batches", "0.0001"]),
    (["--trainer.limit_val_batches=0.0001"], ["trainer", "limit_val_batches", "0.0001"]),
    (["--trainer.limit_val_batches=1.5"], ["trainer", "limit_val_batches", "1.5"]),
    (["--trainer.val_check_interval=1000"], ["trainer", "val_check_interval", "1000"]),
    (["--trainer.val_check_interval=0"], ["trainer.val_check_interval 0", "from 1"]),
    (["--trainer.check_val_every_n_epoch=0"], ["trainer.check_val_every_n_epoch 0", "from 1"]),
    (["--trainer.log_every_n_steps=0"], ["trainer.log_every_n_steps 0", "from 1"]),
    (["--trainer.accumulate_grad_batches=0"], ["trainer.accumulate_grad_batches 0", "from 1"]),
    (["--trainer.gradient_clip_val=-1"], ["trainer.gradient_clip_val -1", "from 0"]),
    (["--trainer.overfit_batches=2"], ["trainer.overfit_batches 2", "--data.train_fraction"]),
    (["--trainer.precision=fp16"], ["trainer.precision fp16", "bf16-mixed"]),
    (["--trainer.default_root_dir="], ["trainer.default_root_dir ''", "a folder"]),
    (["--trainer.logger=WandbLogger"], ["wandb", "not"]),
    (["--trainer.precision=16-true"], ["trainer.precision 16-true", "16-mixed"]),
    (["--trainer.min_epochs=9"], ["trainer.min_epochs 9", "max_epochs is 2"]),
    (["\u2014data.batch_size=8"], ["\u2014data.batch_size=8", "two hyphens"]),
    (["--trainer.devices=0"], ["trainer.devices 0", "allowed are 1 to"]),
    (["--trainer.devices=99999"], ["trainer.devices 99999", "allowed are 1 to"]),
    (["--trainer.accelerator=gpuu"], ["trainer", "gpuu", "cpu"]),
    (["--trainer.accelerator=tpu"], ["trainer", "torch_xla"]),
    (["--trainer.strategy=dpp"], ["trainer", "dpp", "ddp"]),
    (["--trainer.logger=wandb"], ["trainer.logger wandb", "true or false"]),
    (["--trainer.callbacks=EarlyStopping"], ["trainer.callbacks", "EarlyStopping", "required: monitor"]),
    (
        ['--trainer.callbacks=[{"class_path": "EarlyStopping", "init_args": {"monitor": "val/acc"}}]'],
        ["EarlyStopping val/acc", "not logged", "val/acc1"],
    ),
    (["--checkpoint_every_n_steps=0"], ["checkpoint_every_n_steps 0", "from 1"]),
    (["--seed_everything=-1"], ["seed_everything -1", "from 0"]),
    (["--run_name=../elsewhere"], ["run_name '../elsewhere'", "folder's name"]),
    (["--run_name=" + 300 * "x"], ["run_name 'xxx", "200 characters"]),
    (["--run_name=a\0b"], ["run_name 'a", "folder's name"]),
    (["--seed_everything=true"], ["seed_everything True", "from 0"]),
    (["--run_name=.."], ["run_name '..'", "folder's name"]),
]
CONFIG_FLAG = [
    (["--config=s9.yaml"], ["--config 's9.yaml'", "no such file", "s1.yaml"]),
    (["--config"], ["--config", "expected one argument"]),
    (["--config", "--plain=true"], ["--config", "expected one argument"]),
    (["--config=."], ["--config '.'", "a folder"]),
]
DATA = [  # of the settings alone: tests/data/test_config.py; of what is opened: tests/data/test_mistakes.py
    (["--data.path=./nothing"], ["data.path './nothing'", "no such file or folder"]),
    (["--data.path=someone/dataset"], ["data.path 'someone/dataset'", "Hub", "Give a folder"]),
    (["--data.image_size=32"], ["data.image_size 32", "stride 64"]),
    (["--data.image_size=large"], ["data.image_size large", "auto or a whole number"]),
    (["--data.batch_size=1"], ["data.batch_size 1", "2 or more"]),
    (["--data.batch_size=5000"], ["data.batch_size 5000", "1437"]),
    (["--data.augment=flip"], ["data.augment flip", "none, shift, crop"]),
    (["--data.streaming=true", "--data.steps_per_epoch=3", WHOLE], ["data.streaming", "no validation split"]),
    (
        ["--data.streaming=true", "--data.steps_per_epoch=3", "--trainer.limit_train_batches=2"],
        ["trainer.limit_train_batches 2", "--data.steps_per_epoch"],
    ),
]


@pytest.mark.parametrize(
    ("flags", "said"), [*DESIGN, *MODEL, *TRAINER, *CONFIG_FLAG, *DATA], ids=lambda value: value[0]
)
def test_a_mistake_in_a_flag(flags, said, capsys, tmp_path):
    assert_refused(flags, said, capsys, tmp_path)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("name", ["gpu", "cuda"])
def test_a_gpu_that_is_not_there(name, capsys, tmp_path):
    assert_refused([f"--trainer.accelerator={name}"], [f"trainer.accelerator {name}", "no GPU"], capsys, tmp_path)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["fti"], "did you mean 'fit'"),
        (["validate"], "--ckpt_path"),
        (["predict"], "--ckpt_path"),
        (["test", "--ckpt_path=nothing.ckpt"], "no such file"),
        (["test", "--ckpt_path="], "no such file"),
        (["validate", "--ckpt_path=last"], "that is for shvit-pl fit"),
        (["designs", "--cube=s11"], "did you mean 's1'"),
        (["designs", "--cubee=s1"], "did you mean '--cube'"),
        (["designs", "--image_size=small"], "image_size small"),
        (["designs", "--image_size=32"], "stride"),
    ],
    ids=str,
)
def test_a_mistake_in_another_command(args, said, capsys):
    assert main(args) == 2
    assert said in line_of(capsys)


@pytest.mark.parametrize("root", ["taken", "taken/runs"])
def test_a_file_where_the_runs_should_go(root, capsys, tmp_path):
    (tmp_path / "taken").touch()
    said = [f"trainer.default_root_dir '{root}'", "taken is a file"]
    assert_refused([f"--trainer.default_root_dir={root}"], said, capsys, tmp_path)


def test_a_file_where_the_run_should_go(capsys, tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "mine").touch()
    assert_refused(["--run_name=mine"], ["runs/mine", "File exists", "--trainer.default_root_dir"], capsys, tmp_path)


def test_a_class_too_few_for_the_top_five(image_folder, capsys, tmp_path):
    flags = [f"--data.path={image_folder}", "--data.batch_size=4", "--monitor=val/acc5"]
    assert_refused(flags, ["monitor val/acc5", "not logged", "val/acc1, val/loss"], capsys, tmp_path)


@pytest.mark.parametrize("held", ["c", "ac"])
def test_class_folders_that_differ_between_the_splits(held, tmp_path, capsys):
    for split, classes in (("train", "ab"), ("val", held)):
        for name in classes:
            folder = tmp_path / "images" / split / name
            folder.mkdir(parents=True)
            for number in range(16):
                Image.new("RGB", (64, 64), (number, 9, 9)).save(folder / f"{number}.png")
    said = ["data.path", "no training image (c)", "same classes"]
    assert_refused([f"--data.path={tmp_path / 'images'}"], said, capsys, tmp_path)


def test_one_class(tmp_path, capsys):
    (tmp_path / "images" / "cat").mkdir(parents=True)
    for number in range(9):
        Image.new("RGB", (8, 8)).save(tmp_path / "images" / "cat" / f"{number}.png")
    assert_refused(
        ["--data.path=images", "--data.batch_size=4"], ["data.path", "two classes or more"], capsys, tmp_path
    )


def test_rows_without_a_label(tmp_path, capsys):
    rows = open_dataset("digits")["train"].select(range(40)).remove_columns("label").add_column("label", [-1, 1] * 20)
    rows.cast_column("label", ClassLabel(names=["a", "b"])).to_parquet(tmp_path / "rows.parquet")
    assert_refused(["--data.path=rows.parquet"], ["rows without a label"], capsys, tmp_path)


@pytest.mark.parametrize("workers", [0, 1])
def test_too_many_broken_images(workers, image_folder, capsys, tmp_path):
    (image_folder / "red" / "00.png").write_bytes(b"no image")
    flags = [f"--data.path={image_folder}", "--data.batch_size=4", f"--data.num_workers={workers}"]
    assert fit(*flags) == 2
    line = line_of(capsys)
    assert "more than 1% stops a run" in line
    assert "00.png: not an image" in line


def test_more_than_the_memory_holds(monkeypatch, capsys, tmp_path):
    def step(*args):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nGPU 0 has ...")

    monkeypatch.setattr(ClassificationModule, "training_step", step)
    assert fit() == 2
    line = line_of(capsys)
    for text in ("data.batch_size", "memory", "--trainer.accumulate_grad_batches", "--model.grad_checkpointing"):
        assert text in line
    assert files(tmp_path) == set()


def test_a_learning_rate_that_blows_the_loss_up(capsys, tmp_path):
    assert fit("--model.optim.lr=1e10", "--checkpoint_every_n_steps=1") == 2
    line = line_of(capsys)
    for text in ("train/loss: not a finite number at step", "learning rate", "Lower --model.optim.lr"):
        assert text in line
    assert "The last good checkpoint is" in line
    (last,) = tmp_path.rglob("*.ckpt")
    assert all(tensor.isfinite().all() for tensor in torch.load(last, weights_only=True)["state_dict"].values())
