"""`optimize`: an equal network, for batches of any length, torch's settings unchanged; a recipe that fails says why."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from shvit_pl import optimize
from shvit_pl.command_line import parser
from shvit_pl.compat import limited_recompiles
from shvit_pl.deploy import optimization
from shvit_pl.deploy.optimization import NotCompiledError, Recipe, compiled, recipes
from shvit_pl.deploy.passes import fused
from shvit_pl.models import create_model
from tests.conftest import perturb_
from tests.deploy.test_passes import difference

IMAGES = torch.randn(5, 3, 64, 64, generator=torch.Generator().manual_seed(0))
MIXERS = ("conv", "single_head", "multi_head")
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


@pytest.mark.slow
def test_it_gives_the_same_logits_in_any_batch_and_changes_neither_model_nor_settings(monkeypatch):
    """The other recipes: below, and in benchmark/test_cells.py."""
    monkeypatch.setattr(optimization, "recipes", lambda device: recipes(device)[::3])
    model, before = small(distilled=True, mixers=MIXERS).train(), settings()  # as training leaves it
    network = optimize(model, IMAGES[:3], seconds=SHORT)
    assert settings() == before
    assert model.training
    assert model.head_dist is not None
    assert list(network.rates) == ["ONNX Runtime", "matrix products and sums"]
    assert network.rates[network.recipe] == max(network.rates.values())
    expected = deepcopy(model).eval()(IMAGES)
    for images in (IMAGES[:3], IMAGES[:1], IMAGES, IMAGES.double()):  # as it is, padded, in two parts, of another type
        assert network(images).dtype == images.dtype
        assert difference(network(images), expected[: len(images)]) <= 1e-5
    plain = network(IMAGES)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(network(IMAGES), plain)
    with pytest.raises(ValueError, match=r"optimized for \[3, 3, 64, 64\]"):
        network(IMAGES[..., :32, :])


@pytest.mark.slow
def test_a_model_in_bfloat16_and_an_empty_example_will_do(monkeypatch):
    monkeypatch.setattr(optimization, "recipes", lambda device: recipes(device)[2:3])
    model = small().eval().bfloat16()
    network = optimize(deepcopy(model), torch.zeros_like(IMAGES), seconds=SHORT)
    assert difference(network(IMAGES), model.float()(IMAGES)) <= 1e-5


@pytest.mark.parametrize(
    ("images", "dtype", "message"),
    [
        (IMAGES[0], torch.float32, "expected a batch"),
        (IMAGES[:0], torch.float32, "expected a batch"),
        (IMAGES.byte(), torch.float32, "expected a batch"),
        (IMAGES, torch.float64, "float64: allowed are"),
    ],
    ids=["one image without a batch", "none", "bytes", "float64"],
)
def test_other_images_and_dtypes_are_refused(images, dtype, message):
    with pytest.raises(ValueError, match=message):
        optimize(small(), images, dtype)


class Overflowing(nn.Module):
    def forward(self, images):
        return (images.mean((-2, -1)) + 1) * 1e5


@pytest.mark.parametrize(
    ("model", "dtype", "change"),
    [
        (small(), torch.float32, lambda logits: logits * 1.001),
        (small(), torch.float32, lambda logits: logits.roll(1, -1)),
        (small(), torch.float32, lambda logits: logits / 0),
        (Overflowing(), torch.float16, lambda logits: logits),
    ],
    ids=["other numbers", "swapped classes", "no numbers", "overflow in float16"],
)
def test_a_network_that_is_not_equal_is_not_given(model, dtype, change, monkeypatch):
    monkeypatch.setattr(Recipe, "make", lambda self, plain, images: lambda batch: change(plain(batch)))
    with pytest.raises(NotCompiledError, match="differ"):
        optimize(model, IMAGES, dtype)


def test_a_network_that_differs_on_real_images_alone_is_not_given(monkeypatch):
    def make(self, plain, images):
        return lambda batch: plain(batch) * (1.001 if (batch > 5).any() else 1)

    monkeypatch.setattr(Recipe, "make", make)
    optimize(small(), IMAGES, seconds=0.001, real=IMAGES.clamp(-1, 1))
    with pytest.raises(NotCompiledError, match="differ"):
        optimize(small(), IMAGES, real=IMAGES + 10)
    with pytest.raises(ValueError, match="expected the example's shape"):
        optimize(small(), IMAGES, real=IMAGES[:1])


@pytest.mark.full
@pytest.mark.parametrize(("name", "dtype"), [("s1", torch.bfloat16), ("s4", torch.float32)], ids=str)
def test_the_papers_networks_keep_their_logits(name, dtype):
    model = perturb_(create_model(name)).eval()
    images = torch.randn(2, 3, model.design.image_size, model.design.image_size)
    with torch.inference_mode():
        expected = model(images)
    network = optimize(model, images, dtype, seconds=SHORT)
    assert difference(network(images), expected) <= (1e-5 if dtype == torch.float32 else 1e-2)


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


def convolutions(width):
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.ReLU(), nn.Conv2d(width, 2, 3)).eval()


def test_every_further_network_of_a_class_is_compiled_too():
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph

    images = IMAGES[:2, :, :8, :8]
    models = [convolutions(width) for width in range(1, 5)]
    with limited_recompiles(2):  # torch.compile alone gives up at the third
        networks = [compiled(model, images, backend=backend) for model in models]
        assert len(graphs) == 4
        with torch.inference_mode():
            for model, network in zip(models, networks, strict=True):
                torch.testing.assert_close(network(images), model(images))
    assert len(graphs) == 4  # and only once each
    torch.compiler.reset()


def test_a_failing_compiler_is_reported_in_one_short_line():
    def broken(graph, inputs):
        raise RuntimeError("no such compiler " + "here " * 100 + "\nand much more")

    with pytest.raises(NotCompiledError, match="no such compiler") as caught:
        compiled(convolutions(1), IMAGES, backend=broken)
    assert len(str(caught.value)) <= 160
    assert "\n" not in str(caught.value)
    torch.compiler.reset()


def test_onnx_runtime_needs_float32_and_its_extra(monkeypatch):
    model, onnx = fused(small()), next(recipe for recipe in recipes(torch.device("cpu")) if recipe.onnx)
    with pytest.raises(NotCompiledError, match=r"not in torch\.bfloat16"):
        onnx.make(model, IMAGES.bfloat16())
    monkeypatch.setattr(parser, "find_spec", lambda name: None)
    with pytest.raises(NotCompiledError, match=r"pip install 'shvit-pl\[onnx\]'"):
        onnx.make(model, IMAGES)
