"""The network equals timm's, and behaves the same however it is called."""

import pytest
import timm
import torch
from timm.models import save_for_hf

from shvit_pl.designs.design import Design
from shvit_pl.designs.named import TIMM_NAMES
from shvit_pl.models import SHViT, create_model
from tests.conftest import perturb_

CUBE = [
    {"patch_size": patch_size, "stages": stages, "stage1": stage1}
    for patch_size in (4, 16)
    for stages in (3, 4)
    for stage1 in ("conv", "attention")
]
MICRO = [
    {"single_head": "full"},
    {"single_head": "bottleneck"},
    {"mixers": ("multi_head",) * 3, "num_heads": (2, 4, 8)},
    {"mixers": ("conv", "multi_head", "single_head"), "local_conv": False},
    {"patch_size": 8, "qk_dim": 8, "partial_ratio": 0.5},
]
ALL = [{"name": "s1"}, {}, *CUBE, *MICRO]


def tiny(name="tiny", **changes):
    return perturb_(create_model(name, num_classes=10, **changes)).eval()


@pytest.mark.parametrize(("name", "timm_name"), TIMM_NAMES.items())
@torch.no_grad()
def test_weights_travel_both_ways_and_outputs_equal_timms(name, timm_name):
    ours, theirs = perturb_(create_model(name)).eval(), timm.create_model(timm_name).eval()
    image = torch.randn(2, 3, ours.design.image_size, ours.design.image_size)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    expected = theirs(image)
    assert expected.std() > 0.1
    torch.testing.assert_close(ours(image), expected, rtol=0, atol=1e-5)
    perturb_(theirs, seed=1)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    torch.testing.assert_close(ours(image), theirs(image), rtol=0, atol=1e-5)


@torch.no_grad()
def test_attention_in_stage_1_equals_timms():
    ours = perturb_(create_model("s1", stage1="attention", num_classes=10)).eval()
    theirs = timm.create_model("shvit_s1", num_classes=10, types=("s", "s", "s"), partial_dim=(27, 48, 68)).eval()
    theirs.load_state_dict(ours.state_dict(), strict=True)
    image = torch.randn(1, 3, 128, 128)
    torch.testing.assert_close(ours(image), theirs(image), rtol=0, atol=1e-5)


@pytest.mark.parametrize("changes", ALL, ids=str)
def test_every_output_depends_on_every_weight(changes):
    model = tiny(**changes).train()
    model(torch.randn(4, 3, 128, 128)).square().sum().backward()
    without = [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.abs().sum()]
    assert without == []


@pytest.mark.parametrize("changes", ALL, ids=str)
@torch.no_grad()
def test_forward_runs_at_all_sizes_that_the_strides_allow(changes):
    model = tiny(**changes)
    for side in (64, 96, 128, 192, 224, 256, 384):
        image = torch.randn(1, 3, side, side)
        if side < model.design.strides[-1]:
            with pytest.raises(ValueError, match=f"image_size {side}"):
                model(image)
            continue
        features = model.forward_intermediates(image, intermediates_only=True)
        assert [f.shape[-1] for f in features] == list(model.design.grids(side))
        assert model(image).shape == (1, 10)


@pytest.mark.parametrize("changes", ALL, ids=str)
@torch.no_grad()
def test_fusing_keeps_outputs(changes):
    model, image = tiny(**changes), torch.randn(2, 3, 128, 128)
    before = model(image)
    parameters = sum(p.numel() for p in model.parameters())
    torch.testing.assert_close(model.fuse()(image), before, rtol=1e-4, atol=1e-5)
    assert sum(p.numel() for p in model.parameters()) < parameters


@pytest.mark.parametrize("changes", ALL, ids=str)
@torch.no_grad()
def test_compiles_without_a_graph_break(changes):
    torch.compiler.reset()
    model, image = tiny(**changes), torch.randn(2, 3, 128, 128)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(image), model(image))


@pytest.mark.parametrize("changes", [{"name": "s1"}, CUBE[3], {"distilled": True}], ids=str)
@torch.no_grad()
def test_exports_with_dynamic_batch_and_size(changes):
    model, auto = tiny(**changes), torch.export.Dim.AUTO
    exported = torch.export.export(model, (torch.randn(2, 3, 128, 128),), dynamic_shapes=({0: auto, 2: auto, 3: auto},))
    image = torch.randn(3, 3, 192, 160)
    torch.testing.assert_close(exported.module()(image), model(image), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("changes", [{}, CUBE[2], CUBE[6]], ids=str)
def test_timms_features_only_gives_every_stage_at_its_stride(changes):
    extractor = create_model("tiny", features_only=True, **changes).eval()
    design = create_model("tiny", **changes).design
    features = extractor(torch.randn(1, 3, 128, 128))
    assert extractor.feature_info.reduction() == list(design.strides)
    assert [f.shape[1] for f in features] == list(design.embed_dim)
    assert [128 // f.shape[-1] for f in features] == list(design.strides)


def test_equal_neighbouring_widths_still_downsample():
    model = create_model("tiny", embed_dim=(64, 64, 64))
    features = model.forward_intermediates(torch.randn(1, 3, 128, 128), intermediates_only=True)
    assert [f.shape[-1] for f in features] == [8, 4, 2]


def test_timm_rebuilds_every_design_from_what_it_saves(tmp_path):
    model = tiny(**CUBE[3])
    save_for_hf(model, tmp_path, safe_serialization=True)
    rebuilt = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    image = torch.randn(1, 3, 128, 128)
    assert rebuilt.design == model.design
    torch.testing.assert_close(rebuilt(image), model(image))


def test_timms_entry_point_takes_a_name_with_changes():
    model = timm.create_model("shvit_pl", name="tiny", patch_size=4, num_classes=7)
    assert (model.design.patch_size, model.num_classes) == (4, 7)


def test_timms_layer_groups_and_checkpointing_work():
    model = tiny().train()
    assert model.group_matcher()["blocks"]
    image = torch.randn(2, 3, 128, 128)
    model.set_grad_checkpointing()
    model(image).sum().backward()
    assert model.stages[1].blocks[0].ffn.m.pw1.c.weight.grad.abs().sum() > 0


def test_drop_path_drops_in_training_alone_and_grows_with_depth():
    model = tiny(drop_path=0.5)
    rates = [getattr(block.ffn.drop_path, "drop_prob", 0.0) for stage in model.stages for block in stage.blocks]
    assert rates == pytest.approx([0.0, 0.125, 0.25, 0.375, 0.5])
    image = torch.randn(2, 3, 128, 128)
    assert torch.equal(model(image), model(image))
    model.train()
    assert not torch.equal(model.forward_features(image), model.forward_features(image))


def test_reset_classifier_changes_classes_of_all_heads():
    model = create_model("tiny", num_classes=10, distilled=True)
    model.reset_classifier(3)
    first, second = model.train()(torch.randn(2, 3, 128, 128))
    assert first.shape == second.shape == (2, 3)


def test_the_class_takes_a_resolved_design():
    model = SHViT(Design(embed_dim=(64, 96), depth=(1, 1), mixers=("conv", "single_head")), num_classes=3)
    assert model(torch.randn(2, 3, 64, 64)).shape == (2, 3)
