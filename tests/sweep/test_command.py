"""Sweeps through the command: ordinary runs, commands that repeat, and what happens when it is given again."""

import re
import shlex
import shutil
import tempfile

import pytest
import torch
import yaml

from shvit_pl.cli import main
from shvit_pl.runs.folder import read_summary
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


def test_a_sweep_tells_how_far_it_is_in_plain_lines(done):
    folder, printed = done
    assert f"sweep: 2 runs (2 cells, seeds 0) in {folder}, 1 at a time" in printed
    assert re.search(r"patch_size 16, seed 0: val/acc1 0\.\d+, params 1\.\d+e\+06 in 0:\d\d:\d\d  \(1 left, ", printed)
    assert re.search(r"patch_size 8, seed 0: val/acc1 0\.\d+, params .* \(0 left\)", printed)
    assert "\x1b" not in printed
    assert f"report: {folder / 'report.html'}" in printed


def test_the_same_command_again_starts_nothing(done):
    folder, _ = done
    before = files(folder / "runs") | files(folder / "logs")
    code, printed = sweep(folder, TWO)
    assert code == 0
    assert "all runs are done" in printed
    assert "begins" not in printed
    assert files(folder / "runs") | files(folder / "logs") == before
    assert len(trials(folder)) == 2


@pytest.mark.parametrize(
    ("text", "flags", "said"),
    [
        (TWO, ["--model.optim.lr=0.5"], "(model.optim.lr 0.008 -> 0.5)"),
        (TWO, ["--trainer.callbacks=LearningRateMonitor"], "(trainer.callbacks None -> "),
        (PATCHES, [], "(objective val/acc1 max, params min -> val/acc1 max)"),
        (TWO.replace("16, 8", "16, 8, 4"), ["--model.optim.lr=0.5"], "(model.optim.lr 0.008 -> 0.5)"),
    ],
)
def test_a_changed_sweep_is_refused_with_the_difference(text, flags, said, done, capsys):
    folder, _ = done
    before = files(folder)
    assert sweep(folder, text, *flags)[0] == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert f"--folder {str(folder)!r}: it holds another sweep {said}" in message
    assert files(folder) == before


def test_added_points_are_run_also_in_a_folder_that_was_moved(done, tmp_path):
    folder = tmp_path / "moved"
    shutil.copytree(done[0], folder)
    before = files(folder / "runs")
    code, printed = sweep(folder, TWO.replace("16, 8", "16, 4, 8"))
    assert code == 0
    assert "1 of them are new" in printed
    assert re.findall(r"^(.*) begins", printed, re.MULTILINE) == ["patch_size 4, seed 0"]
    code, printed = sweep(folder, f"{TWO.replace('16, 8', '16, 4, 8')}seeds: [0, 1]\n", "--workers=2")
    assert code == 0
    assert "3 of them are new" in printed
    begun = sorted(re.findall(r"^(.*) begins", printed, re.MULTILINE))
    assert begun == [f"patch_size {size}, seed 1" for size in (16, 4, 8)]
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


def test_a_dry_run_tells_costs_and_time_and_leaves_nothing(done, tmp_path, monkeypatch):
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
