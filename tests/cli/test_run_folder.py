"""The contract of the run folder: exactly these files, with exactly this in them."""

import csv

import pytest
import torch
import yaml

from shvit_pl import ClassificationModule
from shvit_pl.designs.cost import cost
from shvit_pl.runs.folder import read_summary
from tests.cli.runs import fit


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    assert fit(f"--trainer.default_root_dir={root}", "--run_name=study", "--seed_everything=3") == 0
    return root / "study" / "version_0"


def test_it_holds_exactly_these_files(folder):
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    events = {name for name in files if name.startswith("events.out.tfevents.")}
    assert len(events) == 1
    assert files - events == {
        "config.yaml",
        "summary.json",
        "metrics.csv",
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
        "figures/inputs.png",
        "figures/curves.png",
        "figures/confusion_matrix.png",
    }


def test_the_summary_says_what_happened(folder):
    summary = read_summary(folder)
    module = ClassificationModule.load_from_checkpoint(folder / summary["best_checkpoint"], map_location="cpu")
    expected = cost(module.design, 10, 64)
    assert summary["design"]["name"] == "tiny"
    assert tuple(summary["design"]["embed_dim"]) == module.design.embed_dim
    assert (summary["params"], summary["macs"]) == (expected.params, expected.macs)
    assert summary["params"] == sum(p.numel() for p in module.model.parameters())
    assert summary["dataset"]["path"] == "digits"
    assert summary["dataset"]["revision"] is None
    assert summary["classes"] == [str(digit) for digit in range(10)]
    assert (summary["epochs"], summary["steps_trained"], summary["global_batch"], summary["seed"]) == (2, 8, 16, 3)
    assert summary["precision"] == "32-true"
    assert set(summary["metrics"]) == {"val/acc1", "val/acc5", "val/loss"}
    assert summary["wall_seconds"] > 0
    assert summary["images_per_second"] > 0
    weights = 4e-6 * summary["params"]  # MB; AdamW holds three of them
    assert 3 * weights < summary["peak_memory_mb"] < 1e5
    gpu = torch.cuda.is_available()
    assert summary["peak_memory_of"] == ("allocated on the GPU" if gpu else "resident in the process")
    assert summary["versions"]["torch"] == torch.__version__.split("+")[0]
    assert summary["command"].startswith("shvit-pl fit")


def test_the_metrics_have_a_row_per_logged_step_and_epoch(folder):
    rows = list(csv.DictReader((folder / "metrics.csv").open()))
    accuracies = [float(row["val/acc1"]) for row in rows if row["val/acc1"]]
    assert len(accuracies) == 2
    assert max(accuracies) == pytest.approx(read_summary(folder)["metrics"]["val/acc1"])


def test_the_config_is_complete_and_runs_again(folder, tmp_path):
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["model"]["design"]["name"] == "tiny"
    assert config["seed_everything"] == 3
    assert fit(f"--config={folder / 'config.yaml'}", f"--trainer.default_root_dir={tmp_path}") == 0
    again, first = read_summary(tmp_path / "study" / "version_0"), read_summary(folder)
    assert again["metrics"] == first["metrics"]


def test_a_checkpoint_holds_plain_data_and_clean_keys(folder):
    checkpoint = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)
    module = ClassificationModule.load_from_checkpoint(folder / "checkpoints" / "best.ckpt")
    assert set(checkpoint["state_dict"]) == {f"model.{key}" for key in module.model.state_dict()}
    assert checkpoint["hyper_parameters"]["design"]["name"] == "tiny"
    assert module.class_names == [str(digit) for digit in range(10)]


def test_the_next_run_gets_the_next_folder(tmp_path):
    for _ in range(2):
        assert fit("--trainer.max_epochs=1", "--trainer.limit_train_batches=1") == 0
    assert sorted(path.name for path in (tmp_path / "runs" / "tiny").iterdir()) == ["version_0", "version_1"]
