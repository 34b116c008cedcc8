"""Mistakes that `fit` finds in a sweep's flags and cells: each is one short line, before anything starts."""

from pathlib import Path

import pytest

from shvit_pl.sweep.start import check_flags, check_strays, define, open_cells
from shvit_pl.sweep.sweep_file import read_sweep_file
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
    "grid: {model.optim.lr: [0.1, 0, -1], data.batch_size: [8, 1]}": [
        "5 of 6 cells can't run", "lr 0, batch_size 8 (and 1 more): model.optim.lr 0", "data.batch_size 1",
    ],
    "grid: {model.design.stages: [3, 9]}": ["1 of 2 cells can't run", "stages 9: model.design.stages 9", "depth"],
    "grid: {model.design.stages: [9]}": ["model.design.stages 9", "give depth"],
    "grid: {data.path: [digits, ./none]}": ["1 of 2", "data.path './none'"],
    "grid: {model.init_from: [./none.pth]}": ["model.init_from", "'./none.pth'"],
    "grid: {seed_everything: [1, 2]}": ["'my.yaml': seed_everything", "seeds in the sweep file"],
    "list: {a: {data.augment: no}, b: {data.batch_size: 1}, c: {}, d: {model.design.stages: 9}, e: {data.path: x}}": [
        "4 of 5 cells can't run", "a: data.augment false", "b: data.batch_size 1", "; and 1 more.",
    ],
    "search: {space: {data.batch_size: {low: 2.5, high: 8}}}": ["1 of 2 cells", "batch_size 2.5: data.batch_size 2.5"],
    "search: {space: {data.augment: [crop, flip]}}": ["augment flip", "none, shift"],
    f"{SIZES}objective: val/acc1_ema": ["objective val/acc1_ema", "--model.ema.decay"],
}  # fmt: skip

# bases
BASES = {
    "bad.yaml": ["data.batchsize", "did you mean 'data.batch_size'"],
    "[s1.yaml, low.yaml]": ["model.optim.lr 0", "above 0"],
    "dev.yaml": ["trainer.fast_dev_run True", "keeps its run folder"],
    "nolog.yaml": ["trainer.logger False", "keeps its run folder"],
}

# flags beside a good sweep file
FLAGS = {
    "--wokers=3": ["--wokers", "no such flag of sweep or fit", "did you mean '--workers'"],
    "--epochs=3": ["--epochs", "did you mean '--trainer.max_epochs'"],
    "--data.batch_size=many": ["data.batch_size many", "a whole number"],
    "--model.design.patch_size=4": ["--model.design.patch_size", "my.yaml varies it"],
    "--run_name=mine": ["--run_name", "named after its point"],
    "--push_to=user/best": ["--push_to", "pushes the best run"],
    "--ckpt_path=last": ["--ckpt_path", "resume by themselves"],
    "--seed_everything=3": ["--seed_everything", "set by seeds in the sweep file"],
    "--monitor=val/loss": ["--monitor", "set by objective in the sweep file"],
    "--trainer.default_root_dir=x": ["--trainer.default_root_dir", "set by --folder"],
    "--trainer.logger=false": ["--trainer.logger", "keeps its run folder"],
    "--trainer.num_nodes=2": ["--trainer.num_nodes", "--storage"],
    "--seeds=[1,2]": ["--seeds", "set in the sweep file"],
    "--n_trials=9": ["--n_trials", "set in the sweep file"],
    "--trainer.limit_val_batches=0": ["objective val/acc1", "there is no validation"],
    "--data.path=./none": ["data.path './none'", "no such file or folder"],
    "stray": ["stray: an argument without a flag", "after its flag"],
    "more.yaml": ["more.yaml", "--config more.yaml"],
}


def check(text, *flags):
    """The checks of `start`, in their order."""
    for name, content in {**CONFIGS, "my": text}.items():
        Path(f"{name}.yaml").write_text(content)
    check_strays(flags)
    fit = fit_check()
    file = read_sweep_file("my.yaml")
    base = [*(f"--config={config}" for config in file.base), *QUICK, *flags]
    check_flags(file, flags, fit)
    open_cells(define(file, base, fit), file, base, fit)


@pytest.mark.parametrize(("text", "parts"), FILES.items(), ids=str)
def test_a_mistake_in_a_sweep_file_that_fit_finds(text, parts):
    assert_refused(parts, check, f"base: s1.yaml\n{text}\n")


@pytest.mark.parametrize(("base", "parts"), BASES.items(), ids=str)
def test_a_mistake_in_the_base(base, parts):
    assert_refused(parts, check, f"base: {base}\n{SIZES}")


@pytest.mark.parametrize(("flag", "parts"), FLAGS.items(), ids=str)
def test_a_mistake_in_a_flag(flag, parts):
    assert_refused(parts, check, PATCHES, flag)
