"""Where an evaluation stands on too few steps, fit, summary and evaluations say so; threads are set and shown."""

import shutil

import pytest
import torch

from shvit_pl.callbacks import summary
from shvit_pl.cli import main
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


RARER = ("as many as the statistics span", "an average that has")


@pytest.mark.parametrize("case", [pytest.param(c, marks=pytest.mark.slow) if c in RARER else c for c in CASES])
def test_an_evaluation_on_too_few_steps_is_told(case, capsys, tmp_path):
    flags, notes = CASES[case]
    assert fit(*flags, "--trainer.limit_val_batches=1") == 0
    lines = notes_printed(capsys)
    assert len(lines) == bool(notes)
    assert all(note in lines[0] for note in notes)
    run = only_run(tmp_path)
    assert read_summary(run)["few_steps"] == lines
    if "averaged" in "".join(notes):  # of weights alone, only what concerns them is told
        for averaged, said in (("true", lines), ("false", [])):
            flags = [f"--model.init_from={run}", f"--model.use_ema={averaged}", "--trainer.limit_val_batches=1"]
            assert main(["validate", *flags, "--data.num_workers=0"]) == 0
            assert notes_printed(capsys) == said


@pytest.mark.slow
def test_the_notes_are_those_of_the_weights_that_are_evaluated(image_folder, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(summary, "is_improved", lambda metrics, best, monitor: not best)  # the first epoch stays best
    others = shutil.copytree(image_folder, tmp_path / "others")  # for the test: the same would be refused
    assert fit(f"--data.path={image_folder}", "--data.batch_size=4", "--trainer.max_epochs=3") == 0
    (note,) = notes_printed(capsys)
    assert note.startswith("BatchNorm's statistics are of 4 batches, ")
    run = only_run(tmp_path)
    assert read_summary(run)["few_steps"] == [note]
    for name, notes in (("best", [note]), ("last", [])):
        checkpoint = f"--ckpt_path={run / 'checkpoints' / name}.ckpt"
        for command, path in (("validate", image_folder), ("test", others), ("predict", others)):
            assert main([command, checkpoint, f"--data.path={path}", "--data.num_workers=0"]) == 0
            assert notes_printed(capsys) == notes, (name, command)
        weights = checkpoint.replace("ckpt_path", "model.init_from")
        assert main(["validate", weights, f"--data.path={image_folder}", "--data.num_workers=0"]) == 0
        assert notes_printed(capsys) == notes, name


def test_a_run_that_is_never_validated_has_the_notes_of_its_end(capsys, tmp_path):
    assert fit("--trainer.max_epochs=2", "--trainer.limit_val_batches=0") == 0
    (note,) = notes_printed(capsys)
    assert "of 8 batches" in note
    assert read_summary(only_run(tmp_path))["few_steps"] == [note]


def notes_printed(capsys):
    lines = capsys.readouterr().out.splitlines()
    return [line.removeprefix("note: ") for line in lines if line.startswith("note: ")]


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
