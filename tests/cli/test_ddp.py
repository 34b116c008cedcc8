"""Two processes (gloo, on the CPU) train what one process trains on the same images, also from a teacher."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from shvit_pl.cli import main
from shvit_pl.data.loaders import TrainSampler
from shvit_pl.runs.folder import read_summary
from tests.cli import runs

pytestmark = [pytest.mark.slow, runs.needs_two_cores]

TWO = ["--trainer.accelerator=cpu", "--trainer.devices=2"]
FORKED = [*TWO, "--trainer.strategy=ddp_fork"]  # as `ddp`, in processes that need not import all of it again
# plain steps, so that rounding stays rounding: Adam divides by gradients that are nearly zero
SGD = ["--model.optim.name=sgd", "--model.optim.lr=0.5", "--data.validation_fraction=0.203", "--trainer.max_epochs=1"]
FROZEN = [*SGD, "--model.freeze_bn=true"]
MIXED = ["--model.mix.mixup=0.8", "--model.mix.cutmix=1.0", "--data.erasing=0.5"]


def difference(first, second, but="no such key"):
    """The largest difference of two runs' weights."""
    compared = [key for key in first if first[key].is_floating_point() and but not in key]
    return max((first[key] - second[key]).abs().max().item() for key in compared)


def assert_two_equal_one(two, tmp_path, *flags):
    """With BatchNorm frozen, of the same global batch."""
    assert runs.fit(*FROZEN, "--data.batch_size=16", *flags) == 0
    one = runs.only_run(tmp_path)
    assert read_summary(two)["teacher"] == read_summary(one)["teacher"]
    assert difference(runs.weights(one), runs.weights(two)) < 1e-5


def test_the_command_in_two_processes_equals_one_and_validates_every_image_once(run, tmp_path, capsys):
    """And does not equal one with half the images; of the learning from a teacher."""
    flags = [f"--model.distill.teacher={run}", "--model.distill.objective=hard"]
    flags.append("--model.metrics=[MulticlassMatthewsCorrCoef]")
    whole = ["--trainer.strategy=ddp", "--trainer.limit_val_batches=1000", "--trainer.default_root_dir=two"]
    line = [*runs.QUICK, *TWO, *FROZEN, *flags, *whole, "--data.batch_size=8"]
    command = [sys.executable, "-m", "shvit_pl.cli", "fit", *line]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "error" not in done.stderr.lower()
    assert "sync_dist" not in done.stderr  # Lightning warns so of values that differ between processes
    folder = tmp_path / "two" / "tiny" / "version_0"
    summary = read_summary(folder)
    assert (summary["global_batch"], summary["steps_trained"]) == (16, 4)
    assert [path.name for path in folder.parent.iterdir()] == ["version_0"]
    assert {path.name for path in (folder / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    accuracy = summary["last_metrics"]["val/acc1"]
    assert summary["dataset"]["validation_images"] == 365  # odd: one process has an image more
    assert main(["validate", f"--ckpt_path={folder / 'checkpoints' / 'last.ckpt'}"]) == 0
    assert f" {accuracy:.4f}" in capsys.readouterr().out
    assert json.loads(Path("metrics.json").read_text())["metrics"] == pytest.approx(summary["last_metrics"], abs=1e-5)
    assert round(accuracy * 365, 3) == round(accuracy * 365)
    assert_two_equal_one(folder, tmp_path, *flags)
    assert runs.fit(*FROZEN, "--data.batch_size=8", "--run_name=half", *flags) == 0
    assert difference(runs.weights(tmp_path / "runs" / "half" / "version_0"), runs.weights(folder)) > 1e-3


def fit_in_two_processes(root, *flags):
    assert runs.fit(*FORKED, f"--trainer.default_root_dir={root}", *flags) == 0
    return root / "tiny" / "version_0"


@pytest.mark.parametrize("objective", ["feature", pytest.param("soft_batchmean", marks=pytest.mark.full)])
def test_two_processes_with_another_objective_equal_one(objective, run, tmp_path):
    flags = [f"--model.distill.teacher={run}", f"--model.distill.objective={objective}"]
    if objective == "feature":
        flags.append("--model.design.embed_dim=[80,112,96]")  # with a projection
    two = fit_in_two_processes(tmp_path / "two", *FROZEN, "--data.batch_size=8", *flags)
    assert_two_equal_one(two, tmp_path, *flags)


def test_two_processes_on_a_cache_equal_one_and_write_the_cache_that_one_writes(run, tmp_path, capfd):
    flags = runs.cache_flags(run, tmp_path / "both", *MIXED)
    assert runs.cache_teacher(*FORKED, *FROZEN, *flags) == 0
    printed = capfd.readouterr().out
    for line in ("teacher: ", "files to write", "complete: "):
        assert printed.count(line) == 1
    assert runs.cache_teacher(*FROZEN, *runs.cache_flags(run, tmp_path / "one", *MIXED)) == 0
    runs.assert_same(runs.columns(tmp_path / "both"), runs.columns(tmp_path / "one"))
    assert not list((tmp_path / "both").glob("*.partial"))
    two = fit_in_two_processes(tmp_path / "two", *FROZEN, "--data.batch_size=8", *flags)
    assert_two_equal_one(two, tmp_path, *flags)


def test_with_live_batchnorm_two_processes_equal_one_that_accumulates_their_half_batches(tmp_path, monkeypatch):
    two = fit_in_two_processes(tmp_path / "two", *SGD, "--data.batch_size=8")
    in_turns = TrainSampler.__iter__

    def half_by_half(self):
        draws = list(in_turns(self))
        for start in range(0, len(draws) - 15, 16):
            yield from draws[start : start + 16 : 2]
            yield from draws[start + 1 : start + 16 : 2]

    monkeypatch.setattr(TrainSampler, "__iter__", half_by_half)
    flags = ["--data.batch_size=8", "--trainer.accumulate_grad_batches=2", "--trainer.limit_train_batches=8"]
    assert runs.fit(*SGD, *flags) == 0
    one = runs.weights(runs.only_run(tmp_path))
    assert difference(one, runs.weights(two), but="running_") < 1e-5  # statistics are the first process's
    assert difference(one, runs.weights(two)) > 1e-3
