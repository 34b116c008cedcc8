"""`--allow_changes true`: what was changed on resuming is really in force."""

import csv

import pytest
import torch

from shvit_pl.callbacks.run_identity import RunSettings, StepSeed
from shvit_pl.errors import UserError
from shvit_pl.runs.folder import read_summary
from tests.cli.runs import fit


def test_another_number_of_readers_of_a_stream_is_refused():
    settings = RunSettings({})
    settings.readers = 1
    with pytest.raises(UserError, match=r"data\.num_workers 1: 2 read the interrupted run's stream"):
        settings.load_state_dict({"settings": {}, "processes": 1, "readers": 2})
    settings.load_state_dict({"settings": {}, "processes": 1, "readers": 1})


TO_THREE = ["--trainer.max_epochs=3", "--allow_changes=true"]


@pytest.fixture(scope="module")
def last(tmp_path_factory):
    root = tmp_path_factory.mktemp("run")
    assert fit(f"--trainer.default_root_dir={root}") == 0
    return root / "tiny" / "version_0" / "checkpoints" / "last.ckpt"


def groups_in_training(monkeypatch):
    """The optimiser's parameter groups as the training steps find them."""
    seen = []

    def note(self, trainer, *args):
        seen.append(
            [{key: group[key] for key in ("lr", "weight_decay")} for group in trainer.optimizers[0].param_groups]
        )
        original(self, trainer, *args)

    original = StepSeed.on_train_batch_start
    monkeypatch.setattr(StepSeed, "on_train_batch_start", note)
    return seen


def test_learning_rate_and_weight_decay_are_the_new_ones(last, monkeypatch):
    seen = groups_in_training(monkeypatch)
    new = ["--model.optim.lr=0.001", "--model.optim.weight_decay=0.3", "--model.optim.warmup_epochs=0"]
    assert fit(f"--ckpt_path={last}", *TO_THREE, *new) == 0
    peak = 0.001 * 16 / 512
    assert len(seen) == 4
    for groups in seen:
        assert {group["weight_decay"] for group in groups} == {0.0, 0.3}
        assert all(0 < group["lr"] < peak for group in groups)
    before = torch.load(last, weights_only=True)["optimizer_states"][0]["param_groups"]
    assert {group["weight_decay"] for group in before} == {0.0, 0.025}


def test_a_longer_run_goes_on_along_the_longer_schedule_in_a_folder_of_its_own(last, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in last.parents[1].rglob("*")}
    assert fit(f"--ckpt_path={last}", *TO_THREE) == 0
    assert fit("--trainer.max_epochs=3", "--run_name=whole") == 0
    resumed, whole = (tmp_path / "runs" / name / "version_0" for name in ("tiny", "whole"))
    assert read_summary(resumed)["epochs_trained"] == 3
    rates = [[row["train/lr"] for row in csv.DictReader((run / "metrics.csv").open())] for run in (resumed, whole)]
    assert rates[0] == rates[1][-len(rates[0]) :]
    assert {path: path.stat().st_mtime_ns for path in last.parents[1].rglob("*")} == before
