"""Searches through the command: of what was sampled, extended, over several objectives, and pruned."""

import math

import pytest
import yaml
from optuna.trial import TrialState

from shvit_pl.runs.folder import read_summary
from tests.sweep.small import sweep, trials

pytestmark = pytest.mark.slow

SPACE = """
  space:
    model.optim.lr: {low: 1.0e-4, high: 1.0e-2, log: true}
    model.design.partial_ratio: {low: 0.1, high: 0.5}
    data.augment: [none, shift]
"""
QUICK = ["--trainer.limit_train_batches=2", "--trainer.limit_val_batches=1"]


def search(folder, settings, space=SPACE, objective="val/acc1", flags=QUICK):
    """Run a search; returns the printed text, and its trials."""
    code, printed = sweep(folder, f"base: s1.yaml\nsearch:\n{settings}{space}objective: {objective}\n", *flags)
    assert code == 0
    return printed, trials(folder)


def test_trials_have_what_was_sampled_and_their_objectives_and_a_search_goes_on_with_more(tmp_path):
    folder, objective = tmp_path / "grown", "{val/acc1: max, params: min}"
    printed, before = search(folder, "  n_trials: 2", objective=objective)
    assert f"sweep: 2 trials in {folder}" in printed
    printed, after = search(folder, "  n_trials: 4", objective=objective)
    assert "2 of them are new" in printed
    assert [trial.params for trial in after][:2] == [trial.params for trial in before]
    assert len({trial.params["model.optim.lr"] for trial in after}) == len(after) == 4
    assert len({trial.values[1] for trial in after}) > 1
    for trial in after:
        assert trial.state == TrialState.COMPLETE
        summary = read_summary(folder / trial.user_attrs["run"])
        assert trial.values == [summary["metrics"]["val/acc1"], summary["params"]]
        assert summary["design"]["partial_ratio"] == trial.params["model.design.partial_ratio"]
        config = yaml.safe_load((folder / trial.user_attrs["run"] / "config.yaml").read_text())
        assert config["model"]["optim"]["lr"] == trial.params["model.optim.lr"]
        assert config["data"]["augment"] == trial.params["data.augment"]


def test_the_median_pruner_ends_runs_of_absurd_learning_rates(tmp_path):
    """The seventh of 7 learning rates from 1e-4 to 10 is absurd; Optuna prunes after five whole runs."""
    space = "  space:\n    model.optim.lr: {low: 1.0e-4, high: 10.0, log: true}\n"
    flags = ["--trainer.max_epochs=4", "--model.optim.warmup_epochs=0"]
    printed, found = search(tmp_path / "pruned", "  n_trials: 7\n  pruner: median\n", space, "val/loss", flags)
    pruned = [trial for trial in found if trial.state == TrialState.PRUNED]
    assert printed.count("(pruned)") == len(pruned)
    for trial in found:
        run = tmp_path / "pruned" / trial.user_attrs["run"]
        summary, epochs = read_summary(run), list(trial.intermediate_values)
        assert epochs == list(range(1, len(epochs) + 1))
        assert (len(epochs), summary["epochs_trained"]) == (summary["steps_trained"] / 3,) * 2
        assert (len(epochs) < 4) == (trial in pruned)
        assert all(math.isfinite(value) for value in trial.intermediate_values.values())
        assert min(trial.intermediate_values.values()) == pytest.approx(trial.values[0])
        for path in ("config.yaml", "metrics.csv", "checkpoints/best.ckpt", "checkpoints/last.ckpt"):
            assert (run / path).is_file()
    absurd = [trial for trial in found[5:] if trial.params["model.optim.lr"] > 1]
    assert absurd
    assert all(trial in pruned and len(trial.intermediate_values) == 1 for trial in absurd)
