"""Every way to run a network gives the plain network's logits; a step of training is a whole one, in every mode."""

import pytest
import torch

from shvit_pl.deploy import optimization
from shvit_pl.deploy.benchmark import Cell, TrainStep, deployed, inference_call, official_call
from shvit_pl.deploy.optimization import recipes
from shvit_pl.errors import UserError
from shvit_pl.models import create_model
from shvit_pl.models.open_network import OpenedNetwork, open_network
from tests.hub.runs import lively

IMAGES = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(3))
slow = pytest.mark.slow


def small():
    return lively(create_model("tiny", num_classes=7, depth=(1, 1, 1)), 0).eval()


@pytest.fixture(scope="module")
def opened():
    return OpenedNetwork("tiny", small(), "design", 64)


@torch.inference_mode()
def logits(model):
    return model(IMAGES)


@pytest.mark.parametrize(
    ("runtime", "mode", "dtype", "allowed"),
    [
        ("torch", "official", "fp32", 1e-4),
        ("torch", "eager", "fp32", 1e-4),
        ("torch", "eager", "bf16", 0.1),
        ("onnx", "", "fp32", 1e-3),
        pytest.param("torch", "compiled", "fp32", 1e-4, marks=slow),
        pytest.param("torch", "optimized", "fp32", 1e-3, marks=slow),
    ],
)
def test_a_way_to_run_gives_the_plain_networks_logits_and_leaves_it_as_it_was(
    opened, runtime, mode, dtype, allowed, monkeypatch
):
    monkeypatch.setattr(optimization, "recipes", lambda device: recipes(device)[1:2])  # all: test_optimization.py
    before = {key: tensor.clone() for key, tensor in opened.model.state_dict().items()}
    found = inference_call(Cell("tiny", runtime, mode, dtype, 4, 64), deployed(opened, 64)[0], IMAGES)()
    assert found.dtype == (torch.bfloat16 if dtype == "bf16" else torch.float32)
    expected = logits(opened.model)
    assert (found.float() - expected).abs().max() < allowed * expected.abs().max()
    assert all(torch.equal(tensor, before[key]) for key, tensor in opened.model.state_dict().items())


def test_the_official_network_is_fused_and_traced(opened):
    call = official_call(deployed(opened, 64)[0], IMAGES)
    (network,) = (cell.cell_contents for cell in call.__closure__ if isinstance(cell.cell_contents, torch.nn.Module))
    assert isinstance(network, torch.jit.ScriptModule)
    assert "batch_norm" not in str(network.inlined_graph)


def test_reparameterizing_a_model_of_timm_keeps_its_logits():
    opened = open_network("timm:mobileone_s0")
    lively(opened.model, 0).eval()
    torch.testing.assert_close(logits(deployed(opened, 64)[0]), logits(opened.model), rtol=1e-3, atol=1e-3)


def step(mode, dtype="fp32", images=IMAGES):
    torch.manual_seed(0)  # of the labels
    return TrainStep(Cell("tiny", "torch", mode, dtype, len(images), 64), small(), images)


def weights(model):
    return {key: tensor.detach().clone() for key, tensor in model.named_parameters()}


@pytest.mark.parametrize(
    ("mode", "dtype"),
    [
        *[(mode, dtype) for mode in ("official", "eager") for dtype in ("fp32", "bf16")],
        pytest.param("compiled", "fp32", marks=slow),
        pytest.param("optimized", "bf16", marks=slow),
    ],
)
def test_weights_and_their_average_move_and_the_loss_is_finite(mode, dtype):
    one = step(mode, dtype)
    before, images = weights(one.model), one.images.clone()
    assert torch.isfinite(one())
    moved = [not torch.equal(tensor, before[key]) for key, tensor in weights(one.model).items()]
    assert sum(moved) > 0.9 * len(moved)
    one.ema.decay = 0.5  # 0.99996 of so small a step would be lost in float32
    average = weights(one.ema.module)
    one()
    assert any(not torch.equal(tensor, average[key]) for key, tensor in weights(one.ema.module).items())
    assert all(tensor.grad is None for tensor in one.model.parameters())
    assert torch.equal(one.images, images)  # mixed anew in every step
    torch.compiler.reset()


@pytest.mark.parametrize("mode", ["eager", pytest.param("optimized", marks=slow)])
def test_the_same_step_as_the_official_one(mode):
    steps = [step("official"), step(mode)]
    for one in steps:
        one.mixup.mixup_enabled = False
    torch.testing.assert_close(steps[0](), steps[1](), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(*(weights(one.model) for one in steps), rtol=1e-4, atol=1e-5)
    torch.compiler.reset()


def test_an_odd_batch_is_refused():
    with pytest.raises(UserError, match="pairs"):
        step("eager", images=IMAGES[:3])
