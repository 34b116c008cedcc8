"""The maps handed over are those that the network weights its values with."""

import pytest
import timm
import torch
from torch.nn import functional as F

from shvit_pl.analysis.heads.attention.layers import attention_layers
from shvit_pl.analysis.heads.attention.maps import seen_maps, without_prefix
from tests.analysis.heads.networks import NETWORKS, OURS, deit, images, ours, perturbed, state, swin, with_layers


@torch.no_grad()
def all_maps(model, layers, batch):
    seen = {}
    with seen_maps(model, layers, lambda layer, maps: seen.update({layer.name: maps})):
        model(batch)
    return seen


@torch.no_grad()
def inputs_of(model, name, batch):
    noted = []
    hook = model.get_submodule(name).register_forward_pre_hook(lambda module, inputs: noted.append(inputs[0]))
    model(batch)
    hook.remove()
    return noted[0]


@pytest.mark.parametrize("network", NETWORKS)
def test_every_layer_gives_the_distribution_of_every_query(network):
    model, layers, batch = with_layers(network)
    seen = all_maps(model, layers, batch)
    assert list(seen) == [layer.name for layer in layers]
    for layer in layers:
        maps = seen[layer.name]
        assert maps.shape[1] == layer.heads
        torch.testing.assert_close(maps.sum(-1), torch.ones(maps.shape[:-1]))
        assert maps.std() > 0.001


@torch.no_grad()
def test_maps_of_a_vit_are_those_of_its_formula():
    model, layers, batch = with_layers(deit)
    attention, tokens = model.blocks[1].attn, inputs_of(model, "blocks.1.attn", batch)
    maps = all_maps(model, layers, batch)["blocks.1.attn"]
    assert maps.shape == (2, 3, 17, 17)
    q, k, _ = F.linear(tokens, attention.qkv.weight, attention.qkv.bias).split(192, dim=-1)
    for head in range(3):
        channels = slice(64 * head, 64 * (head + 1))
        expected = (q[..., channels] @ k[..., channels].mT / 8).softmax(-1)
        torch.testing.assert_close(maps[:, head], expected, rtol=0, atol=1e-6)


@torch.no_grad()
def test_maps_of_our_mixers_are_those_of_their_formula():
    model, layers, batch = with_layers(ours)
    name = layers[1].name
    mixer, features = model.get_submodule(name), inputs_of(model, name, batch)
    maps = all_maps(model, layers, batch)[name]
    q, k, _ = mixer.qkv(mixer.pre_norm(features)).flatten(2).split(mixer.qkv_split, dim=1)
    for head in range(OURS["num_heads"][1]):
        channels = slice(16 * head, 16 * (head + 1))
        expected = (q[:, channels].mT @ k[:, channels] / 4).softmax(-1)
        torch.testing.assert_close(maps[:, head], expected, rtol=0, atol=1e-6)


def test_windows_are_samples():
    model, layers, batch = with_layers(swin)
    shapes = [tuple(maps.shape) for maps in all_maps(model, layers, batch).values()]
    assert shapes == [(2 * 16, 3, 49, 49)] * 2 + [(2 * 4, 6, 49, 49)] * 2


def test_groups_of_windows_are_samples_too():
    model = timm.create_model("twins_svt_small", img_size=224, depths=(1, 1, 1, 1)).eval()
    batch = images(224)
    layers = attention_layers(model, batch)
    shapes = [tuple(maps.shape) for maps in all_maps(model, layers, batch).values()]
    assert shapes == [(2 * 64, 2, 49, 49), (2 * 16, 4, 49, 49), (2 * 4, 8, 49, 49), (2, 16, 49, 49)]


@pytest.mark.parametrize("network", NETWORKS)
@torch.no_grad()
def test_the_network_is_left_as_it_was(network):
    model, layers, batch = with_layers(network)
    before, expected = state(model), model(batch)
    all_maps(model, layers, batch)
    with pytest.raises(ZeroDivisionError), seen_maps(model, layers, lambda layer, maps: 1 / 0):
        model(batch)
    assert state(model) == before
    assert torch.equal(model(batch), expected)


def test_class_tokens_are_dropped_from_queries_and_keys():
    maps = torch.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    assert torch.equal(without_prefix(maps, 1), maps[:, :, 1:, 1:])
    assert torch.equal(without_prefix(maps, 0), maps)
    assert without_prefix(maps[:, :, :1], 1).shape == (2, 3, 1, 4)  # class attention: the class token alone asks


def test_a_layer_of_fused_attention_shows_its_maps():
    model = perturbed(timm.create_model("deit_tiny_patch16_224", img_size=64, depth=1, num_classes=7))
    assert model.blocks[0].attn.fused_attn
    batch = images(64)
    assert len(all_maps(model, attention_layers(model, batch), batch)) == 1
    assert model.blocks[0].attn.fused_attn
