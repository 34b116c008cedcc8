"""`optimize`: an equal network, for batches of any length, and nothing of torch's settings is changed."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from shvit_pl.deploy import optimize
from shvit_pl.deploy.compiling import NotCompiledError
from shvit_pl.models import create_model
from tests.conftest import perturb_
from tests.deploy.test_passes import difference

IMAGES = torch.randn(5, 3, 64, 64, generator=torch.Generator().manual_seed(0))

SHORT = 0.02  # seconds of a measurement, where speed is not the question


def settings():
    return {
        "inductor": torch._inductor.config.get_config_copy(),
        "dynamo": torch._dynamo.config.get_config_copy(),
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "cudnn": (torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32),
        "precision": torch.get_float32_matmul_precision(),
        "dtype": torch.get_default_dtype(),
        "grad": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
    }


def small(**changes):
    changes = {"name": "tiny", "depth": (1, 1, 1), "embed_dim": (32, 48, 64), "num_classes": 5, **changes}
    return perturb_(create_model(**changes))


@pytest.fixture(scope="module")
def served():
    """A network with two classifiers, as it is left after training, and its optimised form for three images."""
    model, before = small(distilled=True).train(), settings()
    return model, optimize(model, IMAGES[:3], seconds=SHORT), before


@pytest.mark.slow
def test_it_gives_the_same_logits(served):
    model, network, _ = served
    expected = deepcopy(model).eval()(IMAGES)
    assert difference(network(IMAGES[:3]), expected[:3]) <= 1e-5
    assert difference(network(IMAGES[:1]), expected[:1]) <= 1e-5  # filled up
    assert difference(network(IMAGES), expected) <= 1e-5  # in two parts
    assert difference(network(IMAGES.double()), expected) <= 1e-5
    assert network(IMAGES.double()).dtype == torch.float64


@pytest.mark.slow
def test_the_fastest_way_is_kept_and_all_are_told(served):
    _, network, _ = served
    assert len(network.rates) == 4
    assert "ONNX Runtime" in network.rates
    assert network.rates[network.recipe] == max(network.rates.values())


@pytest.mark.slow
def test_model_and_settings_stay_as_they_were(served):
    model, _, before = served
    assert settings() == before
    assert model.training
    assert model.head_dist is not None


@pytest.mark.slow
def test_images_of_another_size_are_refused(served):
    with pytest.raises(ValueError, match=r"optimised for \[3, 3, 64, 64\]"):
        served[1](IMAGES[..., :32, :])


@pytest.mark.slow
def test_autocast_around_it_changes_nothing(served):
    _, network, _ = served
    expected = network(IMAGES)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(network(IMAGES), expected)


@pytest.mark.parametrize(
    "images", [IMAGES[0], IMAGES[:0], IMAGES.byte()], ids=["one image without a batch", "none", "bytes"]
)
def test_what_is_no_batch_of_images_is_refused(images):
    with pytest.raises(ValueError, match="needed is a batch"):
        optimize(small(), images)


def test_other_dtypes_are_refused():
    with pytest.raises(ValueError, match="float64: allowed are"):
        optimize(small(), IMAGES, torch.float64)


@pytest.mark.slow
def test_a_reduced_network_and_an_empty_example_will_do():
    model = small().eval()
    network = optimize(deepcopy(model).bfloat16(), torch.zeros_like(IMAGES), seconds=SHORT)
    assert difference(network(IMAGES), model.bfloat16().float()(IMAGES)) <= 1e-5


class WrongInHalf(nn.Module):
    def forward(self, images):
        return (images.mean((-2, -1)) + 1) * 1e5  # overflows in float16


def test_a_network_that_is_not_equal_is_not_given():
    with pytest.raises(NotCompiledError, match="differ"):
        optimize(WrongInHalf(), IMAGES, torch.float16)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "dtype"), [("s1", torch.bfloat16), ("s4", torch.float32)], ids=str)
def test_the_papers_networks_keep_their_logits(name, dtype):
    model = perturb_(create_model(name)).eval()
    images = torch.randn(2, 3, model.design.image_size, model.design.image_size)
    with torch.inference_mode():
        expected = model(images)
    network = optimize(model, images, dtype, seconds=SHORT)
    assert difference(network(images), expected) <= (1e-5 if dtype == torch.float32 else 1e-2)


@pytest.mark.slow
def test_several_heads_keep_their_logits():
    model = small(mixers=("conv", "multi_head", "multi_head")).eval()
    assert difference(optimize(model, IMAGES, seconds=SHORT)(IMAGES), model(IMAGES)) <= 1e-5


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_on_a_gpu_too(dtype, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    model, images = perturb_(create_model("s1")).eval().cuda(), torch.randn(4, 3, 224, 224, device="cuda")
    network, before = optimize(model, images, dtype), settings()
    with torch.inference_mode():
        first, expected = network(images), model(images)
        network(torch.zeros_like(images))  # a replayed graph writes to the same place
    assert difference(first, expected) <= (1e-5 if dtype == torch.float32 else 1e-2)
    assert settings() == before
