"""Two processes (gloo, on the CPU) learn from a teacher, and write its cache, as one does."""

import subprocess
import sys

import pytest

from shvit_pl.cli import main
from shvit_pl.runs.folder import read_summary
from tests.cli.caches import answers, assert_same_answers, flags_of
from tests.cli.runs import QUICK, fit, weights
from tests.cli.two_processes import SGD, TWO, difference, fit_in_two_processes, needs_two_cores

pytestmark = [pytest.mark.slow, needs_two_cores]

FROZEN = [*SGD, "--model.freeze_bn=true"]


def assert_two_equal_one(flags, tmp_path):
    """On the same global batch, with BatchNorm frozen."""
    two = fit_in_two_processes(tmp_path / "two", *FROZEN, "--data.batch_size=8", *flags)
    assert fit(*FROZEN, "--data.batch_size=16", *flags) == 0
    assert fit(*FROZEN, "--data.batch_size=8", *flags) == 0
    whole, half = (tmp_path / "runs" / "tiny" / f"version_{number}" for number in (0, 1))
    assert read_summary(two)["teacher"] == read_summary(whole)["teacher"]
    assert difference(weights(whole), weights(two)) < 1e-5
    assert difference(weights(half), weights(two)) > 1e-3


@pytest.mark.parametrize("objective", ["hard", "soft_batchmean", "feature"])
def test_two_processes_with_a_teacher_each_equal_one(objective, run, tmp_path):
    flags = [f"--model.distill.teacher={run}", f"--model.distill.objective={objective}"]
    if objective == "feature":
        flags.append("--model.design.embed_dim=[80,112,96]")  # with a projection
    assert_two_equal_one(flags, tmp_path)


def test_two_processes_on_a_cache_equal_one(run, tmp_path):
    mixed = ["--model.mix.mixup=0.8", "--model.mix.cutmix=1.0", "--data.erasing=0.5"]
    flags = flags_of(run, tmp_path / "cache", *mixed)
    assert main(["cache-teacher", *QUICK, *FROZEN, *flags]) == 0
    assert_two_equal_one(flags, tmp_path)


def test_two_processes_write_the_cache_that_one_writes(run, tmp_path):
    mixed = ["--model.mix.mixup=0.8", "--data.erasing=0.5"]
    assert main(["cache-teacher", *QUICK, *flags_of(run, tmp_path / "one", *mixed)]) == 0
    args = ["cache-teacher", *QUICK, *TWO, *flags_of(run, tmp_path / "two", *mixed)]
    command = [sys.executable, "-m", "shvit_pl.cli", *args]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "error" not in done.stderr.lower()
    for line in ("teacher: ", "files to write", "whole: "):
        assert done.stdout.count(line) == 1
    assert_same_answers(answers(tmp_path / "two"), answers(tmp_path / "one"))
    assert not list((tmp_path / "two").glob("*.partial"))
