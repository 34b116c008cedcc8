"""What a run measures of itself: the share of its time that it waits for images, and its peak memory."""

import json
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from shvit_pl import HFImageDataModule, ObjectsDataModule
from shvit_pl.callbacks.summary import peak_memory
from shvit_pl.callbacks.throughput import advice
from shvit_pl.compat import cores_of_process
from shvit_pl.data.config import DataConfig
from shvit_pl.data.decoding import RowReader
from shvit_pl.modules.classification import ClassificationModule
from shvit_pl.runs.folder import read_summary
from tests.cli.runs import fit, metrics, only_run

LOADING = DataConfig(path="photos")
LONGER = "--trainer.limit_train_batches=6"


def slow(monkeypatch, kind, method, seconds):
    original = getattr(kind, method)

    def slowly(self, *args, **options):
        time.sleep(seconds)
        return original(self, *args, **options)

    monkeypatch.setattr(kind, method, slowly)


@pytest.mark.slow
def test_a_slow_decoder_is_waited_for_and_the_run_says_so(monkeypatch, tmp_path, capsys):
    slow(monkeypatch, RowReader, "read", 0.03)  # half a second for a batch
    assert fit(LONGER) == 0
    folder = only_run(tmp_path)
    shares = [read_summary(folder)["data_wait"], *map(float, metrics(folder, "train/data_wait"))]
    assert len(shares) == 1 + 2
    assert all(0.5 < share < 1 for share in shares)
    out = capsys.readouterr().out
    assert f"data wait: {shares[0]:.2f} of the time the training waited for images. Loading and training share" in out
    assert f"{shares[0]:.2f} of the time" in out.split("result")[1]


@pytest.mark.slow
def test_a_slow_network_and_a_slow_validation_are_no_waiting(monkeypatch, tmp_path, capsys):
    slow(monkeypatch, ClassificationModule, "training_step", 1.0)
    slow(monkeypatch, ClassificationModule, "validation_step", 0.3)
    validating = ["--trainer.val_check_interval=2", "--trainer.limit_val_batches=2"]
    assert fit(LONGER, "--trainer.max_epochs=1", *validating) == 0
    share = read_summary(only_run(tmp_path))["data_wait"]
    assert 0 < share < 0.2
    assert "waited for images" not in capsys.readouterr().out


def test_a_run_of_one_step_knows_nothing_of_it(tmp_path):
    assert fit("--trainer.max_steps=1") == 0
    assert read_summary(only_run(tmp_path))["data_wait"] is None


@pytest.mark.parametrize(
    ("device", "workers", "devices", "said"),
    [
        ("cpu", 0, 1, "so more workers would not help much"),
        ("cuda", 0, 1, f"Give --data.num_workers {cores_of_process()} (now 0; "),
        ("cuda", cores_of_process(), 1, "cores per device are loading"),
        ("cuda", 1, 10_000, "All 1 cores per device are loading"),
    ],
)
def test_the_advice_is_of_the_runs_own_settings(device, workers, devices, said):
    line = advice(0.43, HFImageDataModule(LOADING).lighter_ways(device), workers, device, devices)
    assert line.startswith("data wait: 0.43 of the time")
    assert said in line
    assert "about 448 pixels a side" in line
    assert "--data.auto_augment" not in line
    assert "--data.auto_augment null" in HFImageDataModule(replace(LOADING, auto_augment="3a")).lighter_ways(device)[0]


def test_a_detectors_advice_is_to_store_smaller_images():
    assert ObjectsDataModule(path="photos").lighter_ways("cuda") == [
        "store images no larger than about 1600 pixels a side"
    ]
    assert ObjectsDataModule().lighter_ways("cuda") == []


CHILD = """
import json, numpy, torch
from shvit_pl.callbacks.summary import peak_memory
device = torch.device("cpu")
before, _ = peak_memory(device)
numpy.ones(300_000_000, numpy.uint8)  # held for a moment
print(json.dumps([before, *peak_memory(device)]))
"""


@pytest.mark.full  # the child imports everything
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere the system may count differently")
def test_it_is_the_processes_own_peak_and_not_its_parents():
    held = np.ones(400_000_000, np.uint8)
    child = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, check=True)
    before, after, of_what = json.loads(child.stdout)
    assert of_what == "resident in the process"
    assert 290 < after - before < 310
    parents, _ = peak_memory(torch.device("cpu"))
    assert len(held) / 1e6 < parents
    assert before < parents - 200
