"""Parts are counted where the network computes them, and add up to the whole."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from shvit_pl.analysis.macro.places import places
from shvit_pl.analysis.macro.receptive import receptive_fields
from shvit_pl.analysis.macro.study import bytes_of_places
from shvit_pl.analysis.measuring import Measuring
from shvit_pl.analysis.running import Ready, ready
from shvit_pl.deploy.traffic import bytes_moved
from shvit_pl.designs.config import resolve_design
from shvit_pl.designs.cost import cost, cost_parts
from shvit_pl.models import create_model
from shvit_pl.models.open_network import OpenedNetwork

DESIGNS = [
    ("s1", {}),
    ("macro_a", {}),
    ("macro_b_attn", {}),
    ("s2", {"single_head": "bottleneck"}),
    ("tiny", {"mixers": ("conv", "single_head", "multi_head"), "distilled": True}),
]


@pytest.mark.parametrize(("name", "changes"), DESIGNS, ids=str)
def test_the_parts_add_up_to_the_cost_of_the_design(name, changes):
    design = resolve_design(name, **changes)
    parts = cost_parts(design, 10, 128)
    assert sum(part.cost.macs for part in parts) == cost(design, 10, 128).macs
    assert sum(part.cost.params for part in parts) == cost(design, 10, 128).params
    assert len({(part.stage, part.operation) for part in parts}) == len(parts)


@pytest.mark.parametrize(("name", "changes"), DESIGNS[:4], ids=str)
def test_each_part_costs_what_torch_counts_in_its_modules(name, changes):
    with torch.device("meta"):
        model = create_model(name, num_classes=1000, **changes).eval()
        image = torch.empty(1, 3, 224, 224)
    counter = FlopCounterMode(display=False)
    with counter:
        model(image)
    counted = {}
    by_module = counter.get_flop_counts()
    for module, place in places(model).items():
        flops = sum(by_module.get(f"SHViT.{module}", {}).values())
        counted[place] = counted.get(place, 0) + flops
    design = resolve_design(name, **changes)
    expected = {(part.stage, part.operation): part.cost.macs * 2 for part in cost_parts(design, 1000, 224)}
    assert counted == expected


@pytest.mark.parametrize(("name", "changes"), [*DESIGNS[:4], ("tiny", {})], ids=str)
def test_the_places_move_all_that_the_network_moves(name, changes):
    opened = OpenedNetwork(name, create_model(name, num_classes=1000, **changes).eval(), "design", 64)
    asked = Measuring((name,), "", batch_size=2, image_size=64)
    network = ready(opened, asked, torch.device("cpu"), torch.channels_last)
    moved = bytes_of_places(network)
    assert sum(moved.values()) == bytes_moved(network.model, network.images)
    assert set(moved) == {(part.stage, part.operation) for part in cost_parts(opened.model.design)}
    assert all(moved.values())


def test_more_tokens_move_more_of_attention_than_of_its_ffn():
    model = create_model("macro_a").eval()
    small, large = (traffic_of_stage_3(model, pixels) for pixels in (128, 256))
    assert large["ffn"] / small["ffn"] < 4  # times as many tokens; the weights stay as they are
    assert large["attention"] / small["attention"] > 4  # the scores grow by 16


def traffic_of_stage_3(model, pixels):
    images = torch.zeros(1, 3, pixels, pixels)
    network = Ready(OpenedNetwork("macro_a", model, "design", pixels), model, images)
    return {operation: number for (stage, operation), number in bytes_of_places(network).items() if stage == "stage 3"}


@pytest.mark.parametrize("name", ["macro_a", "tiny"])
def test_receptive_fields_are_those_that_gradients_show(name):
    design = resolve_design(name, mixers=("conv",) * (4 if name == "macro_a" else 3))
    model = create_model(name, mixers=design.mixers, num_classes=0, global_pool="").eval()
    for module in model.modules():
        if hasattr(module, "se"):
            module.se = nn.Identity()
    for parameter in model.parameters():  # such that nothing cancels, and every ReLU lets through
        nn.init.constant_(parameter, 1 / parameter[0].numel() if parameter.ndim > 1 else 1)
    fields = receptive_fields(design, 10**6)
    side = design.strides[-1] * 12
    image = torch.rand(1, 3, side, side, requires_grad=True, dtype=torch.float64)
    features = model.double().patch_embed(image)
    assert seen(features, image) == fields["stem", "stem"]
    for number in range(2):
        features = model.stages[number](features)
        assert seen(features, image) == fields[f"stage {number + 1}", "ffn"]


def seen(features, image):
    """The side of what the middle of a feature map depends on."""
    middle = features.shape[-1] // 2
    (gradient,) = torch.autograd.grad(features[..., middle, middle].sum(), image, retain_graph=True)
    rows = gradient.abs().sum(dim=(0, 1, 3)).nonzero()
    return int(rows.max() - rows.min()) + 1


def test_attention_sees_the_whole_image_and_nothing_sees_more():
    fields = receptive_fields(resolve_design("s1"), 224)
    assert fields["stem", "stem"] == 31
    assert fields["stage 1", "ffn"] < 224
    assert fields["stage 2", "attention"] == fields["head", "head"] == 224
    assert max(receptive_fields(resolve_design("s1"), 64).values()) == 64
