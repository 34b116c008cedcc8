"""Attention layers are found by what they do; their maps, similarities and ablations are those of the formulas."""

import re
import warnings
from contextlib import ExitStack
from functools import partial

import pytest
import timm
import torch
from torch.nn import functional as F

from shvit_pl import head_similarity
from shvit_pl.analysis.attention_layers import (
    AttentionLayer,
    ablations,
    attention_layers,
    recorded_maps,
    sample_similarity,
    unfused,
    without_heads,
    without_prefix,
)
from shvit_pl.models import create_model
from tests.analysis.studies import NETWORKS, OURS, deit, images, ours, state, swin, with_layers
from tests.refusals import refused


def cases(quick, rare):
    """Networks of timm: name, image size, further arguments, and what is expected."""
    return [*quick, *(pytest.param(*network, marks=pytest.mark.full) for network in rare)]


FOUND = cases(  # heads of the layers
    [
        ("cait_xxs24_224", 64, "img_size depth", [4] * 4),  # two of them of class attention
        ("swinv2_tiny_window8_256", 64, "img_size depths", [3, 3, 6, 6]),
        ("pvt_v2_b0", 64, "", [1, 1, 2, 2, 5, 5, 8, 8]),
    ],
    [
        ("deit3_small_patch16_224", 64, "img_size depth", [6, 6]),
        ("vit_relpos_small_patch16_224", 64, "img_size depth", [6, 6]),
        ("vit_small_patch16_18x2_224", 64, "img_size depth", [6] * 4),  # two in parallel in each block
        ("vit_small_patch16_dinov3", 64, "img_size depth", [6, 6]),
        ("beit_base_patch16_224", 64, "img_size depth", [12, 12]),
        ("eva02_tiny_patch14_224", 56, "img_size depth", [3, 3]),
        ("crossvit_tiny_240", 240, "", [3] * 21),
        ("convit_tiny", 224, "depth", [4, 4]),
        ("pit_ti_224", 224, "", [2] * 2 + [4] * 6 + [8] * 4),
        ("swin_tiny_patch4_window7_224", 112, "img_size depths", [3, 3, 6, 6]),
        ("swinv2_cr_tiny_224", 112, "img_size depths", [3, 3, 6, 6]),
        ("twins_pcpvt_small", 224, "", [1] * 3 + [2] * 4 + [5] * 6 + [8] * 3),
        ("gcvit_xxtiny", 224, "", [2] * 2 + [4] * 2 + [8] * 6 + [16] * 2),
        ("maxvit_rmlp_pico_rw_256", 256, "", [1] * 4 + [2] * 4 + [4] * 10 + [8] * 4),
        ("coatnet_nano_rw_224", 224, "", [4] + [8] * 6 + [16] * 2),
        ("nextvit_small", 64, "", [6] + [12] * 2 + [24]),
        ("visformer_tiny", 224, "", [3] * 8),
        ("mobilevit_xxs", 64, "", [4] * 9),
        ("fastvit_sa12", 64, "", [16] * 2),
        ("caformer_s18", 64, "", [10] * 9 + [16] * 3),
    ],
)
LEFT_OUT = cases(  # heads of the layers that are found, and the class of what is not
    [("xcit_nano_12_p16_224", 64, "depth", [4, 4], "XCA (blocks.0.attn)")],
    [
        ("vit_base_patch16_siglip_224", 64, "img_size depth", [12, 12], "AttentionPoolLatent (attn_pool)"),
        ("davit_tiny", 64, "", [3, 6, 12, 12, 12, 24], "ChannelAttention (stages.0.blocks.0.1.attn)"),
    ],
)
REFUSED = cases(
    [
        ("resnet18", 64, "", "no module has num_heads and proj"),
        ("edgenext_xx_small", 64, "", "CrossCovarianceAttn (stages.1.blocks.1.xca)"),  # between channels
    ],
    [
        ("levit_128s", 224, "", "Attention (stages.0.blocks.0.attn), AttentionDownsample"),  # no module has maps
        ("samvit_base_patch16_224", 224, "depth", "Attention (blocks.0.attn)"),  # heads among the samples
        ("nest_tiny", 224, "", "Attention (levels.0.transformer_encoder.0.attn)"),  # interleaved
        ("mvitv2_tiny", 64, "", "MultiScaleAttention (stages.0.blocks.0.attn)"),
        ("coat_tiny", 224, "", "FactorAttnConvRelPosEnc (serial_blocks1.0.factoratt_crpe)"),  # without maps
    ],
)


def timms(name, size, wanted):
    arguments = {"img_size": size, "depth": 2, "depths": (2, 2)}
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=7, **{key: arguments[key] for key in wanted.split()})
    return model.eval(), images(size)


