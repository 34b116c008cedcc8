"""Adaptive clipping of many parameters at once is timm's, and the official code's."""

import json
from pathlib import Path

import pytest
import torch
from timm.utils import adaptive_clip_grad

from shvit_pl.models import create_model
from shvit_pl.modules.optim import clip_adaptively
from tests.conftest import perturb_

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "agc.json").read_text())


def with_gradients(model, scale, seed=0):
    """Every second unit's gradient is far larger than its weights, and one parameter has none."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator) * scale
        parameter.grad[::2] *= 1e3
    next(model.parameters()).grad = None
    return list(perturb_(model).parameters())


def test_it_is_the_official_codes():
    parameters = [torch.nn.Parameter(torch.tensor(values)) for values in GOLDEN["params"]]
    for parameter, gradient in zip(parameters, GOLDEN["grads"], strict=True):
        parameter.grad = torch.tensor(gradient)
    clip_adaptively(parameters, GOLDEN["clip_factor"], GOLDEN["eps"])
    for parameter, expected in zip(parameters, GOLDEN["clipped"], strict=True):
        torch.testing.assert_close(parameter.grad, torch.tensor(expected))


@pytest.mark.parametrize("scale", [0.0, 1e-9, 1e-5, 1e-3, 1.0, 1e6])
def test_it_is_timms_bit_for_bit(scale):
    ours, theirs = (with_gradients(create_model("tiny", num_classes=10), scale) for _ in range(2))
    clip_adaptively(ours, 0.02)
    adaptive_clip_grad(theirs, 0.02)
    assert ours[0].grad is None
    for mine, other in zip(ours[1:], theirs[1:], strict=True):
        assert torch.equal(mine.grad, other.grad)


def test_what_is_clipped_and_what_is_not():
    parameters = with_gradients(create_model("tiny", num_classes=10), 1e-6)
    before = [parameter.grad.clone() for parameter in parameters[1:]]
    clip_adaptively(parameters, 0.02)
    changed = [
        (old != new.grad).flatten(1).any(1) for old, new in zip(before, parameters[1:], strict=True) if old.ndim > 1
    ]
    assert 0 < sum(units.sum() for units in changed) < sum(len(units) for units in changed)


def test_nothing_to_clip_is_no_error():
    clip_adaptively([torch.nn.Parameter(torch.ones(3))], 0.02)
    clip_adaptively([], 0.02)
