import sys
from dataclasses import dataclass
from types import ModuleType

import pytest


@dataclass(frozen=True)
class PaperRow:
    source: str
    top1: float
    params_m: float | None
    gpu: float | None
    cpu: float | None
    onnx: float | None
    conditions: str


def paper_row(summary):
    """Only S1 as it is has a published counterpart."""
    if summary["design"]["patch_size"] != 16 or summary["design"]["mixers"][0] != "conv":
        return None
    return PaperRow("Table 2: SHViT-S1", 72.8, 6.3, 33489.0, 69.0, 23.0, "ImageNet-1k, 300 epochs, A100, batch 256")


@pytest.fixture(autouse=True)
def _paper(monkeypatch):
    module = ModuleType("shvit_pl.sweep.paper")
    module.PaperRow, module.paper_row = PaperRow, paper_row
    monkeypatch.setitem(sys.modules, "shvit_pl.sweep.paper", module)