@pytest.mark.parametrize(("name", "size", "wanted", "heads"), FOUND)
def test_a_head_without_its_map_is_a_head_without_its_output(name, size, wanted, heads):
    model, batch = timms(name, size, wanted)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        layers = attention_layers(model, batch)
    assert [layer.heads for layer in layers] == heads
    assert_heads_are_their_maps(model, layers, batch)


def assert_heads_are_their_maps(model, layers, batch):
    """Without the map of its first head, a layer puts out what it does without that head's output."""
    with ExitStack() as stack:
        stack.enter_context(unfused(model.get_submodule(layer.name) for layer in layers))
        intact = outputs(model, layers, batch)
        with ExitStack() as silent:
            for layer in layers:
                silent.enter_context(without_heads(model, layer, [0]))
            without_output = outputs(model, layers, batch)
        for layer in layers:
            stack.callback(model.get_submodule(layer.maps).register_forward_hook(without_first_map).remove)
        without_map = outputs(model, layers, batch)
    for expected, found, whole in zip(without_map, without_output, intact, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
        assert (whole - expected).abs().max() > 0.01 * whole.abs().max()


@torch.no_grad()
def outputs(model, layers, batch):
    """What the layers' modules put out."""
    noted = []
    with ExitStack() as stack:
        for layer in layers:
            module = model.get_submodule(layer.name)
            stack.enter_context(module.register_forward_hook(lambda *call: noted.append(call[-1])))
        model(batch)
    return noted


def without_first_map(module, inputs, maps):
    maps = maps.clone()
    maps[..., 0, :, :] = 0
    return maps


@pytest.mark.parametrize(("name", "size", "wanted", "heads", "unseen"), LEFT_OUT)
def test_layers_that_do_not_show_are_left_out_with_a_warning(name, size, wanted, heads, unseen):
    with pytest.warns(UserWarning, match=re.escape(f"skipped, as their heads are not exposed: {unseen}")):
        layers = attention_layers(*timms(name, size, wanted))
    assert [layer.heads for layer in layers] == heads


@pytest.mark.parametrize(("name", "size", "wanted", "message"), REFUSED)
def test_networks_whose_heads_do_not_show_are_refused_by_class(name, size, wanted, message):
    with refused(message):
        attention_layers(*timms(name, size, wanted))


def test_layers_are_described_by_paths_and_channels():
    _, layers, _ = with_layers(deit)
    assert layers[0] == AttentionLayer("blocks.0.attn", 3, "blocks.0.attn.attn_drop", -1, 64)
    model, layers, _ = with_layers(ours)
    stages = [stage for stage in range(3) for _ in range(model.design.depth[stage])]
    assert [(layer.heads, layer.width, layer.dim) for layer in layers] == [
        (OURS["num_heads"][stage], model.design.attended(stage) // OURS["num_heads"][stage], 1) for stage in stages
    ]


@pytest.mark.parametrize("single_head", ["partial", "full", "bottleneck"])
def test_single_heads_of_all_designs_are_found(single_head):
    model = create_model("tiny", single_head=single_head).eval()
    found = [(layer.heads, layer.width) for layer in attention_layers(model, images(64))]
    assert found == [(1, model.design.attended(stage)) for stage in (1, 1, 2, 2)]


@torch.no_grad()
def all_maps(model, layers, batch):
    """The maps of each layer, by its name."""
    seen = {}
    with recorded_maps(model, layers, lambda layer, maps: seen.update({layer.name: maps})):
        model(batch)
    return seen


@pytest.mark.parametrize("network", NETWORKS)
def test_every_layer_shows_the_softmax_of_each_head(network):
    model, layers, batch = with_layers(network)
    fused = [getattr(module, "fused_attn", None) for module in model.modules()]
    assert any(fused) == (network is deit)
    seen = all_maps(model, layers, batch)
    assert list(seen) == [layer.name for layer in layers]
    for layer in layers:
        maps = seen[layer.name]
        assert maps.shape[1] == layer.heads
        torch.testing.assert_close(maps.sum(-1), torch.ones(maps.shape[:-1]))
        assert maps.std() > 0.001
    if network is swin:  # windows are samples
        assert [tuple(maps.shape) for maps in seen.values()] == [(2 * 4, 3, 49, 49)] * 2 + [(2, 6, 49, 49)] * 2
    assert [getattr(module, "fused_attn", None) for module in model.modules()] == fused
    assert_heads_are_their_maps(model, layers, batch)


@torch.no_grad()
def test_maps_and_outputs_of_a_vit_without_a_head_are_those_of_its_formula():
    model, layers, batch = with_layers(deit)
    attention = model.blocks[0].attn
    maps = all_maps(model, layers, batch)["blocks.0.attn"]
    assert maps.shape == (2, 3, 17, 17)
    noted = []
    note = attention.register_forward_hook(lambda *call: noted.append((call[1][0], call[2])))
    with note, without_heads(model, layers[0], [1]):
        model(batch)
    ((tokens, output),) = noted
    q, k, v = F.linear(tokens, attention.qkv.weight, attention.qkv.bias).split(192, dim=-1)
    expected = attention.proj.bias.expand(2, 17, 192).clone()
    for head in range(3):
        channels = slice(64 * head, 64 * (head + 1))
        own_maps = (q[..., channels] @ k[..., channels].mT / 8).softmax(-1)
        torch.testing.assert_close(maps[:, head], own_maps, rtol=0, atol=1e-6)
        if head != 1:
            expected += own_maps @ v[..., channels] @ attention.proj.weight[:, channels].T
    torch.testing.assert_close(output, expected, rtol=0, atol=1e-5)


@pytest.mark.full
def test_groups_of_windows_are_samples_too():
    model = timm.create_model("twins_svt_small", img_size=224, depths=(1, 1, 1, 1)).eval()
    batch = images(224)
    shapes = [tuple(maps.shape) for maps in all_maps(model, attention_layers(model, batch), batch).values()]
    assert shapes == [(2 * 64, 2, 49, 49), (2 * 16, 4, 49, 49), (2 * 4, 8, 49, 49), (2, 16, 49, 49)]


def test_class_tokens_are_dropped_from_queries_and_keys():
    maps = torch.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    assert torch.equal(without_prefix(maps, 1), maps[:, :, 1:, 1:])
    assert torch.equal(without_prefix(maps, 0), maps)
    assert without_prefix(maps[:, :, :1], 1).shape == (2, 3, 1, 4)  # class attention: the class token alone asks


def softmax_maps(samples=3, heads=4, queries=5, keys=6):
    return torch.randn(samples, heads, queries, keys, generator=torch.Generator().manual_seed(0)).mul(3).softmax(-1)


@pytest.mark.parametrize("vectorize", ["map", "query"])
def test_similarity_is_the_mean_over_samples_of_the_cosines_of_all_pairs(vectorize):
    maps = softmax_maps()
    expected = torch.empty(3, 4)
    for sample in range(3):
        for head in range(4):
            cosines = []
            for other in set(range(4)) - {head}:
                pair = maps[sample, head], maps[sample, other]
                vectors = [each.flatten()[None] for each in pair] if vectorize == "map" else pair
                cosines.append(torch.cosine_similarity(*vectors, dim=1).mean())
            expected[sample, head] = sum(cosines) / 3
    torch.testing.assert_close(sample_similarity(maps, vectorize), expected)
    torch.testing.assert_close(head_similarity(maps, vectorize), expected.mean(0))
    apart = torch.eye(4)[None, :, None].repeat(2, 1, 5, 1)  # head h looks at key h, whichever the query
    assert head_similarity(apart, vectorize).tolist() == [0, 0, 0, 0]
    assert head_similarity(softmax_maps(heads=1), vectorize).isnan().tolist() == [True]  # no other heads


def test_maps_and_choices_that_make_no_sense_are_refused():
    with refused("'rows': allowed are map and query"):
        head_similarity(softmax_maps(), "rows")
    with refused("shape (4, 5, 6): expected"):
        head_similarity(softmax_maps()[0])


@pytest.mark.parametrize("network", NETWORKS)
@torch.no_grad()
def test_ablations_lack_each_head_and_then_all_others(network):
    model, layers, batch = with_layers(network)
    whole, passes = model(batch), []
    assert len(layers) > 2
    for layer, logits in ablations(model, layers, batch, lambda: passes.append(1)):
        assert logits.shape == (2, layer.heads, 2, 7)
        for head in range(layer.heads):
            with without_heads(model, layer, [head]):
                assert torch.equal(logits[0, head], model(batch))
            with without_heads(model, layer, [other for other in range(layer.heads) if other != head]):
                assert torch.equal(logits[1, head], model(batch))
            assert not torch.equal(logits[0, head], whole)
        if layer.heads == 1:  # the only head alone is the whole layer
            assert torch.equal(logits[1, 0], whole)
    assert len(passes) == sum(2 * layer.heads for layer in layers)


@pytest.mark.parametrize("network", NETWORKS)
@torch.no_grad()
def test_the_network_is_left_as_it_was_after_errors_too(network):
    model, layers, batch = with_layers(network)
    before, expected = state(model), model(batch)

    def fail(error, *_):
        raise error

    attention_layers(model, batch)
    with torch.enable_grad():
        for _, logits in ablations(model, layers[:1], batch):
            assert state(model) == before
            assert torch.is_grad_enabled()
            assert not logits.requires_grad
    with pytest.raises(ZeroDivisionError), recorded_maps(model, layers, lambda layer, maps: 1 / 0):
        model(batch)
    for error in (RuntimeError, KeyboardInterrupt):
        last = model.get_submodule(layers[-1].name)
        with last.register_forward_pre_hook(partial(fail, error)), pytest.raises(error):
            list(ablations(model, layers, batch))
    assert state(model) == before
    assert torch.equal(model(batch), expected)
