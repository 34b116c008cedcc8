"""A run that has ended is trained on by `--extend_to`, in its folder; everything else that would go on is refused."""

import shutil
from datetime import timedelta
from itertools import count
from types import SimpleNamespace

import pytest
import yaml
from lightning.pytorch.callbacks import EarlyStopping, Timer, timer

from shvit_pl.callbacks.checkpoints import Extension
from shvit_pl.cli import main
from shvit_pl.runs.folder import FinishedRun, read_curves, read_summary
from tests.callbacks.test_best_epoch import reach
from tests.cli.runs import assert_same, content, fit, metrics, needs_two_cores, only_run, stopped, weights
from tests.refusals import refused as message

CONSTANT = ["--model.optim.min_lr=1", "--model.optim.warmup_epochs=0"]  # a rate that doesn't depend on the length
FEW = ["--trainer.limit_val_batches=1", "--trainer.log_every_n_steps=1"]
TWO, SIX = ["--trainer.limit_train_batches=2", "--trainer.limit_val_batches=1"], ["--trainer.max_steps=6"]


@pytest.fixture
def ended(short_run, tmp_path):
    """A run of two epochs that ended, where `fit` would have it."""
    return shutil.copytree(short_run, tmp_path / "runs" / "tiny" / "version_0")


@pytest.mark.parametrize(
    ("flags", "more"),
    [
        pytest.param([], [*CONSTANT, *TWO], id="epochs"),
        pytest.param(SIX, CONSTANT, id="ended within an epoch", marks=pytest.mark.slow),
        pytest.param([], [*CONSTANT, "--model.optim.interval=epoch"], id="rates by epoch", marks=pytest.mark.slow),
    ],
)
def test_an_extended_run_is_the_one_that_was_planned_for_that_length(flags, more, tmp_path, refused):
    """Also by its config.yaml, which makes it anew."""
    assert fit(*FEW, *more, *flags) == 0
    shutil.copy(only_run(tmp_path) / "checkpoints" / "last.ckpt", "copied.ckpt")
    refused([*FEW, *more, *flags, "--ckpt_path=copied.ckpt"], "its run has ended", "with --extend_to")
    seconds = read_summary(only_run(tmp_path))["wall_seconds"]
    assert fit(*FEW, *more, *flags, "--extend_to=3") == 0
    assert fit(*FEW, *more, "--trainer.max_epochs=3", "--run_name=whole") == 0
    extended, whole = only_run(tmp_path), tmp_path / "runs" / "whole" / "version_0"
    for name in ("train/lr", "train/loss"):
        assert metrics(extended, name) == metrics(whole, name)
    assert_same(weights(extended), weights(whole))
    configs = [yaml.safe_load((folder / "config.yaml").read_text()) for folder in (extended, whole)]
    assert configs[0] == configs[1] | {"run_name": None}
    summary, planned = read_summary(extended), read_summary(whole)
    assert summary["extended_at"] == [1.5 if flags else 2.0]
    assert planned["extended_at"] == []
    for name in ("epochs", "epochs_trained", "steps", "steps_trained", "last_metrics"):
        assert summary[name] == planned[name], name
    assert summary["wall_seconds"] > seconds
    assert [epoch for epoch, _ in read_curves(extended)["val/acc1"]] == [1, 2, 3]


@pytest.mark.slow
def test_the_cosine_is_that_of_a_run_planned_for_the_length(ended, tmp_path, capsys):
    assert fit("--trainer.log_every_n_steps=1", "--extend_to=3") == 0
    assert "from 2 to 3 epochs; the learning rate goes on as in a run that was planned for 3" in capsys.readouterr().out
    flags = ["--trainer.log_every_n_steps=1", "--run_name=whole", *TWO[1:]]
    assert fit(*flags, "--trainer.max_epochs=3") == 0
    whole = tmp_path / "runs" / "whole" / "version_0"
    assert metrics(ended, "train/lr")[-4:] == metrics(whole, "train/lr")[-4:]


@pytest.mark.slow
def test_the_best_epoch_of_before_stays_a_candidate_also_with_other_settings(tmp_path, monkeypatch):
    reach(monkeypatch, [0.75, 0.5, 0.5, 0.875], [1.0] * 4)
    assert fit(*TWO) == 0
    best, matrix = content(only_run(tmp_path), "best"), only_run(tmp_path) / "figures" / "confusion_matrix.png"
    drawn = matrix.read_bytes()
    assert fit(*TWO, "--extend_to=3", "--allow_changes=true", "--model.optim.lr=0.001") == 0
    summary = read_summary(only_run(tmp_path))
    assert (summary["best_epoch"], summary["epochs_trained"], summary["metrics"]["val/acc1"]) == (1, 3, 0.75)
    assert_same(content(only_run(tmp_path), "best")["state_dict"], best["state_dict"])
    assert matrix.read_bytes() == drawn
    assert FinishedRun.open(only_run(tmp_path)).checkpoint.name == "best.ckpt"
    changed = ["--allow_changes=true", "--model.optim.lr=0.001"]
    assert fit(*TWO, f"--ckpt_path={only_run(tmp_path)}", "--extend_to=4", *changed) == 0
    summary = read_summary(only_run(tmp_path))
    assert (summary["best_epoch"], summary["metrics"]["val/acc1"]) == (4, 0.875)
    assert summary["extended_at"] == [2, 3]
    assert matrix.read_bytes() != drawn


