"""Where an evaluation stands on too few steps, the end of a fit says so; threads are set and shown."""

import pytest
import torch

from shvit_pl.command_line.parser import nearest_option
from shvit_pl.fit.check import FitCheck
from shvit_pl.runs.folder import read_summary
from tests.cli.runs import fit, only_run

CASES = {
    "few batches": (["--trainer.max_epochs=1"], ["BatchNorm's statistics are of 4 batches"]),
    "as many as the statistics span": (["--trainer.limit_train_batches=10", "--trainer.max_epochs=1"], []),
    "frozen": (["--trainer.max_epochs=1", "--model.freeze_bn=true"], []),
    "an average that has not moved": (
        [
            "--trainer.limit_train_batches=12",
            "--model.ema.decay=0.99",
            "--model.ema.warmup_power=0",
            "--trainer.max_epochs=1",
        ],
        ["the averaged weights are still 89% those of the start", "--model.ema.decay 0.583"],
    ),
    "an average that has": (
        ["--trainer.limit_train_batches=12", "--model.ema.decay=0.5", "--trainer.max_epochs=1"],
        [],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_an_evaluation_on_too_few_steps_is_told(case, capsys):
    flags, notes = CASES[case]
    assert fit(*flags) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note: ")]
    assert len(lines) == bool(notes)
    assert all(note in lines[0] for note in notes)


def test_threads_are_set_for_the_run_and_shown(tmp_path, monkeypatch):
    chosen, before, setter = [], torch.get_num_threads(), torch.set_num_threads
    monkeypatch.setattr(torch, "set_num_threads", lambda number: chosen.append(number) or setter(number))
    assert fit("--threads=1", "--trainer.max_steps=1") == 0
    assert (chosen[0], torch.get_num_threads()) == (1, before)
    assert "(1 thread)" in read_summary(only_run(tmp_path))["device"]
    assert fit("--threads=0") == 2
    assert fit("--threads=4096") == 2


def test_flags_by_the_names_of_other_programs():
    flags = FitCheck().flags()
    for name, meant in {
        "model.optim.learning_rate": "model.optim.lr",
        "learning-rate": "model.optim.lr",
        "model.optim.momentum": "model.optim.options",
        "images": "data.path",
        "data.dir": "data.path",
        "model.learning_rate": "model.optim.lr",
        "batchsize": "data.batch_size",
        "trainer.batch": "data.batch_size",
        "num_epochs": "trainer.max_epochs",
        "data.epochs": "trainer.max_epochs",
        "weight-decay": "model.optim.weight_decay",
        "model.optim.wd": "model.optim.weight_decay",
        "img_size": "data.image_size",
        "model.img-size": "data.image_size",
        "device": "trainer.devices",
        "trainer.gpus": "trainer.devices",
        "workers": "data.num_workers",
        "trainer.num_workers": "data.num_workers",
        "model.name": "model.design.name",
        "precision": "trainer.precision",
        "pretrained": "model.init_from",
    }.items():
        assert nearest_option(name, flags) == f" (did you mean '{meant}'?)", name
