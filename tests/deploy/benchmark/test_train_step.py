"""A step of training is a whole one, in every mode."""

import pytest
import torch

from shvit_pl.deploy.benchmark.cells import Cell, TrainStep
from shvit_pl.errors import UserError
from shvit_pl.models import create_model
from tests.hub.runs import lively

IMAGES = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(3))


def step(mode="eager", dtype="fp32", images=IMAGES):
    model = lively(create_model("tiny", num_classes=7, depth=(1, 1, 1)), 0)
    return TrainStep(Cell("tiny", "torch", mode, dtype, len(images), 64), model, images)


COMPILED = [pytest.param(mode, marks=pytest.mark.slow) for mode in ("compiled", "optimized")]


@pytest.mark.parametrize("mode", ["official", "eager", *COMPILED])
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_weights_and_their_average_move_and_the_loss_is_finite(mode, dtype):
    torch.manual_seed(0)
    one = step(mode, dtype)
    before = {key: tensor.clone() for key, tensor in one.model.named_parameters()}
    assert torch.isfinite(one())
    moved = [not torch.equal(tensor, before[key]) for key, tensor in one.model.named_parameters()]
    assert sum(moved) > 0.9 * len(moved)
    one.ema.decay = 0.5  # 0.99996 of so small a step would be lost in float32
    average = {key: tensor.clone() for key, tensor in one.ema.module.named_parameters()}
    one()
    assert any(not torch.equal(tensor, average[key]) for key, tensor in one.ema.module.named_parameters())
    assert all(tensor.grad is None for tensor in one.model.parameters())
    torch.compiler.reset()


def test_images_are_mixed_anew_in_every_step():
    one = step()
    kept = one.images.clone()
    one()
    assert torch.equal(one.images, kept)


@pytest.mark.parametrize("mode", ["eager", pytest.param("optimized", marks=pytest.mark.slow)])
def test_the_same_step_as_the_official_one(mode):
    found = []
    for each in ("official", mode):
        torch.manual_seed(0)  # of the labels
        one = step(each)
        one.mixup.mixup_enabled = False
        found.append((one(), {key: tensor.detach().clone() for key, tensor in one.model.named_parameters()}))
    (first, weights), (second, others) = found
    torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-4)
    for key, tensor in weights.items():
        torch.testing.assert_close(tensor, others[key], rtol=1e-4, atol=1e-5)
    torch.compiler.reset()


def test_an_odd_batch_is_refused():
    with pytest.raises(UserError, match="pairs"):
        step(images=IMAGES[:3])
