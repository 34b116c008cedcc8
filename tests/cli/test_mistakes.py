"""The catalog of users' mistakes: each is one short line with the flag, its value, what is allowed or what to do.

Exit code 2, before anything slow happens, and nothing is left behind. Mistakes that other parts decide on are tested
with those: test_fit_check.py, tests/designs/test_design.py, tests/data/test_mistakes.py.
"""

import pytest
import torch
from PIL import Image

from shvit_pl import ClassificationModule
from shvit_pl.cli import main
from tests.cli.conftest import LONGEST
from tests.cli.runs import QUICK, fit

FROM_1 = (
    "trainer.check_val_every_n_epoch trainer.log_every_n_steps trainer.accumulate_grad_batches checkpoint_every_n_steps"
)
NAMES_AND_TYPES = [
    *(([f"--{flag}=0"], [f"{flag} 0", "from 1"]) for flag in FROM_1.split()),
    (["--model.design.stge1=conv"], ["--model.design.stge1", "did you mean '--model.design.stage1'"]),
    (["--model.design=s2"], ["model.design s2", "section", "model.design.name"]),
    (["--model.design.stage1=cnv"], ["model.design.stage1 cnv", "conv, attention", "did you mean 'conv'"]),
    (["--model.design.patch_size=big"], ["model.design.patch_size big", "whole number"]),
    (["--model.design.embed_dim=80"], ["model.design.embed_dim 80", "a list of whole numbers such as"]),
    (["--model.design.mixers=conv,conv,conv"], ["model.design.mixers conv,conv,conv", "brackets: [conv,conv,conv]"]),
    (["--model.design.depth=1,2,3"], ["model.design.depth 1,2,3", "brackets: [1,2,3]"]),
    (["--model.design.qk_dim=8,16"], ["model.design.qk_dim 8,16", "brackets: [8,16]"]),
    (["--model.class_names=a,b"], ["model.class_names a,b", "brackets: [a,b]"]),
    (["--monitor="], ["monitor ''", "val/acc1, "]),
    (["--model.optim.lr=nan"], ["model.optim.lr nan", "numbers above 0"]),
    (["--model.optim.weight_decay=atuo"], ["model.optim.weight_decay atuo", "a number or auto"]),
    (["--model.optim.options=momentum"], ["model.optim.options momentum", "a mapping such as"]),
    (["--model.compile=maybe"], ["model.compile maybe", "true or false"]),
    (["--trainer.max_epohs=3"], ["--trainer.max_epohs", "did you mean '--trainer.max_epochs'"]),
    (["--epochs=3"], ["--epochs", "did you mean '--trainer.max_epochs'"]),
    (["--lr=0.1"], ["--lr", "did you mean '--model.optim.lr'"]),
    (["--num_classes=10"], ["--num_classes: no such flag (leave it out: the classes come from the data)"]),
    (["data.batch_size=8"], ["data.batch_size", "did you mean '--data.batch_size'"]),
    (["--trainer.gradient_clip_val=-1"], ["trainer.gradient_clip_val -1", "from 0"]),
    (["--trainer.precision=fp16"], ["trainer.precision fp16", "bf16-mixed"]),
    (["--trainer.logger=wandb"], ["trainer.logger wandb", "no such class", "lightning.pytorch.loggers"]),
    (["--trainer.callbacks=EarlyStopping"], ["trainer.callbacks", "EarlyStopping", "required: monitor"]),
    (["--seed_everything=true"], ["seed_everything", "whole number"]),
    (["--data.image_size=large"], ["data.image_size large", "a whole number or auto"]),
    (["--data.augment=flip"], ["data.augment flip", "none, shift, crop"]),
]


