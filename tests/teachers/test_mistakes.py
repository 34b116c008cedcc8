"""Every mistake about a teacher is one short message with the flag, the value and the next step."""

from math import nan

import pytest
from timm.models import save_for_hf
from torch import nn

from shvit_pl.models.open_network import OpenedNetwork
from shvit_pl.teachers.config import DistillConfig
from shvit_pl.teachers.teacher import probe
from tests.refusals import refused
from tests.teachers.makers import opened, shaken, stored

TEACHER, WEIGHTS = "model.distill.teacher", "model.distill.weights"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with weights that can't teach ten classes at every size."""
    root = tmp_path_factory.mktemp("files")
    for name, classes in (("resnet", 10), ("seven", 7)):
        stored(shaken("test_resnet", classes=classes), root / f"{name}.safetensors")
    stored(shaken("vit_tiny_patch16_224"), root / "fixed.safetensors")
    save_for_hf(shaken("test_resnet", classes=0), root / "backbone", safe_serialization=True)
    return root


@pytest.mark.parametrize(
    ("config", "parts"),
    [  # other reasons: tests/models/test_open_network.py
        ({"teacher": "regnety_16"}, [f"{TEACHER} 'regnety_16'", "did you mean 'regnety_160'?", "Hub repo"]),
        (
            {"teacher": "coatnet_0_224"},
            [
                f"{TEACHER} 'coatnet_0_224'",
                "no pretrained weights",
                f"deit_in1k. Or give a file of timm's weights by --{WEIGHTS}.",
            ],
        ),
        ({"teacher": "s1"}, [f"{TEACHER} 's1'", "a design has no weights", "shvit-pl fit"]),
        ({"teacher": "vit_small_patch14_dinov2.lvd142m"}, ["not a classifier"]),
        ({"teacher": "backbone"}, ["not a classifier", "no classes"]),
        ({"teacher": "test_resnet", "use_ema": True}, ["model.distill.use_ema true", "Leave it out"]),
        ({"teacher": "test_resnet", "weights": "gone.pth"}, [f"{WEIGHTS} 'gone.pth'", "no such file"]),
        ({"teacher": "test_resnet", "weights": "seven.safetensors"}, ["7 classes and the data has 10", "class_map"]),
        ({"teacher": "vit_tiny_patch16_224", "weights": "fixed.safetensors", "teacher_size": 96}, ["teacher_size 96"]),
        ({"teacher": "RUN", "teacher_size": 8}, ["model.distill.teacher_size 8", "64 pixels"]),
    ],
    ids=lambda value: " ".join(map(str, value.values())) if isinstance(value, dict) else "",
)
def test_a_mistake_is_one_message_with_the_next_step(config, parts, folder, run, monkeypatch):
    monkeypatch.chdir(folder)
    config = {**config, "teacher": config["teacher"].replace("RUN", str(run))}
    with refused("model.distill.", *parts):
        opened(**config)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alpha": 2.0}, "alpha 2.0: allowed are numbers from 0 to 1"),
        ({"tau": 0.0}, "tau 0.0: allowed are numbers from 0.01 to 1000"),
        ({"tau": nan}, "tau nan: allowed are numbers from 0.01"),
        ({"teacher_size": 0}, "teacher_size 0: allowed are whole numbers from 1 to 4096"),
        ({"top_k": 0}, "top_k 0: allowed are whole numbers from 1"),
        ({"views": 0}, "views 0: allowed are whole numbers from 1 to 1000"),
        ({"teacher": ""}, "teacher '': give a timm model, a checkpoint"),
        ({"cache": ""}, "cache '': allowed is a folder"),
        ({"teacher": None, "alpha": 0.3}, "alpha 0.3: there is no teacher"),
        ({"teacher": None, "cache": "c"}, "cache 'c': there is no teacher"),
        ({"heads": "dual", "objective": "feature"}, "heads dual: the objective feature has a single"),
        ({"cache": "c", "objective": "feature"}, "cache 'c': contains logits"),
    ],
    ids=str,
)
def test_a_setting_that_can_not_be_is_refused(settings, message):
    with refused(f"model.distill.{message}"):
        DistillConfig(**{"teacher": "t", **settings})


class Pair(nn.Conv2d):
    def forward(self, images):
        return super().forward(images).mean((2, 3)), images


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        (Pair(3, 10, 3), "its output is a tuple"),
        (nn.Conv2d(3, 10, 3), "its output for an image is of shape [10, 30, 30]"),
        (nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 1)), "of shape [1], not one logit per"),
    ],
    ids=["pair", "map", "single output"],
)
def test_a_network_that_is_no_classifier_is_refused(model, problem):
    with refused("model.distill.teacher 't': not a classifier", problem):
        probe(OpenedNetwork("t", model, "timm", 32), DistillConfig("t"))


def test_a_network_without_pooled_features_teaches_only_by_its_logits():
    model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4))
    network = OpenedNetwork("t", model, "timm", 32)
    assert probe(network, DistillConfig("t")) == (4, 0)
    with refused("model.distill.objective 'feature': ", "gives no pooled features"):
        probe(network, DistillConfig("t", objective="feature"))
