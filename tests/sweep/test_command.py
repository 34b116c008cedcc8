"""Sweeps through the command, with real fits in this process: grids, lists, searches, and the same command again."""

import json
import math
import re
import shlex
import shutil
import tempfile

import pytest
import torch
import yaml
from optuna.trial import TrialState

from shvit_pl.cli import main
from shvit_pl.display import in_markdown
from shvit_pl.runs.folder import read_summary
from shvit_pl.sweep.finish import best_run
from tests.sweep.small import PATCHES, files, sweep, trials

pytestmark = pytest.mark.slow  # real fits; the engine's own tests are quick

TWO = f"{PATCHES}objective: [val/acc1, params]\n"
NAMES = {16: "patch_size-16_seed-0", 8: "patch_size-8_seed-0"}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The folder of a sweep of two runs with two objectives, and what it printed."""
    folder = tmp_path_factory.mktemp("command") / "small"
    code, printed = sweep(folder, TWO)
    assert code == 0
    return folder, printed


def test_each_run_is_an_ordinary_one_by_a_command_that_is_printed_stored_and_logged(done, capsys):
    folder, printed = done
    assert f"sweep: 2 runs (2 cells, seeds 0) in {folder}, 1 at a time" in printed
    assert re.search(r"patch_size 16, seed 0: val/acc1 0\.\d+, params 1\.\d+e\+06 in 0:\d\d:\d\d  \(1 left, ", printed)
    assert re.search(r"patch_size 8, seed 0: val/acc1 0\.\d+, params .* \(0 left\)", printed)
    assert "\x1b" not in printed
    assert f"report: {folder / 'report.html'}" in printed
    begun = re.findall(r"^(patch_size \d+), seed 0 begins: (.*)$", printed, re.MULTILINE)
    assert [name for name, _ in begun] == ["patch_size 16", "patch_size 8"]
    assert {path.name for path in (folder / "runs").iterdir()} == set(NAMES.values())
    for trial, (patch, name), (_, command) in zip(trials(folder), NAMES.items(), begun, strict=True):
        run = folder / "runs" / name / "version_0"
        summary = read_summary(run)
        assert summary["design"]["patch_size"] == patch
        assert (summary["steps_trained"], summary["epochs_trained"], summary["seed"]) == (3, 1, 0)
        for path in ("config.yaml", "metrics.csv", "checkpoints/best.ckpt", "figures/inputs.png"):
            assert (run / path).is_file()
        assert trial.values == [summary["metrics"]["val/acc1"], summary["params"]]
        assert shlex.split(command) == ["shvit-pl", "fit", *trial.user_attrs["command"]]
        assert summary["command"] == command
        logged = (folder / "logs" / f"{name}.log").read_text().splitlines()[0]
        assert logged.endswith(shlex.join(trial.user_attrs["command"]))
    flags = ["--trainer.limit_val_batches=2", "--data.num_workers=0"]
    assert main(["validate", f"--ckpt_path={run / 'checkpoints' / 'best.ckpt'}", *flags]) == 0
    assert f"{summary['metrics']['val/acc1']:.4f}"[:5] in capsys.readouterr().out


def test_a_stored_command_repeats_the_run_bit_for_bit(done, tmp_path):
    first, again = (runs / NAMES[8] / "version_0" for runs in (done[0] / "runs", tmp_path / "again"))
    program, *args = shlex.split(read_summary(first)["command"])
    assert program == "shvit-pl"
    assert main([*args, f"--trainer.default_root_dir={tmp_path / 'again'}"]) == 0
    before, after = (
        torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for run in (first, again)
    )
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_the_same_command_again_starts_nothing_and_a_changed_one_is_refused_with_the_difference(done, capsys):
    folder, _ = done
    before = files(folder / "runs") | files(folder / "logs")
    code, printed = sweep(folder, TWO)
    assert code == 0
    assert "all runs are done" in printed
    assert "begins" not in printed
    assert files(folder / "runs") | files(folder / "logs") == before
    assert len(trials(folder)) == 2
    before = files(folder)
    changed = ["--model.optim.lr=0.5", "--trainer.callbacks=LearningRateMonitor"]
    assert sweep(folder, TWO.replace("16, 8", "16, 8, 4"), *changed)[0] == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    for part in (
        f"--folder {str(folder)!r}: contains another sweep (",
        "lr 0.008 -> 0.5",
        "trainer.callbacks None -> ",
    ):
        assert part in message
    assert files(folder) == before


def test_added_points_are_run_also_in_a_folder_that_was_moved(done, tmp_path):
    folder = tmp_path / "moved"
    shutil.copytree(done[0], folder)
    before = files(folder / "runs")
    added = f"{TWO.replace('16, 8', '16, 4, 8')}seeds: [0, 1]\n"
    code, printed = sweep(folder, added, "--workers=2")
    assert code == 0
    assert "4 of them are new" in printed
    begun = sorted(re.findall(r"^(.*) begins", printed, re.MULTILINE))
    assert begun == ["patch_size 16, seed 1", "patch_size 4, seed 0", "patch_size 4, seed 1", "patch_size 8, seed 1"]
    assert before.items() <= files(folder / "runs").items()
    assert read_summary(folder / "runs" / "patch_size-4_seed-1" / "version_0")["seed"] == 1


def test_rows_of_a_list_win_over_flags_and_these_over_configs(tmp_path):
    (tmp_path / "layer.yaml").write_text("model: {optim: {lr: 0.2, weight_decay: 0.2}}\n")
    text = "base: s1.yaml\nlist: {as it is: {}, Other: {model.optim.lr: 0.4, data.augment: none}}\n"
    layered = [f"--config={tmp_path / 'layer.yaml'}", "--model.optim.lr=0.3"]
    code, printed = sweep(tmp_path / "rows", text, *layered, "--workers=2")
    assert code == 0
    assert "as it is, seed 0: val/acc1" in printed
    folders = [tmp_path / "rows" / "runs" / f"{name}_seed-0" / "version_0" for name in ("as-it-is", "Other")]
    runs = [yaml.safe_load((folder / "config.yaml").read_text()) for folder in folders]
    set_to = [(run["model"]["optim"]["lr"], run["model"]["optim"]["weight_decay"]) for run in runs]
    assert set_to == [(0.3, 0.2), (0.4, 0.2)]
    assert [run["data"]["augment"] for run in runs] == ["shift", "none"]


def test_a_dry_run_shows_costs_and_time_and_leaves_nothing(done, tmp_path, monkeypatch):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    code, printed = sweep(tmp_path / "dry", f"{TWO}seeds: [0, 1]\n", "--dry-run", "--trainer.limit_train_batches=1")
    assert code == 0
    rows = re.findall(r"patch_size (\d+) +([\d.]+) +([\d.]+) +64 +(\d+) +(\d+:\d\d:\d\d)", printed)
    assert [row[0] for row in rows] == ["16", "8"]
    for name, (_, params, macs, rate, _) in zip(NAMES.values(), rows, strict=True):
        summary = read_summary(done[0] / "runs" / name / "version_0")
        assert (params, macs) == (f"{summary['params'] / 1e6:.2f}", f"{summary['macs'] / 1e6:.1f}")
        assert int(rate) > 0
    assert "4 runs (2 cells, seeds 0, 1): about 0:" in printed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dry.yaml", "temporary"]
    assert not any((tmp_path / "temporary").iterdir())


def test_a_sweep_is_pushed_with_its_table_from_where_its_best_run_is(done, hub, tmp_path, capsys):
    folder = tmp_path / "small"
    shutil.copytree(done[0], folder)
    assert main(["push", str(folder), "--repo-id=user/small"]) == 0
    pushed = hub.repo("user/small").files
    best, choice = best_run(folder)
    assert json.loads(pushed["summary.json"])["metrics"] == read_summary(best)["metrics"]
    card = pushed["README.md"].decode()
    for part in ("## Selected from a sweep", "| no. | patch_size |", in_markdown(choice.reason)):
        assert part in card
    assert not any(str(path) in card for path in (folder, done[0]))
    for path in folder.rglob("summary.json"):
        path.unlink()
    capsys.readouterr()
    assert main(["push", str(folder), "--repo-id=user/small", "--dry-run"]) == 2
    assert "is not in the folder any more" in capsys.readouterr().err


SPACE = """
  space:
    model.optim.lr: {low: 1.0e-4, high: 1.0e-2, log: true}
    model.design.partial_ratio: {low: 0.1, high: 0.5}
    data.augment: [none, shift]