@pytest.mark.slow
def test_a_run_that_was_ended_by_its_time_is_extended_with_all_of_its_time_again(tmp_path, monkeypatch):
    monkeypatch.setattr(timer, "time", SimpleNamespace(monotonic=count().__next__))  # a second at every look
    flags = [*TWO, "--trainer.max_epochs=50", "--trainer.max_time=00:00:00:08"]
    assert fit(*flags) == 0
    steps = read_summary(only_run(tmp_path))["steps_trained"]
    assert 0 < steps < 8
    assert fit(*flags, "--extend_to=50") == 0
    summary = read_summary(only_run(tmp_path))
    assert steps < summary["steps_trained"] < 16
    assert summary["extended_at"] == [steps / 2]


@pytest.mark.slow
def test_an_extension_that_was_interrupted_is_resumed_by_the_same_command(tmp_path):
    assert fit(*TWO) == 0
    kept = shutil.copytree(only_run(tmp_path), tmp_path / "kept" / "tiny" / "version_0")
    flags = [*TWO, "--extend_to=4", "--checkpoint_every_n_steps=1"]
    stopped(2, 0, *flags)  # before its first step
    assert (only_run(tmp_path) / "summary.json").is_file()
    stopped(3, 1, *flags)
    assert not (only_run(tmp_path) / "summary.json").exists()
    assert fit(*flags, "--ckpt_path=last") == 0
    assert fit(*flags, "--trainer.default_root_dir=kept") == 0
    assert_same(weights(only_run(tmp_path)), weights(kept))
    assert read_summary(only_run(tmp_path))["extended_at"] == [2]


END, BEST, RUN = (f"runs/tiny/version_0{rest}" for rest in ("/checkpoints/last.ckpt", "/checkpoints/best.ckpt", ""))
ENDED = "its run has ended, after 2 epochs"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--ckpt_path=last"], [ENDED, "with --extend_to 4 (epochs in all)"]),
        ([f"--ckpt_path={END}"], [ENDED, "with --extend_to 4"]),
        ([f"--ckpt_path={RUN}"], [ENDED, "with --extend_to 4"]),
        ([f"--ckpt_path={BEST}"], [ENDED, f"with --ckpt_path {RUN} --extend_to 4"]),
        (["--ckpt_path=last", "--trainer.max_epochs=7"], [ENDED, "with --extend_to 7"]),
        (["--ckpt_path=last", "--trainer.max_epochs=7", "--allow_changes=true"], [ENDED, "with --extend_to 7"]),
        (["--ckpt_path=copied.ckpt"], [ENDED, "with --extend_to 4"]),
        (["--extend_to=2"], ["extend_to 2: the run has 2 epochs", "--extend_to 4"]),
        (["--extend_to=1", "--allow_changes=true"], ["extend_to 1: the run has 2 epochs", "--extend_to 4"]),
        (["--extend_to=0"], ["extend_to", "0"]),
        (["--extend_to=4", f"--ckpt_path={BEST}"], ["from its last.ckpt", f"Give --ckpt_path {RUN}"]),
        (
            ["--extend_to=4", "--model.optim.lr=1e-5"],
            [f"extend_to 4: ckpt_path '{END}'", "model.optim.lr 0.008 -> 1e-05", "--allow_changes true"],
        ),
        (
            [f"--ckpt_path={RUN}", "--extend_to=4", "--model.optim.lr=1e-5"],
            [f"error: ckpt_path '{END}': it had other settings", f"Begin with --config {RUN}/config.yaml"],
        ),
        (["--extend_to=9", "--trainer.max_epochs=12"], ["trainer.max_epochs 12", "Leave out --trainer.max_epochs"]),
        (["--extend_to=9", "--trainer.max_epochs=1"], ["trainer.max_epochs 1: extend_to 9 decides"]),
        (["--extend_to=3", "--trainer.max_steps=6"], ["trainer.max_steps 6", "Leave out --trainer.max_steps"]),
        (["--extend_to=3", "--trainer.min_epochs=4"], ["trainer.min_epochs 4: extend_to is 3"]),
        (["--extend_to=4", "--run_name=other"], ["no run in 'runs/other'", "--trainer.max_epochs 4"]),
        (["--extend_to=4", "--run_name=other", "--ckpt_path=last"], ["no run in 'runs/other'"]),
    ],
    ids=" ".join,
)
def test_what_an_ended_run_does_not_go_on_with(flags, words, ended, refused):
    shutil.copy(ended / "checkpoints" / "last.ckpt", "copied.ckpt")
    refused(flags, *words)


