"""Weights from everywhere: whole backbones or nothing, and the official code's numbers."""

import argparse
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from shvit_pl import ClassificationModule, DesignConfig, load_weights
from shvit_pl.models import create_model
from tests.conftest import perturb_

GOLDEN = Path(__file__).parents[1] / "golden"
KEYS = json.loads((GOLDEN / "official_state_dict_keys.json").read_text())
FORWARD = json.loads((GOLDEN / "official_forward.json").read_text())


def official_file(name, path):
    """The weights and input that the golden numbers were made with, stored as the official code stores them."""
    golden = FORWARD[name]
    generator = torch.Generator().manual_seed(golden["seed"])
    state = {}
    for key, shape in KEYS[name].items():
        if key.endswith("num_batches_tracked"):
            state[key] = torch.tensor(0)
            continue
        if key.startswith("head") and ".l." in key:
            shape = [golden["num_classes"], *shape[1:]]
        if "running_var" in key or key.endswith("bn.weight"):
            state[key] = torch.rand(shape, generator=generator) * 0.5 + 0.5
        else:
            state[key] = torch.randn(shape, generator=generator) * 0.05
    torch.save({"model": state, "args": argparse.Namespace(model=name)}, path)
    return torch.randn(2, 3, golden["resolution"], golden["resolution"], generator=generator)


@pytest.mark.parametrize("name", FORWARD)
@torch.no_grad()
def test_an_official_file_gives_the_official_outputs_of_both_heads(name, tmp_path):
    image = official_file(name, tmp_path / "official.pth")
    model = create_model(name.removeprefix("shvit_"), num_classes=10, distilled=True).eval()
    report = load_weights(model, tmp_path / "official.pth")
    assert report.loaded == len(KEYS[name])
    features = model.forward_head(model.forward_features(image), pre_logits=True)
    outputs = {"head": model.head(features), "head_dist": model.head_dist(features), "logits_eval": model(image)}
    for key, output in outputs.items():
        torch.testing.assert_close(output, torch.tensor(FORWARD[name][key]), rtol=0, atol=1e-4)


@torch.no_grad()
def test_two_heads_are_merged_for_a_model_with_one(tmp_path):
    image = official_file("shvit_s1", tmp_path / "official.pth")
    model = create_model("s1", num_classes=10).eval()
    report = load_weights(model, tmp_path / "official.pth")
    assert report.reinitialised == ()
    torch.testing.assert_close(model(image), torch.tensor(FORWARD["shvit_s1"]["logits_eval"]), rtol=0, atol=1e-4)


def test_a_classifier_of_another_size_is_reinitialised_and_said_so(tmp_path):
    source = perturb_(create_model("tiny", num_classes=10))
    save_file(source.state_dict(), tmp_path / "tiny.safetensors")
    model = create_model("tiny", num_classes=3)
    head = model.head.l.weight.clone()
    report = load_weights(model, tmp_path / "tiny.safetensors")
    assert "head (10 classes in the source, 3 here)" in str(report)
    assert torch.equal(model.head.l.weight, head)
    assert torch.equal(model.stages[0].blocks[0].ffn.m.pw1.c.weight, source.stages[0].blocks[0].ffn.m.pw1.c.weight)


@pytest.mark.parametrize(
    "other", [{"name": "s1"}, {"name": "tiny", "stage1": "attention"}, {"name": "tiny", "depth": (1, 2, 3)}]
)
def test_weights_of_another_design_are_refused_and_nothing_is_loaded(other, tmp_path):
    save_file(perturb_(create_model(**other)).state_dict(), tmp_path / "other.safetensors")
    model = create_model("tiny")
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    with pytest.raises(ValueError, match=r"another design.*Nothing was loaded"):
        load_weights(model, tmp_path / "other.safetensors")
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())


def test_a_checkpoint_of_ours_loads(tmp_path):
    module = ClassificationModule(design=DesignConfig("tiny"), class_names=["a", "b"])
    perturb_(module.model)
    torch.save({"state_dict": module.state_dict()}, tmp_path / "ours.ckpt")
    model = create_model("tiny", num_classes=2)
    assert load_weights(model, tmp_path / "ours.ckpt").reinitialised == ()
    assert torch.equal(model.head.l.weight, module.model.head.l.weight)


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "model._orig_mod."])
def test_weights_of_a_compiled_or_wrapped_model_load(prefix, tmp_path):
    source = perturb_(create_model("tiny"))
    torch.save({f"{prefix}{key}": tensor for key, tensor in source.state_dict().items()}, tmp_path / "wrapped.pth")
    model = create_model("tiny")
    assert load_weights(model, tmp_path / "wrapped.pth").reinitialised == ()
    assert torch.equal(model.head.l.weight, source.head.l.weight)


@pytest.mark.parametrize("source", ["nothing.pth", "text.pth", "user/not-there"])
def test_a_source_that_cannot_be_read_is_one_clear_error(source, tmp_path):
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(ValueError, match=source):
        load_weights(create_model("tiny"), source)
