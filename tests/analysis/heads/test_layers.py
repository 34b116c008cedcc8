"""Attention layers are found by what they do, whichever class they are of."""

import warnings

import pytest
import timm
import torch

from shvit_pl.analysis.heads.layers import AttentionLayer, attention_layers
from shvit_pl.errors import UserError
from shvit_pl.models import create_model
from tests.analysis.heads.networks import NETWORKS, OURS, images, ours, state

SEEN = {  # timm's name, image size, further arguments: heads of every layer, channels per head
    ("deit_tiny_patch16_224", 64): ([3] * 12, 64),
}


def heads(name, size, **kwargs):
    model = timm.create_model(name, **kwargs).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        layers = attention_layers(model, images(size))
    return [layer.heads for layer in layers]


def test_a_vits_layer_is_described_by_paths_and_channels():
    model = timm.create_model("deit_tiny_patch16_224", img_size=64, depth=2)
    first, second = attention_layers(model, images(64))
    assert first == AttentionLayer("blocks.0.attn", 3, "blocks.0.attn.attn_drop", "blocks.0.attn.proj", -1, 64)
    assert second.name == "blocks.1.attn"


def test_our_mixers_are_found_with_one_head_and_with_many():
    model, batch = ours()
    found = [(layer.heads, layer.width, layer.dim) for layer in attention_layers(model, batch)]
    design = model.design
    attended = [design.attended(stage) for stage in range(3)]
    stages = [stage for stage in range(3) for _ in range(design.depth[stage])]
    assert found == [(OURS["num_heads"][stage], attended[stage] // OURS["num_heads"][stage], 1) for stage in stages]


@pytest.mark.parametrize("single_head", ["partial", "full", "bottleneck"])
def test_single_heads_of_all_designs_are_found(single_head):
    model = create_model("tiny", single_head=single_head)
    layers = attention_layers(model, images(128))
    assert [(layer.heads, layer.width) for layer in layers] == [
        (1, model.design.attended(stage)) for stage in (1, 1, 2, 2)
    ]


@pytest.mark.parametrize("network", NETWORKS)
@torch.no_grad()
def test_the_network_is_left_as_it_was(network):
    model, batch = network()
    model.train()
    before = state(model)
    attention_layers(model, batch)
    assert state(model) == before


def test_networks_without_attention_are_refused():
    with pytest.raises(UserError, match="no module has num_heads and proj"):
        attention_layers(timm.create_model("resnet18"), images(64))
