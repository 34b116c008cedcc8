"""Ways to run a network: one that can't be gone says why, in one line."""

import pytest
import torch

from shvit_pl.command_line import checks
from shvit_pl.deploy.compiling import NotCompiledError
from shvit_pl.deploy.fusing import fused
from shvit_pl.deploy.recipes import recipes
from tests.deploy.test_optimization import IMAGES, small
from tests.deploy.test_passes import difference

ONNX = next(recipe for recipe in recipes(torch.device("cpu")) if recipe.onnx)


def test_onnx_runtime_gives_the_same_logits():
    model = small().eval()
    network = ONNX.make(fused(model), IMAGES)
    assert difference(network(IMAGES), model(IMAGES)) <= 1e-5


def test_onnx_runtime_is_for_float32():
    with pytest.raises(NotCompiledError, match=r"not in torch\.bfloat16"):
        ONNX.make(fused(small()), IMAGES.bfloat16())


def test_what_onnx_runtime_needs_is_named(monkeypatch):
    monkeypatch.setattr(checks, "find_spec", lambda name: None)
    with pytest.raises(NotCompiledError, match=r"pip install 'shvit-pl\[onnx\]'"):
        ONNX.make(fused(small()), IMAGES)
