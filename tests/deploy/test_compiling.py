"""A network is compiled for one shape, or it is said why not."""

import pytest
import torch
from torch import nn

from shvit_pl.deploy.compiling import NotCompiledError, compiled
from shvit_pl.models import create_model
from tests.conftest import perturb_

IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


class Network(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, width, 3), nn.ReLU(), nn.Conv2d(width, 2, 3))

    def forward(self, images):
        return self.layers(images)


def test_every_further_network_of_a_class_is_compiled_too():
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph

    models = [Network(width).eval() for width in range(1, 11)]  # torch.compile alone gives up at the ninth
    networks = [compiled(model, IMAGES, backend=backend) for model in models]
    assert len(graphs) == 10
    with torch.inference_mode():
        for model, network in zip(models, networks, strict=True):
            torch.testing.assert_close(network(IMAGES), model(IMAGES))
    assert len(graphs) == 10  # and only once each
    torch.compiler.reset()


def test_the_compiled_network_gives_the_same_outputs():
    model = perturb_(create_model("tiny", num_classes=3, depth=(1, 1, 1), distilled=True)).eval().fuse()
    with torch.inference_mode():
        torch.testing.assert_close(compiled(model, IMAGES, backend="eager")(IMAGES), model(IMAGES))
    torch.compiler.reset()


def test_a_compiler_that_fails_is_said_in_one_short_line():
    def broken(graph, inputs):
        raise RuntimeError("no such compiler " + "here " * 100 + "\nand much more")

    with pytest.raises(NotCompiledError, match="no such compiler") as caught:
        compiled(Network(1).eval(), IMAGES, backend=broken)
    assert len(str(caught.value)) <= 160
    assert "\n" not in str(caught.value)
    torch.compiler.reset()
