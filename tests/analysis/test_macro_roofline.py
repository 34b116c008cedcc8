"""Parts are counted and timed where the network computes them, and add up to the whole; no hook stays."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from shvit_pl.analysis import macro_roofline
from shvit_pl.analysis.command import MacroOptions
from shvit_pl.analysis.macro_roofline import bytes_of_places, places, receptive_fields, seconds_of_places, time_shares
from shvit_pl.analysis.study import make_ready, measured_device
from shvit_pl.deploy.timing import counted_bytes
from shvit_pl.designs.config import resolve_design
from shvit_pl.designs.cost import cost_parts
from shvit_pl.models import create_model
from shvit_pl.models.open_network import OpenedNetwork, open_network

DESIGNS = [
    ("s1", {}),
    ("macro_a", {}),
    ("macro_b_attn", {}),
    ("s2", {"single_head": "bottleneck"}),
    ("tiny", {"mixers": ("conv", "single_head", "multi_head")}),
]


def network(name="tiny", device="cpu", **options):
    opened = name if isinstance(name, OpenedNetwork) else open_network(name)
    options = MacroOptions(models=("tiny",), **{"batch_size": 2, "image_size": 64, **options})
    return make_ready(opened, options, measured_device(device), torch.channels_last)


@pytest.mark.parametrize(("name", "changes"), DESIGNS, ids=str)
def test_each_part_costs_what_torch_counts_in_its_modules(name, changes):
    with torch.device("meta"):
        model = create_model(name, num_classes=1000, **changes).eval()
        image = torch.empty(1, 3, 224, 224)
    with FlopCounterMode(display=False) as counter:
        model(image)
    counted = {}
    by_module = counter.get_flop_counts()
    for module, place in places(model).items():
        counted[place] = counted.get(place, 0) + sum(by_module.get(f"SHViT.{module}", {}).values())
    parts = cost_parts(model.design, 1000, 224)
    assert counted == {(part.stage, part.operation): part.cost.macs * 2 for part in parts}
    assert len(counted) == len(parts)


@pytest.mark.parametrize(("name", "changes"), DESIGNS[1:], ids=str)
def test_the_places_move_all_that_the_network_moves(name, changes):
    ready = network(OpenedNetwork(name, create_model(name, num_classes=1000, **changes).eval(), "design", 64))
    moved = bytes_of_places(ready)
    with counted_bytes() as whole:
        ready.model(ready.images)
    assert sum(moved.values()) == whole()
    assert set(moved) == {(part.stage, part.operation) for part in cost_parts(ready.opened.model.design)}
    assert all(moved.values())


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


def test_a_mixer_that_is_no_attention_is_not_counted_as_one(monkeypatch):
    monkeypatch.setitem(macro_roofline.MIXING, "single_head", "pooling")
    model = create_model("tiny")
    assert {operation for _, operation in places(model).values()} >= {"pooling", "depthwise"}
    assert ("stage 3", "attention") not in {*places(model).values(), *receptive_fields(model.design, 10**6)}
    assert receptive_fields(model.design, 10**6)["stage 3", "pooling"] < 10**6


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


def test_all_places_are_timed_their_shares_add_up_and_the_network_is_left_as_it_was():
    tiny = network()
    before = {name: tensor.clone() for name, tensor in tiny.opened.model.state_dict().items()}
    (shares,) = time_shares([tiny], repeats=5)
    expected = {(part.stage, part.operation) for part in cost_parts(tiny.opened.model.design)}
    assert set(shares) == set(places(tiny.model).values()) == expected
    assert sum(share for _, share, _ in shares.values()) == pytest.approx(1)
    assert all(low <= share <= high for low, share, high in shares.values())
    for model in (tiny.model, tiny.opened.model):
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    after = tiny.opened.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_the_time_of_a_place_is_that_of_its_modules(monkeypatch):
    """By a clock that only a module of a place moves: by 2 for a mixer of stage 2, else by 1."""
    tiny, now = network(), [0.0]
    monkeypatch.setattr(macro_roofline, "_now", lambda device: now[0])

    def spend(seconds):
        return lambda *_: now.__setitem__(0, now[0] + seconds)

    expected = {}
    for name, place in places(tiny.model).items():
        seconds = 2.0 if place == ("stage 2", "attention") else 1.0
        expected[place] = expected.get(place, 0) + seconds
        next(tiny.model.get_submodule(name).modules()).register_forward_hook(spend(seconds))
    assert seconds_of_places(tiny) == expected


@pytest.mark.gpu
def test_on_a_gpu_the_events_of_the_parts_fill_the_pass():
    s1 = network("s1", "cuda", batch_size=64, image_size=224, dtype="bf16")
    for _ in range(5):
        s1.call()
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    seconds = seconds_of_places(s1)
    end.record()
    torch.cuda.synchronize()
    assert 0.7 < sum(seconds.values()) / (start.elapsed_time(end) / 1000) <= 1.01