def test_mistakes_in_names_and_types_are_listed_at_once(capsys):
    """Each message by itself: tests/command_line/test_read_options.py."""
    assert main(["fit", *QUICK, *(flag for flags, _ in NAMES_AND_TYPES for flag in flags)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(NAMES_AND_TYPES)
    assert max(map(len, lines)) < LONGEST
    for _, words in NAMES_AND_TYPES:
        assert sum(all(word in line for word in words) for line in lines) == 1, words


CALLBACK = '--trainer.callbacks=[{"class_path": "EarlyStopping", "init_args": {"monitor": "val/acc"}}]'
STREAM = ["--data.streaming=true", "--data.steps_per_epoch=3"]
MODEL = [
    (["--model.design.name=tinny"], ["model.design.name 'tinny'", "did you mean 'tiny'"]),
    (['--model.optim.options={"beta": [0.9, 0.99]}'], ["model.optim.options {'beta'", "adamw", "beta"]),
    (['--model.optim.options={"betas": [0.9, 1.5]}'], ["model.optim.options {'betas'", "1.5"]),
    (["--model.optim.agc=0.02", "--trainer.gradient_clip_val=1"], ["gradient_clip_val 1", "one of the two"]),
    (["--model.mix.mixup=0.8", "--data.batch_size=15"], ["data.batch_size 15", "even", "14 or 16"]),
    (["--model.use_ema=true"], ["model.use_ema true", "no average", "--model.init_from"]),
    (["--monitor=val/acc1_ema"], ["monitor val/acc1_ema", "--model.ema.decay"]),
    (["--monitor=val/acc"], ["monitor val/acc", "val/acc1", "val/loss"]),
    (["--model.class_names=[one]"], ["model.class_names", "two classes or more"]),
    (["--model.class_names=[a,b]"], ["model.class_names", "2 classes (a; b)", "digits' has 10 classes"]),
]
TRAINER = [
    (["--trainer.max_epochs=-1"], ["trainer.max_epochs -1", "together with max_steps"]),
    (["--trainer.limit_train_batches=0.0001"], ["trainer", "limit_train_batches", "0.0001"]),
    (["--trainer.val_check_interval=1000"], ["trainer", "val_check_interval", "1000"]),
    (["--trainer.default_root_dir="], ["trainer.default_root_dir ''", "a folder"]),
    (["--trainer.logger=WandbLogger"], ["wandb", "not"]),
    (["--trainer.min_epochs=9"], ["trainer.min_epochs 9", "max_epochs is 2"]),
    (["--trainer.accelerator=gpuu"], ["trainer", "gpuu", "cpu"]),
    (["--trainer.accelerator=tpu"], ["trainer", "torch_xla"]),
    (["--trainer.strategy=dpp"], ["trainer", "dpp", "ddp"]),
    ([CALLBACK], ["EarlyStopping val/acc", "not logged", "val/acc1"]),
    ([CALLBACK.replace("/acc", "/loss"), "--trainer.limit_val_batches=0"], ["EarlyStopping val/loss", "train/loss"]),
    *(
        ([f"--trainer.callbacks={name}"], [f"trainer.callbacks {name}: not available", instead])
        for name, instead in {"BatchSizeFinder": "--find batch_size", "BackboneFinetuning": "layer_decay"}.items()
    ),
    (["--trainer.callbacks+=LearningRateFinder"], ["trainer.callbacks LearningRateFinder", "--find lr"]),
    (["--config=s9.yaml"], ["--config 's9.yaml'", "no such file", "s1.yaml"]),
    (["--run_name", "-dash"], ["--run_name -dash", "needs '=': --run_name=-dash"]),
    (["--data.path", "-folder"], ["needs '=': --data.path=-folder"]),
    (["--config", "--plain=true"], ["--config", "expected one argument"]),
    (["--config=."], ["--config '.'", "a folder"]),
    (["--optimize"], ["--model.compile"]),
]
if not torch.cuda.is_available():
    TRAINER += [([f"--trainer.accelerator={n}"], [f"trainer.accelerator {n}", "no GPU"]) for n in ("gpu", "cuda")]
DATA = [
    (["--data.path=someone/dataset"], ["data.path 'someone/dataset'", "Hub", "Give a folder"]),
    (["--data.image_size=32"], ["data.image_size 32", "stride 64"]),
    (["--data.batch_size=5000"], ["data.batch_size 5000", "1437"]),
    ([*STREAM, "--trainer.limit_train_batches=2"], ["trainer.limit_train_batches 2", "--data.steps_per_epoch"]),
    (["--trainer.default_root_dir=taken/runs"], ["trainer.default_root_dir 'taken/runs'", "taken is a file"]),
    (["--run_name=mine"], ["runs/mine", "File exists", "--trainer.default_root_dir"]),
]
OTHER = [
    ("fti", [], "did you mean 'fit'"),
    ("validate", [], "--ckpt_path"),
    ("test", ["--ckpt_path=nothing.ckpt"], "no such file"),
    ("test", ["--ckpt_path="], "no such file"),
    ("validate", ["--ckpt_path=last"], "only shvit-pl fit takes last"),
    (
        "test",
        ["--ckpt_path=a.ckpt", "--model.init_from=b.pth"],
        "'a.ckpt': model.init_from 'b.pth' gives other",
    ),
    ("designs", ["--cube=s11"], "did you mean 's1'"),
    ("designs", ["--cubee=s1"], "did you mean '--cube'"),
    ("designs", ["--image_size=small"], "image_size small"),
    ("designs", ["--image_size=32"], "stride"),
]


@pytest.mark.parametrize(("flags", "words"), [*MODEL, *TRAINER, *DATA], ids=lambda value: value[0])
def test_a_mistake_in_a_flag(flags, words, refused, tmp_path):
    (tmp_path / "taken").touch()
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "mine").touch()
    refused(flags, *words)


@pytest.mark.parametrize(("command", "flags", "words"), OTHER, ids=str)
def test_a_mistake_in_another_command(command, flags, words, refused):
    refused(flags, words, command=command)


YAML = {
    "a bracket too few": ("model: {design: {name: s1}\n", ["--config 'mine.yaml', line 2", "not YAML", "}"]),
    "a tab": ("model:\n\tdesign:\n", ["--config 'mine.yaml', line 2", "a tab"]),
    "a wrong indent": ("data:\n  path: digits\n   batch_size: 8\n", ["--config 'mine.yaml', line 3", "not YAML"]),
    "an unknown alias": ("data: {path: *mine}\n", ["--config 'mine.yaml', line 1", "mine"]),
    "a program": ("run_name: !!python/object/apply:os.mkdir [made]\n", ["python/object/apply"]),
    "an empty file": ("# model:\n", ["--config 'mine.yaml'", "empty"]),
    "a list": ("- model\n- data\n", ["--config 'mine.yaml'", "allowed are settings"]),
    "a text": ("digits\n", ["--config 'mine.yaml'", "allowed are settings"]),
    "a binary file": ("\udcff\udcfe\x00", ["--config 'mine.yaml'", "not a text file"]),
    "a key twice": ("data:\n  path: a\ndata:\n  path: b\n", ["--config 'mine.yaml', line 3", "data appears twice"]),
    "a setting twice": ("data:\n  path: a\n  path: b\n", ["line 3", "data.path appears twice"]),
    "an empty section": ("data:\n  # path: digits\n", ["--config 'mine.yaml', line 1", "data is empty"]),
    "an unknown section": ("modle: {label_smoothing: 0}\n", ["modle.label_smoothing", "'model.label_smoothing'"]),
    "an unknown key": ("model: {design: {nmae: s1}}\n", ["model.design.nmae", "did you mean 'model.design.name'"]),
    "the command as a section": ("fit: {data: {path: digits}}\n", ["fit.data.path", "did you mean 'data.path'"]),
    "a value for a section": ("model: {design: s2}\n", ["model.design s2", "section", "model.design.name"]),
    "nothing for a setting": ("data: {path: null}\n", ["data.path"]),
    "a number for a section": ("trainer: 3\n", ["trainer 3", "section", "trainer.max_epochs"]),
    "nothing for a section": ("model: {ema: null}\n", ["model.ema None", "section", "model.ema.decay"]),
    "a list for a number": ("trainer: {max_epochs: [1, 2]}\n", ["trainer.max_epochs [1, 2]", "whole number"]),
    "on for a number": ("model: {mix: {mixup: on}}\n", ["model.mix.mixup True", "a number"]),
}


@pytest.mark.parametrize("mistake", YAML)
def test_a_mistake_in_a_config(mistake, refused, tmp_path):
    text, words = YAML[mistake]
    (tmp_path / "mine.yaml").write_text(text, encoding="utf-8", errors="surrogateescape")
    refused(["--config=mine.yaml"], *words)


def test_classes_of_folders(image_folder, refused, tmp_path):
    """Too few for the top five, and others to validate on; others of the data: tests/data/test_mistakes.py."""
    data = [f"--data.path={image_folder}", "--data.batch_size=4"]
    refused([*data, "--monitor=val/acc5"], "monitor val/acc5", "not logged", "val/acc1, val/loss")
    for split, classes in (("train", "ab"), ("val", "ac")):
        for name in classes:
            folder = tmp_path / "split" / split / name
            folder.mkdir(parents=True)
            for number in range(16):
                Image.new("RGB", (64, 64), (number, 9, 9)).save(folder / f"{number}.png")
    refused(["--data.path=split"], "data.path", "no training image (c)", "same classes")


def test_too_many_broken_images(image_folder, line):
    """Found by a process that loads; the count and its limit: tests/data/test_datamodule.py."""
    (image_folder / "red" / "00.png").write_bytes(b"no image")
    assert fit(f"--data.path={image_folder}", "--data.batch_size=4", "--data.num_workers=1") == 2
    message = line()
    assert "more than 1% stops a run" in message
    assert "00.png: not an image" in message


def test_more_than_the_memory_holds(monkeypatch, refused):
    def step(*args):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nGPU 0 has ...")

    monkeypatch.setattr(ClassificationModule, "training_step", step)
    refused([], "data.batch_size", "memory", "--trainer.accumulate_grad_batches", "--model.grad_checkpointing")
