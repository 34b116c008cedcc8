"""Attention layers are found by what they do, whichever class they are of."""

import re
import warnings
from contextlib import ExitStack

import pytest
import timm
import torch

from shvit_pl.analysis.heads.attention.ablation import without_heads
from shvit_pl.analysis.heads.attention.layers import AttentionLayer, attention_layers
from shvit_pl.analysis.unfused import unfused
from shvit_pl.errors import UserError
from shvit_pl.models import create_model
from tests.analysis.heads.networks import NETWORKS, OURS, images, ours, state

SEEN = {  # name in timm, image size, further arguments: heads of the layers
    ("deit_tiny_patch16_224", 64, "img_size depth"): [3, 3],
    ("deit3_small_patch16_224", 64, "img_size depth"): [6, 6],
    ("vit_relpos_small_patch16_224", 64, "img_size depth"): [6, 6],
    ("vit_small_patch16_18x2_224", 64, "img_size depth"): [6] * 4,  # two in parallel in each block
    ("vit_small_patch16_dinov3", 64, "img_size depth"): [6, 6],
    ("beit_base_patch16_224", 64, "img_size depth"): [12, 12],
    ("eva02_tiny_patch14_224", 56, "img_size depth"): [3, 3],
    ("cait_xxs24_224", 64, "img_size depth"): [4] * 4,  # two of them of class attention
    ("crossvit_tiny_240", 240, ""): [3] * 21,
    ("convit_tiny", 224, "depth"): [4, 4],
    ("pit_ti_224", 224, ""): [2] * 2 + [4] * 6 + [8] * 4,
    ("pvt_v2_b0", 64, ""): [1, 1, 2, 2, 5, 5, 8, 8],
    ("swin_tiny_patch4_window7_224", 112, "img_size depths"): [3, 3, 6, 6],
    ("swinv2_tiny_window8_256", 128, "img_size depths"): [3, 3, 6, 6],
    ("swinv2_cr_tiny_224", 112, "img_size depths"): [3, 3, 6, 6],
    ("twins_pcpvt_small", 224, ""): [1] * 3 + [2] * 4 + [5] * 6 + [8] * 3,
    ("gcvit_xxtiny", 224, ""): [2] * 2 + [4] * 2 + [8] * 6 + [16] * 2,
    ("maxvit_rmlp_pico_rw_256", 256, ""): [1] * 4 + [2] * 4 + [4] * 10 + [8] * 4,
    ("coatnet_nano_rw_224", 224, ""): [4] + [8] * 6 + [16] * 2,
    ("nextvit_small", 64, ""): [6] + [12] * 2 + [24],
    ("visformer_tiny", 224, ""): [3] * 8,
    ("mobilevit_xxs", 64, ""): [4] * 9,
    ("fastvit_sa12", 64, ""): [16] * 2,
    ("caformer_s18", 64, ""): [10] * 9 + [16] * 3,
}
LEFT_OUT = {  # what is seen of them, and the class of what is not
    ("vit_base_patch16_siglip_224", 64, "img_size depth"): ([12, 12], "AttentionPoolLatent (attn_pool)"),
    ("davit_tiny", 64, ""): ([3, 6, 12, 12, 12, 24], "ChannelAttention (stages.0.blocks.0.1.attn)"),
    ("xcit_nano_12_p16_224", 64, "depth"): ([4, 4], "XCA (blocks.0.attn)"),
}
REFUSED = {
    ("samvit_base_patch16_224", 224, "depth"): "Attention (blocks.0.attn)",  # heads among the samples
    ("nest_tiny", 224, ""): "Attention (levels.0.transformer_encoder.0.attn)",  # interleaved
    ("levit_128s", 224, ""): "Attention (stages.0.blocks.0.attn), AttentionDownsample",  # no module sees the maps
    ("mvitv2_tiny", 64, ""): "MultiScaleAttention (stages.0.blocks.0.attn)",
    ("edgenext_xx_small", 64, ""): "CrossCovarianceAttn (stages.1.blocks.1.xca)",  # between channels
    ("coat_tiny", 224, ""): "FactorAttnConvRelPosEnc (serial_blocks1.0.factoratt_crpe)",  # without maps
}


def timms(name, size, wanted):
    arguments = {"img_size": size, "depth": 2, "depths": (2, 2)}
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=7, **{key: arguments[key] for key in wanted.split()})
    return model.eval(), images(size)


@pytest.mark.parametrize("network", SEEN, ids=lambda network: network[0])
def test_a_head_without_its_map_is_a_head_without_its_output(network):
    model, batch = timms(*network)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        layers = attention_layers(model, batch)
    assert [layer.heads for layer in layers] == SEEN[network]
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
            hook = model.get_submodule(layer.name).register_forward_hook(lambda *call: noted.append(call[-1]))
            stack.callback(hook.remove)
        model(batch)
    return noted


def without_first_map(module, inputs, maps):
    maps = maps.clone()
    maps[..., 0, :, :] = 0
    return maps


@pytest.mark.parametrize("network", LEFT_OUT, ids=lambda network: network[0])
def test_layers_that_do_not_show_are_left_out_with_a_warning(network):
    heads, unseen = LEFT_OUT[network]
    with pytest.warns(UserWarning, match=re.escape(f"left out, as its heads can't be seen: {unseen}")):
        layers = attention_layers(*timms(*network))
    assert [layer.heads for layer in layers] == heads


@pytest.mark.parametrize("network", REFUSED, ids=lambda network: network[0])
def test_networks_whose_heads_do_not_show_are_refused_by_class(network):
    with pytest.raises(UserError, match=re.escape(REFUSED[network])) as error:
        attention_layers(*timms(*network))
    assert len(str(error.value)) < 450


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
