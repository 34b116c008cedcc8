"""A sweep's cells are measured in one go, under conditions that are recorded."""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch

from shvit_pl.deploy.optimization import NotCompiledError
from shvit_pl.designs.config import resolve_design
from shvit_pl.sweep import speed
from shvit_pl.sweep.speed import measure_speed

QUICK = {"batch": 4, "rounds": 3, "seconds": 0.02}
ROOT = Path(__file__).parents[2]


def summary(image_size=64, **changes):
    design = {"name": "tiny", **asdict(resolve_design("tiny", **changes))}
    return {"design": design, "classes": ["a", "b"], "dataset": {"image_size": image_size}, "teacher": None}


def test_cells_are_in_the_right_order_and_those_of_one_network_share_a_measurement(monkeypatch):
    monkeypatch.setattr(speed, "compiled", Mock(side_effect=NotCompiledError("not asked for")))
    cells = {
        "fast": summary(),
        "slow": summary(embed_dim=(80, 112, 800), depth=(1, 2, 16)),
        "distilled": summary(distilled=True, drop_path=0.1),
        "large": summary(image_size=192),
    }
    found = measure_speed(cells, device="cpu", **QUICK)
    rates = {name: cell["eager"] for name, cell in found["cells"].items()}
    assert rates["fast"] > 2 * rates["slow"] > 0
    assert rates["fast"] > rates["large"] > 0
    for cell in found["cells"].values():
        low, high = cell["eager_iqr"]
        assert low <= cell["eager"] <= high
        assert (cell["compiled"], cell["compiled_why"]) == (None, "not asked for")
    assert found["cells"]["distilled"] == found["cells"]["fast"]
    assert found["conditions"].pop("device")
    assert found["conditions"] == {
        "batch": 4, "dtype": "float32", "image_size": [64, 192], "threads": torch.get_num_threads(),
        "layout": "channels-last", "fused": True, "rounds": 3, "torch": torch.__version__,
    }  # fmt: skip


MISSING = """
import json
from tests.sweep.test_speed import QUICK, measure_speed, summary
steps = []
speed = measure_speed({"tiny": summary()}, device="cpu", progress=lambda *step: steps.append(step), **QUICK)
print(json.dumps([speed["cells"]["tiny"], steps[0]]))
"""


@pytest.mark.slow
def test_without_a_compiler_the_reason_is_recorded_and_the_rest_measured(tmp_path):
    where = {"CXX": "/no/such/compiler", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    child = subprocess.run([sys.executable, "-c", MISSING], env={**os.environ, **where}, capture_output=True, text=True)
    cell, step = json.loads(child.stdout)
    assert (cell["compiled"], cell["compiled_iqr"]) == (None, None)
    assert "compiler" in cell["compiled_why"]
    assert cell["eager"] > 0
    assert step == ["compiling", 1, 1]


@pytest.mark.slow
def test_cells_are_measured_compiled_too():
    cells = {"fast": summary(depth=(1, 1, 1)), "slow": summary(depth=(1, 1, 1), embed_dim=(80, 112, 1600))}
    found = measure_speed(cells, device="cpu", **QUICK)["cells"]
    assert found["fast"]["compiled"] > 2 * found["slow"]["compiled"] > 0
    assert found["fast"]["compiled_why"] is None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_is_measured_by_default():
    found = measure_speed({"tiny": summary()}, rounds=3)
    assert (found["conditions"]["batch"], found["conditions"]["threads"]) == (256, None)
    assert found["conditions"]["device"] == torch.cuda.get_device_name()
    assert found["cells"]["tiny"]["compiled"] > 0
