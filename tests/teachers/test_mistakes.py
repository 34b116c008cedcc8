"""Every mistake about a teacher is one short message with the flag, the value and the next step."""

import json
import shutil

import pytest
import torch
from timm.models import save_for_hf
from torch import nn

from shvit_pl.errors import UserError
from shvit_pl.models.open_network import OpenedNetwork
from shvit_pl.teachers.config import DistillConfig
from shvit_pl.teachers.teacher import probe
from tests.teachers.makers import opened, shaken, stored

TEACHER, WEIGHTS = "model.distill.teacher", "model.distill.weights"


@pytest.fixture(scope="module")
def folder(tmp_path_factory, run):
    """A folder with files of all kinds."""
    root = tmp_path_factory.mktemp("files")
    for name, classes in (("resnet", 10), ("seven", 7), ("none", 0)):
        stored(shaken("test_resnet", classes=classes), root / f"{name}.safetensors")
    stored(shaken("vit_tiny_patch16_224"), root / "fixed.safetensors")
    (root / "text.pth").write_text("no weights")
    (root / "text.ckpt").write_text("no weights")
    torch.save({"epoch": 3}, root / "empty.pth")
    torch.save({"state_dict": shaken("test_resnet").state_dict()}, root / "foreign.ckpt")
    whole = run / "checkpoints" / "best.ckpt"
    (root / "cut.ckpt").write_bytes(whole.read_bytes()[:20_000])
    content = torch.load(whole, weights_only=True)
    content["hyper_parameters"]["ema"]["decay"] = 0
    torch.save(content, root / "plain.ckpt")
    content["hyper_parameters"]["design"]["name"] = "s1"
    torch.save(content, root / "other_design.ckpt")
    (root / "run" / "checkpoints").mkdir(parents=True)
    shutil.copytree(run / "checkpoints", root / "runs" / "version_0" / "checkpoints")
    save_for_hf(shaken("test_resnet", classes=0), root / "backbone", safe_serialization=True)
    save_for_hf(shaken("test_resnet"), root / "weightless", safe_serialization=True)
    (root / "weightless" / "model.safetensors").unlink()
    for name, settings in (("of_others", {"architectures": ["ViT"]}), ("unknown", {"architecture": "resnet5000"})):
        (root / name).mkdir()
        (root / name / "config.json").write_text(json.dumps(settings))
        (root / name / "model.safetensors").touch()
    return root


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"teacher": "regnety_16"}, [f"{TEACHER} 'regnety_16'", "did you mean 'regnety_160'?", "Hub repo"]),
        ({"teacher": "resnet50.deit_in1k"}, ["no such weights of resnet50", "resnet50.a1_in1k"]),
        ({"teacher": "coatnet_0_224"}, ["no pretrained weights", WEIGHTS]),
        ({"teacher": "vit_small_patch14_dinov2.lvd142m"}, ["not a classifier"]),
        ({"teacher": "test_resnet"}, ["Hub cannot be reached", WEIGHTS]),
        ({"teacher": "user/repo"}, [f"{TEACHER} 'user/repo'", "Hub cannot be reached"]),
        ({"teacher": "hf-hub:user/repo"}, ["Hub cannot be reached"]),
        ({"teacher": "./nowhere"}, ["no such file or folder"]),
        ({"teacher": "s1"}, ["a design, without weights", "shvit-pl fit"]),
        ({"teacher": "https://hub/model"}, ["addresses are not fetched"]),
        ({"teacher": "runs"}, ["a folder of runs", "version_0"]),
        ({"teacher": "runs/s1/version_7"}, ["no such file or folder"]),
        ({"teacher": "nowhere.ckpt"}, ["no such file or folder"]),
        ({"teacher": "run"}, ["a folder without weights", "checkpoints/best.ckpt"]),
        ({"teacher": "resnet.safetensors"}, ["doesn't name its network", WEIGHTS]),
        ({"teacher": "text.ckpt"}, ["not a whole checkpoint", "can't be read"]),
        ({"teacher": "cut.ckpt"}, ["not a whole checkpoint", "can't be read"]),
        ({"teacher": "foreign.ckpt"}, ["not a whole checkpoint", "hyper_parameters", WEIGHTS]),
        ({"teacher": "other_design.ckpt"}, ["these weights are of another design"]),
        ({"teacher": "plain.ckpt", "use_ema": True}, ["model.distill.use_ema true", "Leave it out"]),
        ({"teacher": "backbone"}, ["not a classifier"]),
        ({"teacher": "weightless"}, ["a folder without weights", "model.safetensors"]),
        ({"teacher": "of_others"}, ["does not say which network"]),
        ({"teacher": "unknown"}, ["'resnet5000' is not known to timm"]),
        ({"teacher": "backbone", "weights": "resnet.safetensors"}, [WEIGHTS, "belongs to a model of timm"]),
        ({"teacher": "test_resnet", "weights": "gone.pth"}, [f"{WEIGHTS} 'gone.pth'", "no such file"]),
        ({"teacher": "test_resnet", "weights": "run"}, [f"{WEIGHTS} 'run'", "a folder"]),
        ({"teacher": "test_resnet", "weights": "text.pth"}, ["not a readable file of weights"]),
        ({"teacher": "test_resnet", "weights": "empty.pth"}, ["holds no tensors"]),
        ({"teacher": "test_vit", "weights": "resnet.safetensors"}, ["not weights of 'test_vit'"]),
        ({"teacher": "test_resnet", "weights": "none.safetensors"}, ["not weights of 'test_resnet'", "fc.weight"]),
        (
            {"teacher": "test_resnet", "weights": "seven.safetensors"},
            ["7 classes and the data has 10", "class_map"],
        ),
        ({"teacher": "test_resnet", "weights": "resnet.safetensors", "use_ema": True}, ["no averaged weights"]),
        ({"teacher": "vit_tiny_patch16_224", "weights": "fixed.safetensors", "teacher_size": 96}, ["teacher_size 96"]),
        ({"teacher": "RUN", "teacher_size": 8}, ["model.distill.teacher_size 8", "64 pixels"]),
        ({"teacher": "test_resnet", "use_ema": True}, ["model.distill.use_ema true", "Leave it out"]),
        (
            {"teacher": "test_resnet", "class_map": "gone.yaml"},
            ["class_map 'gone.yaml'"],
        ),
    ],
    ids=lambda value: " ".join(map(str, value.values())) if isinstance(value, dict) else "",
)
def test_a_mistake_is_one_message_with_the_next_step(config, said, folder, run, monkeypatch):
    monkeypatch.chdir(folder)
    config = {**config, "teacher": config["teacher"].replace("RUN", str(run))}
    with pytest.raises(UserError) as refusal:
        opened(**config)
    message = str(refusal.value)
    assert all(part in message for part in said), message
    assert message.startswith("model.distill.")
    assert "\n" not in message
    assert len(message) < 600


class Pair(nn.Conv2d):
    def forward(self, images):
        return super().forward(images).mean((2, 3)), images


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (Pair(3, 10, 3), "it answers with 2 tensors instead of one"),
        (nn.Conv2d(3, 10, 3), "its answer to an image is of shape [10, 30, 30]"),
        (nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 1)), "a single output"),
    ],
    ids=["pair", "map", "single output"],
)
def test_a_network_that_is_no_classifier_is_refused(model, said):
    with pytest.raises(UserError, match=r"model\.distill\.teacher 't': not a classifier") as refusal:
        probe(OpenedNetwork("t", model, "timm", 32), DistillConfig("t"))
    assert said in str(refusal.value)


def test_a_network_without_pooled_features_teaches_only_by_its_logits():
    model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4))
    network = OpenedNetwork("t", model, "timm", 32)
    assert probe(network, DistillConfig("t")).features == 0
    with pytest.raises(UserError, match=r"model\.distill\.objective 'feature': .* gives no pooled features"):
        probe(network, DistillConfig("t", objective="feature"))
