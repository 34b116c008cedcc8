"""The dual head of distillation, and its merging into timm's single head."""

import json

import timm
import torch
from timm.models import save_for_hf

from shvit_pl.models import create_model
from tests.conftest import perturb_


def test_a_distilled_design_gives_a_pair_in_training_and_its_mean_in_eval():
    model = perturb_(create_model("tiny", num_classes=10, distilled=True))
    image = torch.randn(4, 3, 128, 128)
    first, second = model.train()(image)
    assert not torch.allclose(first, second)
    model.eval()
    features = model.forward_head(model.forward_features(image), pre_logits=True)
    expected = (model.head(features) + model.head_dist(features)) / 2
    torch.testing.assert_close(model(image), expected)


@torch.no_grad()
def test_fused_heads_merge_too():
    model = perturb_(create_model("tiny", num_classes=10, distilled=True)).eval()
    image = torch.randn(2, 3, 128, 128)
    before = model(image)
    torch.testing.assert_close(model.fuse().merge_heads()(image), before, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_merged_model_is_saved_as_one_with_a_single_head(tmp_path):
    model = perturb_(create_model("tiny", num_classes=10, distilled=True)).eval()
    image = torch.randn(2, 3, 128, 128)
    before = model(image)
    save_for_hf(model.merge_heads(), tmp_path, safe_serialization=True)
    rebuilt = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    torch.testing.assert_close(rebuilt(image), before, rtol=0, atol=1e-6)


@torch.no_grad()
def test_a_merged_s1_is_saved_as_timms_own_s1(tmp_path):
    model = perturb_(create_model("s1", num_classes=10, distilled=True, drop_path=0.1)).eval()
    image = torch.randn(2, 3, 64, 64)
    before = model(image)
    save_for_hf(model.merge_heads(), tmp_path, safe_serialization=True)
    assert json.loads((tmp_path / "config.json").read_text())["architecture"] == "shvit_s1"
    rebuilt = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    assert type(rebuilt) is timm.models.shvit.SHViT
    torch.testing.assert_close(rebuilt(image), before, rtol=0, atol=1e-6)


@torch.no_grad()
def test_merged_heads_equal_the_mean_within_1e_6_and_load_in_timm():
    model = perturb_(create_model("s1", num_classes=10, distilled=True)).eval()
    image = torch.randn(2, 3, 128, 128)
    before = model(image)
    assert before.std() > 0.1
    merged = model.merge_heads()
    torch.testing.assert_close(merged(image), before, rtol=0, atol=1e-6)
    plain = timm.create_model("shvit_s1", num_classes=10).eval()
    plain.load_state_dict(merged.state_dict(), strict=True)
    torch.testing.assert_close(plain(image), before, rtol=0, atol=1e-6)
    features = torch.randn(8, 320)
    torch.testing.assert_close(merged.head.bn(features), features, rtol=0, atol=1e-6)
