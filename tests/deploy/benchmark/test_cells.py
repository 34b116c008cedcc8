"""Every way to run a network gives the plain network's logits."""

import pytest
import torch

from shvit_pl.deploy.benchmark.cells import Cell, deployed, inference_call, official_call
from shvit_pl.models import create_model
from shvit_pl.models.open_network import OpenedNetwork, open_network
from tests.hub.runs import lively

IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(3))
SLOW = pytest.mark.slow


@pytest.fixture(scope="module")
def opened():
    model = lively(create_model("tiny", num_classes=7, depth=(1, 1, 1)), 0).eval()
    return OpenedNetwork("tiny", model, "design", 64)


def logits(model):
    with torch.inference_mode():
        return model(IMAGES)


def answers(opened, mode, dtype="fp32", runtime="torch"):
    cell = Cell("tiny", runtime, mode, dtype, 2, 64)
    return inference_call(cell, deployed(opened, 64).model, IMAGES)()


@pytest.mark.parametrize("mode", ["official", "eager", pytest.param("compiled", marks=SLOW)])
def test_a_mode_gives_the_plain_networks_logits(opened, mode):
    torch.testing.assert_close(answers(opened, mode), logits(opened.model), rtol=1e-4, atol=1e-4)


@SLOW
def test_the_optimized_network_gives_the_plain_ones_logits(opened):
    torch.testing.assert_close(answers(opened, "optimized").float(), logits(opened.model), rtol=1e-3, atol=1e-3)


def test_onnx_gives_the_plain_networks_logits(opened):
    torch.testing.assert_close(answers(opened, "", runtime="onnx"), logits(opened.model), rtol=1e-3, atol=1e-3)


def test_bf16_is_the_whole_networks_and_close(opened):
    found, expected = answers(opened, "eager", "bf16"), logits(opened.model)
    assert found.dtype == torch.bfloat16
    assert (found.float() - expected).abs().max() < 0.1 * expected.abs().max()


def test_the_network_that_was_opened_stays_as_it_was(opened):
    before = {key: tensor.clone() for key, tensor in opened.model.state_dict().items()}
    answers(opened, "eager", "bf16")
    assert all(torch.equal(tensor, before[key]) for key, tensor in opened.model.state_dict().items())


def test_reparameterizing_a_model_of_timm_keeps_its_logits():
    opened = open_network("timm:mobileone_s0")
    lively(opened.model, 0).eval()
    torch.testing.assert_close(logits(deployed(opened, 64).model), logits(opened.model), rtol=1e-3, atol=1e-3)


def test_the_official_network_is_fused_and_traced(opened):
    call = official_call(deployed(opened, 64).model, IMAGES)
    (network,) = (cell.cell_contents for cell in call.__closure__ if isinstance(cell.cell_contents, torch.nn.Module))
    assert isinstance(network, torch.jit.ScriptModule)
    assert "batch_norm" not in str(network.inlined_graph)
