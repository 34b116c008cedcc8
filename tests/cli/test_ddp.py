"""Two processes (gloo, on the CPU) train what one process trains on the same images."""

import pytest

from shvit_pl.cli import main
from shvit_pl.data.loaders import TrainSampler
from shvit_pl.runs.folder import read_summary
from tests.cli.runs import fit, weights
from tests.cli.two_processes import SGD, difference, fit_in_two_processes, needs_two_cores

pytestmark = needs_two_cores

EVALUATED = ["--trainer.limit_val_batches=1000"]


@pytest.fixture(scope="module")
def frozen(tmp_path_factory):
    root = tmp_path_factory.mktemp("ddp")
    return fit_in_two_processes(root, *SGD, *EVALUATED, "--model.freeze_bn=true", "--data.batch_size=8")


def test_two_processes_share_one_run_folder(frozen):
    summary = read_summary(frozen)
    assert (summary["global_batch"], summary["steps_trained"]) == (16, 4)
    assert [folder.name for folder in frozen.parent.iterdir()] == ["version_0"]
    assert {path.name for path in (frozen / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}


def test_with_batchnorm_frozen_two_processes_equal_one_of_the_same_global_batch(frozen, tmp_path):
    for batch in (16, 8):
        assert fit(*SGD, "--model.freeze_bn=true", f"--data.batch_size={batch}") == 0
    whole, half = (weights(tmp_path / "runs" / "tiny" / f"version_{number}") for number in (0, 1))
    assert difference(whole, weights(frozen)) < 1e-5
    assert difference(half, weights(frozen)) > 1e-3  # of one process's images alone, it is another model


def test_two_processes_validate_every_image_once(frozen, capsys):
    expected = read_summary(frozen)["last_metrics"]
    assert read_summary(frozen)["dataset"]["validation_images"] == 365  # odd: one process has an image more
    assert main(["validate", f"--ckpt_path={frozen / 'checkpoints' / 'last.ckpt'}"]) == 0
    printed = capsys.readouterr().out
    assert str(expected["val/acc1"])[:8] in printed
    assert round(expected["val/acc1"] * 365, 3) == round(expected["val/acc1"] * 365)


@pytest.mark.slow
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
    assert fit(*SGD, *flags) == 0
    one = weights(tmp_path / "runs" / "tiny" / "version_0")
    assert difference(one, weights(two), but="running_") < 1e-5  # statistics are the first process's
    assert difference(one, weights(two)) > 1e-3
