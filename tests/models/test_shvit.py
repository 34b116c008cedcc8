"""The network equals timm's, and is saved, loaded and trained as timm's models are."""

import json

import pytest
import timm
import torch
from timm.models import save_for_hf

from shvit_pl.designs.config import resolve_design
from shvit_pl.designs.design import TIMM_NAMES
from shvit_pl.models import SHViT, create_model
from tests.conftest import perturb_


def tiny(**changes):
    return perturb_(create_model("tiny", num_classes=10, **changes)).eval()


ATTENTION = {"types": ("s", "s", "s"), "partial_dim": (27, 48, 68)}
PAIRS = [*((name, {}, timm_name, {}) for name, timm_name in TIMM_NAMES.items())]
PAIRS.append(("s1", {"stage1": "attention"}, "shvit_s1", ATTENTION))


@pytest.mark.parametrize(("name", "changes", "timm_name", "options"), PAIRS, ids=str)
@torch.no_grad()
def test_weights_travel_both_ways_and_outputs_equal_timms(name, changes, timm_name, options):
    ours = perturb_(create_model(name, **changes)).eval()
    theirs = timm.create_model(timm_name, **options).eval()
    image = torch.randn(2, 3, ours.design.image_size, ours.design.image_size)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    expected = theirs(image)
    assert expected.std() > 0.1
    torch.testing.assert_close(ours(image), expected, rtol=0, atol=1e-5)
    perturb_(theirs, seed=1)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    torch.testing.assert_close(ours(image), theirs(image), rtol=0, atol=1e-5)


def test_a_design_is_a_network_without_timms_builder_and_equal_neighboring_widths_still_downsample():
    model = SHViT(resolve_design("tiny", embed_dim=(64, 64, 64)), num_classes=3)
    image = torch.randn(2, 3, 128, 128)
    assert model(image).shape == (2, 3)
    features = model.forward_intermediates(image, intermediates_only=True)
    assert [f.shape[-1] for f in features] == [8, 4, 2]


def test_drop_path_drops_in_training_alone_and_grows_with_depth():
    model = tiny(drop_path=0.5)
    rates = [getattr(block.ffn.drop_path, "drop_prob", 0.0) for stage in model.stages for block in stage.blocks]
    assert rates == pytest.approx([0.0, 0.125, 0.25, 0.375, 0.5])
    image = torch.randn(2, 3, 128, 128)
    assert torch.equal(model(image), model(image))
    model.train()
    assert not torch.equal(model.forward_features(image), model.forward_features(image))


# ---- two classifiers


def test_a_distilled_design_gives_a_pair_in_training_and_its_mean_in_eval():
    model, image = tiny(distilled=True), torch.randn(4, 3, 128, 128)
    first, second = model.train()(image)
    assert not torch.allclose(first, second)
    model.eval()
    features = model.forward_head(model.forward_features(image), pre_logits=True)
    mean = model(image)
    torch.testing.assert_close(mean, (model.head(features) + model.head_dist(features)) / 2)
    torch.testing.assert_close(model.fuse().merge_heads()(image), mean, rtol=1e-4, atol=1e-5)
    model = tiny(distilled=True).train()
    model.reset_classifier(3)
    assert [logits.shape for logits in model(image)] == [(4, 3), (4, 3)]


@pytest.mark.parametrize(
    ("name", "changes", "architecture"),
    [("tiny", {"stage1": "attention"}, "shvit_pl"), ("s1", {}, "shvit_s1")],
)
@torch.no_grad()
def test_merged_classifiers_give_the_mean_and_timm_rebuilds_any_design_as_saved(name, changes, architecture, tmp_path):
    model = perturb_(create_model(name, num_classes=10, distilled=True, drop_path=0.1, **changes)).eval()
    image = torch.randn(2, 3, 128, 128)
    before = model(image)
    assert before.std() > 0.1
    merged = model.merge_heads()
    torch.testing.assert_close(merged(image), before, rtol=0, atol=1e-6)
    features = torch.randn(8, merged.num_features)
    torch.testing.assert_close(merged.head.bn(features), features, rtol=0, atol=1e-6)
    save_for_hf(merged, tmp_path, safe_serialization=True)
    assert json.loads((tmp_path / "config.json").read_text())["architecture"] == architecture
    rebuilt = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    assert (type(rebuilt) is timm.models.shvit.SHViT) == (name == "s1")
    assert getattr(rebuilt, "design", merged.design) == merged.design
    torch.testing.assert_close(rebuilt(image), before, rtol=0, atol=1e-6)