objective: {val/acc1: max, params: min}
"""


def search(folder, text, *flags):
    """Run a search; returns the printed text, and its trials, each with its run folder."""
    code, printed = sweep(folder, f"base: s1.yaml\nsearch:\n{text}", *flags)
    assert code == 0
    return printed, [(trial, folder / trial.user_attrs.get("run", "")) for trial in trials(folder)]


def test_trials_have_what_was_sampled_and_their_objectives_and_a_search_goes_on_with_more(tmp_path):
    printed, before = search(tmp_path / "grown", f"  n_trials: 2{SPACE}")
    assert f"sweep: 2 trials in {tmp_path / 'grown'}" in printed
    printed, after = search(tmp_path / "grown", f"  n_trials: 4{SPACE}")
    assert "2 of them are new" in printed
    assert [trial.params for trial, _ in after][:2] == [trial.params for trial, _ in before]
    assert len({trial.params["model.optim.lr"] for trial, _ in after}) == len(after) == 4
    assert len({trial.values[1] for trial, _ in after}) > 1
    for trial, run in after:
        assert trial.state == TrialState.COMPLETE
        summary, config = read_summary(run), yaml.safe_load((run / "config.yaml").read_text())
        assert trial.values == [summary["metrics"]["val/acc1"], summary["params"]]
        assert summary["design"]["partial_ratio"] == trial.params["model.design.partial_ratio"]
        assert config["model"]["optim"]["lr"] == trial.params["model.optim.lr"]
        assert config["data"]["augment"] == trial.params["data.augment"]


def test_a_small_space_is_exhausted_without_repeating_a_point_and_that_is_said(tmp_path):
    space = "  space: {model.design.patch_size: [16, 8], data.augment: [none, shift]}\n"
    printed, first = search(tmp_path / "small", f"  n_trials: 3\n{space}")
    assert f"sweep: 3 trials in {tmp_path / 'small'}" in printed
    printed, found = search(tmp_path / "small", space, "--workers=2")
    assert "n_trials 20: the space has only 4 points; each is run once" in printed
    assert "1 of them are new" in printed
    assert "Best of all 4 points of the space in top-1" in printed
    done = [trial for trial, _ in found if trial.state == TrialState.COMPLETE]
    assert {trial.number for trial, _ in first if trial.state == TrialState.COMPLETE} < {trial.number for trial in done}
    points = [(trial.params["model.design.patch_size"], trial.params["data.augment"]) for trial in done]
    assert sorted(points) == [(8, "none"), (8, "shift"), (16, "none"), (16, "shift")]
    assert "all runs are done" in search(tmp_path / "small", space)[0]
    assert len([*(tmp_path / "small" / "runs").iterdir()]) == 4
    code, printed = sweep(tmp_path / "dry", f"base: s1.yaml\nsearch:\n{space}", "--dry-run")
    assert code == 0
    assert "the space has only 4 points" in printed
    assert "4 trials: about 0:" in printed


def test_the_median_pruner_ends_runs_of_absurd_learning_rates(tmp_path):
    """The seventh of 7 learning rates from 1e-4 to 10 is absurd; Optuna prunes after five whole runs."""
    space = "  space:\n    model.optim.lr: {low: 1.0e-4, high: 10.0, log: true}\nobjective: val/loss\n"
    flags = ["--trainer.max_epochs=3", "--model.optim.warmup_epochs=0"]
    printed, found = search(tmp_path / "pruned", f"  n_trials: 7\n  pruner: median\n{space}", *flags)
    pruned = [trial for trial, _ in found if trial.state == TrialState.PRUNED]
    assert printed.count("(pruned)") == len(pruned)
    for trial, run in found:
        summary, epochs = read_summary(run), list(trial.intermediate_values)
        assert epochs == list(range(1, len(epochs) + 1))
        assert (len(epochs), summary["epochs_trained"]) == (summary["steps_trained"] / 3,) * 2
        assert (len(epochs) < 3) == (trial in pruned)
        assert all(math.isfinite(value) for value in trial.intermediate_values.values())
        assert min(trial.intermediate_values.values()) == pytest.approx(trial.values[0])
        for path in ("config.yaml", "metrics.csv", "checkpoints/best.ckpt", "checkpoints/last.ckpt"):
            assert (run / path).is_file()
    absurd = [trial for trial, _ in found[5:] if trial.params["model.optim.lr"] > 1]
    assert absurd
    assert all(trial in pruned and len(trial.intermediate_values) == 1 for trial in absurd)
