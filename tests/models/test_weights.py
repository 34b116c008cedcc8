"""Weights from everywhere: whole backbones or nothing, and the official code's numbers."""

import argparse
import json
import os
import pickle
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models import save_for_hf

from shvit_pl import load_weights
from shvit_pl.models import create_model
from shvit_pl.models.network_names import find_weights
from shvit_pl.models.weights import NoAverageError, read_tensors
from tests.conftest import perturb_
from tests.refusals import refused

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
def test_an_official_file_gives_the_official_outputs_of_both_heads_and_of_their_merger(name, tmp_path):
    image = official_file(name, tmp_path / "official.pth")
    design, golden = name.removeprefix("shvit_"), {key: FORWARD[name][key] for key in ("head", "head_dist")}
    model = create_model(design, num_classes=10, distilled=True).eval()
    assert load_weights(model, tmp_path / "official.pth").loaded == len(KEYS[name])
    features = model.forward_head(model.forward_features(image), pre_logits=True)
    for key, output in golden.items():
        torch.testing.assert_close(getattr(model, key)(features), torch.tensor(output), rtol=0, atol=1e-4)
    single = create_model(design, num_classes=10).eval()
    assert load_weights(single, tmp_path / "official.pth").reinitialized == ()
    for each in (model, single):
        torch.testing.assert_close(each(image), torch.tensor(FORWARD[name]["logits_eval"]), rtol=0, atol=1e-4)


def test_a_classifier_of_another_size_is_reinitialized_and_reported(tmp_path):
    source = perturb_(create_model("tiny", num_classes=10))
    save_file(source.state_dict(), tmp_path / "tiny.safetensors")
    model = create_model("tiny", num_classes=3)
    head = model.head.l.weight.clone()
    report = load_weights(model, tmp_path / "tiny.safetensors")
    assert "re-initialized head (10 classes in the source, 3 here)" in str(report)
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


class Program:
    """Pickled, it is a call: unpickling would make the folder `made`."""

    def __reduce__(self):
        return os.mkdir, ("made",)


def test_a_source_that_cannot_be_read_is_one_clear_error_and_runs_nothing(tmp_path):
    torch.save({"a": torch.zeros(9)}, "part.ckpt")
    os.truncate("part.ckpt", 300)
    contents = {"empty.pth": b"", "text.pth": b"no weights", "part.safetensors": b"\x20\0\0\0\0\0\0\0{"}
    for name, content in {**contents, "program.pth": pickle.dumps(Program())}.items():
        (tmp_path / name).write_bytes(content)
    for name, content in (("list.pth", [1, 2]), ("number.ckpt", {"state_dict": 3}), ("torch.pth", {"m": Program()})):
        torch.save(content, name)
    reasons = {path.name: "not a readable file of weights" for path in tmp_path.iterdir()}
    reasons |= dict.fromkeys(("timm:deit_tiny_patch16_224", "timm:resnet18.a1_in1k"), "not of a SHViT")
    reasons |= {"s1": "a design has no weights", "timm:nosuch": "no model of this name", "tinny": "no design, model"}
    reasons |= {"timm:shvit_s1": "in the local cache", "timm:shvit_s1.x": "there are shvit_s1.in1k"}
    reasons |= {"nothing.pth": "no such file", ".": "a folder", "": "no such file", "u/name": "in the local cache"}
    for source, reason in reasons.items():
        with refused(repr(source), reason):
            load_weights(create_model("tiny"), source)
    assert not (tmp_path / "made").exists()


NETWORK, AVERAGE = ({"a.weight": torch.full((2,), value)} for value in (1.0, 2.0))


def under(prefix, state):
    return {f"{prefix}{key}": tensor for key, tensor in state.items()}


NESTED = {
    "bare": (NETWORK, False),
    "compiled": (under("_orig_mod.", NETWORK), False),
    "DDP": ({"state_dict": under("module.", NETWORK)}, False),
    "Lightning": ({"state_dict": {**under("model.", NETWORK), "loss.weight": torch.ones(3)}}, False),
    "Lightning, compiled": ({"state_dict": under("model._orig_mod.", NETWORK)}, False),
    "official": ({"model": NETWORK, "model_ema": AVERAGE, "epoch": 3}, True),
    "timm": ({"state_dict": NETWORK, "state_dict_ema": AVERAGE}, True),
    "ours": ({"state_dict": {**under("model.", NETWORK), **under("ema.module.", AVERAGE)}}, True),
}


@pytest.mark.parametrize(("content", "has_average"), NESTED.values(), ids=NESTED)
def test_tensors_are_found_in_whatever_they_are_nested_and_their_average_when_asked_for(content, has_average, tmp_path):
    torch.save(content, tmp_path / "w.pth")
    for averaged, state in ((False, NETWORK), (None, AVERAGE if has_average else NETWORK)):
        assert torch.equal(read_tensors("w", tmp_path / "w.pth", averaged)["a.weight"], state["a.weight"])
    if has_average:
        assert torch.equal(read_tensors("w", tmp_path / "w.pth", averaged=True)["a.weight"], AVERAGE["a.weight"])
        return
    with pytest.raises(NoAverageError, match="no averaged weights"):
        read_tensors("w", tmp_path / "w.pth", averaged=True)


@pytest.mark.parametrize("name", ["user/odd@exp/v2", "hf-hub:user/odd@exp/v2"])
def test_a_branch_of_a_repo_may_have_slashes(name):
    assert (find_weights(name).kind, find_weights(name).place) == ("hub", "user/odd@exp/v2")


def test_weights_bring_the_settings_of_their_images_and_the_names_of_their_classes(tmp_path):
    names = [f"class {number}" for number in range(10)]
    cfg = {"input_size": (3, 96, 96), "crop_pct": 0.9, "crop_mode": "center", "mean": (0.5, 0.5, 0.5)}
    pushed = create_model("tiny", num_classes=10)
    save_for_hf(pushed, str(tmp_path), safe_serialization=True, data_config=cfg, model_config={"label_names": names})
    for classes, labels in ((10, names), (5, None)):
        model = create_model("tiny", num_classes=classes)
        load_weights(model, tmp_path)
        assert timm.data.resolve_model_data_config(model).items() >= cfg.items()
        assert model.pretrained_cfg.get("label_names") == labels
        assert model.pretrained_cfg["num_classes"] == (10 if labels else 1000)
    again = create_model("tiny", num_classes=10)
    load_weights(again, tmp_path)
    again.reset_classifier(7)  # as timm's: other classes, of the same images
    assert "label_names" not in again.pretrained_cfg
    assert again.pretrained_cfg["num_classes"] == 7
    assert again.pretrained_cfg["input_size"] == (3, 96, 96)
