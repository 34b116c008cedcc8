"""Ablation is what a whole forward pass with zeros before the projection gives, bit by bit."""

import pytest
import torch
from torch.nn import functional as F

from shvit_pl.analysis.heads.attention.ablation import ablations, without_heads
from tests.analysis.heads.networks import NETWORKS, OURS, deit, ours, state, with_layers


@torch.no_grad()
def whole_pass(model, name, heads, silent, batch):
    """Logits with some heads' part of the projection's input at zero, by a hook of its own."""

    def hook(module, inputs):
        changed = inputs[0].clone()
        if changed.ndim == 4:  # ours: the first channels of a feature map
            attended = changed[:, : model.get_submodule(name).split[0]]
            attended.unflatten(1, (heads, -1))[:, silent] = 0
        else:
            changed.unflatten(-1, (heads, -1))[..., silent, :] = 0
        return changed

    handle = model.get_submodule(f"{name}.proj").register_forward_pre_hook(hook)
    logits = model(batch)
    handle.remove()
    return logits


@pytest.mark.parametrize("network", NETWORKS)
@torch.no_grad()
def test_logits_are_those_of_whole_forward_passes(network):
    model, layers, batch = with_layers(network)
    whole = model(batch)
    assert len(layers) > 2
    for layer, logits in ablations(model, layers, batch):
        assert logits.shape == (2, layer.heads, 2, 7)
        for head in range(layer.heads):
            others = [other for other in range(layer.heads) if other != head]
            assert torch.equal(logits[0, head], whole_pass(model, layer.name, layer.heads, [head], batch))
            assert torch.equal(logits[1, head], whole_pass(model, layer.name, layer.heads, others, batch))
            assert not torch.equal(logits[0, head], whole)
        assert len({tuple(each.flatten().tolist()) for each in logits.flatten(0, 1)}) == 2 * layer.heads or (
            layer.heads == 2  # to remove one of two is to leave the other one
        )


@torch.no_grad()
def test_the_only_head_of_a_layer_alone_is_the_whole_layer():
    model, layers, batch = with_layers(ours)
    logits = {layer.name: logits for layer, logits in ablations(model, layers, batch)}
    assert torch.equal(logits[layers[-1].name][1, 0], model(batch))


@torch.no_grad()
def test_a_head_of_a_vit_without_which_its_formula_goes_on():
    model, layers, batch = with_layers(deit)
    attention, noted = model.blocks[0].attn, []
    hook = attention.register_forward_hook(lambda module, inputs, output: noted.append((inputs[0], output)))
    with without_heads(model, layers[0], [1]):
        model(batch)
    hook.remove()
    tokens, output = noted[0]
    q, k, v = F.linear(tokens, attention.qkv.weight, attention.qkv.bias).split(192, dim=-1)
    expected = attention.proj.bias.expand(2, 17, 192).clone()
    for head in (0, 2):
        channels = slice(64 * head, 64 * (head + 1))
        mixed = (q[..., channels] @ k[..., channels].mT / 8).softmax(-1) @ v[..., channels]
        expected += mixed @ attention.proj.weight[:, channels].T
    torch.testing.assert_close(output, expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_head_of_our_mixer_without_which_its_formula_goes_on():
    model, layers, batch = with_layers(ours)
    name, heads = layers[1].name, OURS["num_heads"][1]
    mixer, noted = model.get_submodule(name), []
    hook = mixer.register_forward_hook(lambda module, inputs, output: noted.append((inputs[0], output)))
    with without_heads(model, layers[1], [0, 2]):
        model(batch)
    hook.remove()
    features, output = noted[0]
    q, k, v = mixer.qkv(mixer.pre_norm(features)).flatten(2).split(mixer.qkv_split, dim=1)
    width, outputs = v.shape[1] // heads, []
    for head in range(heads):
        keys, values = slice(16 * head, 16 * (head + 1)), slice(width * head, width * (head + 1))
        maps = (q[:, keys].mT @ k[:, keys] / 4).softmax(-1)
        outputs.append(v[:, values] @ maps.mT * (head in (1, 3)))
    expected = mixer.proj(torch.cat(outputs, dim=1).reshape(features.shape))
    torch.testing.assert_close(output, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("network", NETWORKS)
@torch.no_grad()
def test_the_network_is_left_as_it_was(network):
    model, layers, batch = with_layers(network)
    expected = model(batch)
    model.train()
    model.get_submodule(layers[0].name).eval()  # as some freeze their norms
    before = state(model)
    for _ in ablations(model, layers[:2], batch):
        assert state(model) == before
        assert not torch.is_grad_enabled()
    assert state(model) == before
    assert torch.equal(model.eval()(batch), expected)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@torch.no_grad()
def test_the_network_is_left_as_it_was_after_an_error(error):
    model, layers, batch = with_layers(deit)
    before, expected, calls = state(model), model(batch), []

    def fail(*_):
        calls.append(1)
        if len(calls) == 5:
            raise error

    hook = model.blocks[2].register_forward_pre_hook(fail)
    with pytest.raises(error):
        list(ablations(model, layers, batch))
    hook.remove()
    assert state(model) == before
    assert torch.equal(model(batch), expected)


def test_gradients_stay_on_where_they_were():
    model, layers, batch = with_layers(deit)
    for _, logits in ablations(model, layers[:1], batch):
        assert torch.is_grad_enabled()
        assert not logits.requires_grad


def test_inference_mode_makes_no_difference():
    model, layers, batch = with_layers(deit)
    expected = [logits for _, logits in ablations(model, layers, batch)]
    with torch.inference_mode():
        found = [logits for _, logits in ablations(model, layers, batch + 0)]
    assert all(map(torch.equal, found, expected))


def test_progress_is_told_of_every_pass():
    model, layers, batch = with_layers(deit)
    told = []
    assert len(list(ablations(model, layers, batch, lambda: told.append(1)))) == 3
    assert len(told) == 3 * 2 * 3


def test_layers_may_be_left_out_but_not_in_another_order():
    model, layers, batch = with_layers(deit)
    every = [logits for _, logits in ablations(model, layers, batch)]
    last = [logits for _, logits in ablations(model, layers[2:], batch)]
    assert torch.equal(last[0], every[2])
    with pytest.raises(ValueError, match="does not call Linear again"):
        list(ablations(model, [layers[1], layers[0]], batch))
