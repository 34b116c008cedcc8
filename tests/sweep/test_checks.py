"""Mistakes in a sweep's flags and cells: each is one short line, all are found at once, before anything starts."""

from pathlib import Path

import pytest

from shvit_pl.errors import UserError
from shvit_pl.sweep import start
from shvit_pl.sweep.options import read_sweep_options
from tests.sweep.small import PATCHES, assert_refused, fit_check

QUICK = ("--model.design.name=tiny", "--data.num_workers=0")
CONFIGS = {
    "bad": "data: {batchsize: 8}\n",
    "low": "model: {optim: {lr: 0}}\n",
    "dev": "trainer: {fast_dev_run: true}\n",
    "nolog": "trainer: {logger: false}\n",
}
SIZES = "grid: {data.batch_size: [8]}\n"

# sweep files without a base, and what the messages contain
FILES = {
    "grid: {--data.batch_size: [8]}": ["--data.batch_size", "did you mean 'data.batch_size'"],
    "grid: {lr: [0.1]}": ["'my.yaml': lr: no such", "did you mean 'model.optim.lr'"],
    "grid: {data.batch_size: [8, many]}": [
        "1 of 2 cells can't run", "batch_size many: data.batch_size many", "a whole number",
    ],
    "grid: {model.design.stages: [3, 9]}": ["1 of 2 cells can't run", "stages 9: model.design.stages 9", "depth"],
    "grid: {model.design.stages: [9]}": ["--config 'my.yaml': model.design.stages 9", "give depth"],
    "grid: {trainer.max_epochs: [0]}": ["--config 'my.yaml': trainer.max_epochs 0", "allowed"],
    "grid: {data.path: [digits, ./none]}": ["1 of 2", "data.path './none'"],
    "grid: {model.init_from: [./none.pth]}": ["model.init_from", "'./none.pth'"],
    "grid: {trainer.logger: [true, false]}": ["'my.yaml': trainer.logger", "as a flag or in a config of fit"],
    "grid: {seed_everything: [1, 2]}": ["'my.yaml': seed_everything", "seeds in the sweep file"],
    "search: {space: {model.optim.lr: {low: -0.5, high: 8}}}": ["1 of 2 cells", "lr -0.5: model.optim.lr -0.5"],
    "search: {space: {data.augment: [crop, flip]}}": ["augment flip", "none, shift"],
    f"{SIZES}objective: val/corrupted_acc1": ["objective val/corrupted_acc1: not measured", "--corruptions all"],
    f"{SIZES}objective: val/acc1_ema": ["objective val/acc1_ema", "--model.ema.decay"],
}  # fmt: skip

# bases
BASES = {
    "bad.yaml": ["data.batchsize", "did you mean 'data.batch_size'"],
    "[s1.yaml, low.yaml]": ["model.optim.lr 0", "above 0"],
    "dev.yaml": ["trainer.fast_dev_run True", "the sweep needs the run folder"],
    "nolog.yaml": ["trainer.logger False", "no run folder"],
}

# flags beside a good sweep file
FLAGS = {
    "--epochs=3": ["--epochs", "did you mean '--trainer.max_epochs'"],
    "--model.design.patch_size=4": ["--model.design.patch_size", "my.yaml varies it too"],
    "--run_name=mine": ["--run_name", "named after its cell and seed"],
    "--push_to=user/best": ["--push_to", "pushes the best run"],
    "--ckpt_path=last": ["--ckpt_path", "resumed automatically"],
    "--extend_to=4": ["--extend_to", "is another sweep"],
    "--seed_everything=3": ["--seed_everything", "set by seeds in the sweep file"],
    "--trainer.default_root_dir=x": ["--trainer.default_root_dir", "set by --folder"],
    "--trainer.logger=false": ["trainer.logger False", "no run folder"],
    "--trainer.num_nodes=2": ["--trainer.num_nodes", "--nodes_per_run"],
    "--seeds=[1,2]": ["--seeds", "set in the sweep file"],
    "--n_trials=9": ["--n_trials", "set in the sweep file"],
    "--trainer.limit_val_batches=0": ["objective val/acc1", "there is no validation"],
    "--data.path=./none": ["data.path './none'", "no such file or folder"],
    "more.yaml": ["more.yaml: no flag takes this", "'--config more.yaml'"],
}


