"""A sweep's cells are measured in one go, under conditions that are recorded."""

from dataclasses import asdict
from unittest.mock import Mock

import pytest
import torch
from torch import nn

from shvit_pl.deploy import optimization
from shvit_pl.deploy.optimization import NotCompiledError
from shvit_pl.deploy.options import PAPER_BATCH
from shvit_pl.designs.config import resolve_design
from shvit_pl.sweep import speed
from shvit_pl.sweep.speed import measure_speed


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(speed, "ROUNDS", 3)
    monkeypatch.setattr(speed, "SECONDS", 0.02)
    monkeypatch.setitem(PAPER_BATCH, "cpu", 4)


def summary(image_size=64, **changes):
    design = {"name": "tiny", **asdict(resolve_design("tiny", **changes))}
    return {"design": design, "classes": ["a", "b"], "dataset": {"image_size": image_size}, "teacher": None}


def test_cells_are_in_the_right_order_and_those_of_one_network_share_a_measurement(monkeypatch):
    stubs = nn.Identity(), nn.Identity(), NotCompiledError("there is no compiler")
    monkeypatch.setattr(optimization, "compiled", Mock(side_effect=stubs))
    steps = []
    cells = {
        "fast": summary(),
        "slow": summary(embed_dim=(80, 112, 800), depth=(1, 2, 16)),
        "distilled": summary(distilled=True, drop_path=0.1),
        "large": summary(image_size=192),
    }
    found = measure_speed(cells, device="cpu", progress=lambda *step: steps.append(step))
    assert steps[:3] == [("compiling", done, 3) for done in (1, 2, 3)]
    rates = {name: cell["eager"] for name, cell in found["cells"].items()}
    assert rates["fast"] > 2 * rates["slow"] > 0
    assert rates["fast"] > rates["large"] > 0
    for cell in found["cells"].values():
        low, high = cell["eager_iqr"]
        assert low <= cell["eager"] <= high
    assert found["cells"]["distilled"] == found["cells"]["fast"]
    for name in ("fast", "slow"):
        assert found["cells"][name]["compiled"] > rates[name]
        assert found["cells"][name]["compiled_why"] is None
    missing = {"compiled": None, "compiled_iqr": None, "compiled_why": "there is no compiler"}
    assert missing.items() <= found["cells"]["large"].items()
    assert found["conditions"].pop("device")
    assert found["conditions"] == {
        "batch": 4, "dtype": "float32", "image_size": [64, 192], "threads": torch.get_num_threads(),
        "layout": "channels-last", "fused": True, "rounds": 3, "torch": torch.__version__,
    }  # fmt: skip


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_is_measured_by_default():
    found = measure_speed({"tiny": summary()})
    assert (found["conditions"]["batch"], found["conditions"]["threads"]) == (256, None)
    assert found["conditions"]["device"] == torch.cuda.get_device_name()
    assert found["cells"]["tiny"]["compiled"] > 0