@pytest.mark.parametrize(
    "flags",
    [[f"--ckpt_path={RUN}", "--extend_to=3"], ["--run_name=tiny", "--extend_to=3", "--trainer.max_epochs=3"]],
    ids=" ".join,
)
def test_a_run_goes_on_with_its_own_settings_where_no_config_is_given(flags, ended):
    assert main(["fit", *flags, "--plain"]) == 0
    summary = read_summary(ended)
    assert (summary["extended_at"], summary["epochs_trained"], summary["steps_trained"]) == ([2], 3, 12)


@pytest.mark.slow
def test_a_run_that_was_interrupted_is_resumed_with_its_own_settings(tmp_path, capsys):
    stopped(1, 1, *TWO)
    assert main(["fit", "--ckpt_path=last", "--run_name=tiny"]) == 0
    assert (read_summary(only_run(tmp_path))["epochs_trained"], read_summary(only_run(tmp_path))["extended_at"]) == (
        2, [],
    )  # fmt: skip


def test_a_run_that_lacks_its_results_alone_is_completed_and_that_is_said(ended, capsys):
    expected = read_summary(ended)
    (ended / "summary.json").unlink()
    assert fit("--ckpt_path=last", "--plain") == 0
    printed = capsys.readouterr().out
    assert f"nothing was left to train, only the results to write; train the run on with --ckpt_path {RUN}" in printed
    assert "--extend_to 4\n" in printed
    assert "speed" not in printed
    same = ("metrics", "best_epoch", "epochs_trained", "steps_trained", "extended_at")
    assert {name: read_summary(ended)[name] for name in same} == {name: expected[name] for name in same}


@pytest.mark.parametrize("command", ["validate", "test", "predict", "cache-teacher"])
def test_other_commands_extend_nothing(command, refused):
    cached = ["--model.distill.teacher=t", "--model.distill.cache=c"]
    given = cached if command == "cache-teacher" else ["--ckpt_path=x.ckpt"]
    refused(["--extend_to=4", *given], f"extend_to 4: {command} trains nothing", command=command)


def test_a_run_of_a_sweep_keeps_its_length(ended, refused, tmp_path):
    (tmp_path / "sweep.yaml").touch()
    refused(["--extend_to=4"], "a run of the sweep", "Copy the folder")


@pytest.mark.slow
def test_an_interrupted_run_is_resumed_first(refused, tmp_path, capsys):
    stopped(1, 1, *TWO)
    with message("this run has not ended ... with --ckpt_path last"):
        FinishedRun.open(only_run(tmp_path))
    refused(["--extend_to=4", *TWO], "after 1 of 2 epochs", f"Resume it first: --ckpt_path {END}")
    shutil.copy(END, "copied.ckpt")
    same = ["--ckpt_path=copied.ckpt", "--trainer.max_epochs=1", "--allow_changes=true"]
    refused([*TWO, *same], "trained for 1 epoch, and trainer.max_epochs is 1", "Give --trainer.max_epochs 2")
    assert fit(*TWO, "--ckpt_path=last") == 0
    assert f"resuming from {END}" in capsys.readouterr().out
    assert FinishedRun.open(only_run(tmp_path)).summary["extended_at"] == []


def test_what_has_ended_a_run_begins_anew():
    stopping, timer = EarlyStopping("val/loss", patience=3), Timer(timedelta(days=1))
    checkpoint = {
        "callbacks": {
            stopping.state_key: {"wait_count": 3, "stopped_epoch": 5, "best_score": 0.5, "patience": 3},
            timer.state_key: {"time_elapsed": {"train": 1e9}},
        },
        "loops": {"fit_loop": {"epoch_loop.batch_progress": {"is_last_batch": True}}},
    }
    Extension().on_load_checkpoint(SimpleNamespace(callbacks=[stopping, timer]), None, checkpoint)
    assert checkpoint["callbacks"] == {
        stopping.state_key: {"wait_count": 0, "stopped_epoch": 0, "best_score": 0.5, "patience": 3}
    }


@pytest.mark.slow
@needs_two_cores
def test_two_processes_extend_together(tmp_path):
    flags = [*TWO, "--trainer.devices=2", "--trainer.strategy=ddp_fork", "--trainer.accelerator=cpu"]
    stopped(0, 1, *TWO, "--trainer.max_epochs=1", "--checkpoint_every_n_steps=1", "--data.batch_size=32")
    same = ["--data.batch_size=16", "--allow_changes=true"]
    assert fit(*flags, *same, "--trainer.max_epochs=1", "--ckpt_path=last") == 0  # resumed by others than began it
    assert fit(*flags, *same, "--ckpt_path=last", "--extend_to=2") == 0
    summary = read_summary(only_run(tmp_path))
    assert (summary["epochs_trained"], summary["extended_at"], summary["global_batch"]) == (2, [1], 32)