# a sweep file with mistakes in every part, flags with some, and how the lines begin
ALL = """
base: [s1.yaml, none.yaml]
list:
  a: {model.design.stages: 9, data.batch_size: 1}
  b: {data.augment: no, lr: 0.1}
  c: {data.batch_size: 1, model.design: s1}
seeds: [0, 0]
objective: val/lss
gird: {}
"""
LINES = [
    "--config 'my.yaml': gird: no such key",
    "--config 'my.yaml': objective val/lss",
    "--config 'my.yaml': list: c: model.design 's1': this is a section",
    "--config 'my.yaml': seeds [0, 0]",
    "--config 'my.yaml': base 'none.yaml': no such file",
    "--wokers: no such flag of sweep or fit (did you mean '--workers'?)",
    "--monitor: can't be set here; set by objective in the sweep file",
    "--config 'my.yaml': lr: no such flag of fit",
    "model.optim.lr -1",
    "stray: no flag takes this",
    "1 of 3 cells can't run: b: data.augment false",
    "2 of 3 cells can't run, such as a: data.batch_size 1",
    "1 of 3 cells can't run: a: model.design.stages 9",
]


@pytest.fixture(autouse=True)
def one_parser(monkeypatch):
    monkeypatch.setattr(start, "FitCheck", fit_check)


def check(text, *flags):
    for name, content in {**CONFIGS, "my": text}.items():
        Path(f"{name}.yaml").write_text(content)
    options, of_fit, mistakes = read_sweep_options(["--config=my.yaml", *QUICK, *flags])
    start.start(options, of_fit, [], mistakes)


@pytest.mark.parametrize(("text", "parts"), FILES.items(), ids=str)
def test_a_mistake_in_a_sweep_file_that_fit_finds(text, parts):
    assert_refused(parts, check, f"base: s1.yaml\n{text}\n")


@pytest.mark.parametrize(("base", "parts"), BASES.items(), ids=str)
def test_a_mistake_in_the_base(base, parts):
    assert_refused(parts, check, f"base: {base}\n{SIZES}")


@pytest.mark.parametrize(("flag", "parts"), FLAGS.items(), ids=str)
def test_a_mistake_in_a_flag(flag, parts):
    assert_refused(parts, check, PATCHES, flag)


def test_a_sweep_by_corrupted_images_measures_them():
    for objective in ("val/corrupted_acc1", "[val/acc1, val/corrupted_acc1]"):
        with pytest.raises(UserError) as refused:
            check(f"{SIZES}objective: {objective}", "--corruptions=all", "--folder=bad.yaml")
        assert str(refused.value).startswith("--folder 'bad.yaml'")
        assert len(str(refused.value).splitlines()) == 1


def test_all_runs_may_have_a_logger_of_the_users():
    flags = ["--trainer.logger=CSVLogger", "--trainer.logger.save_dir=mine", "--folder=bad.yaml"]
    with pytest.raises(UserError) as refused:
        check(PATCHES, *flags)
    assert str(refused.value).startswith("--folder 'bad.yaml'")
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("flags", "lines"),
    [
        (["--folder=bad.yaml", "--gpus=9"], ["--folder 'bad.yaml'", "--gpus 9: "]),
        (["--workers=0", "--folder=bad.yaml"], ["--workers 0: "]),  # the folder may be meant for other options
    ],
)
def test_all_mistakes_are_found_at_once_and_nothing_is_written(flags, lines):
    with pytest.raises(UserError) as refused:
        check(ALL, "--wokers", "3", "--monitor=val/loss", "--model.optim.lr=-1", "stray", *flags)
    found, begins = sorted(str(refused.value).splitlines()), sorted([*LINES, *lines])
    assert len(found) == len(begins)
    for line, begin in zip(found, begins, strict=True):
        assert line.startswith(begin)
    assert {path.stem for path in Path().iterdir()} == {*CONFIGS, "my"}
