"""Teachers from the Hub, by the real client against a Hub on the loopback interface."""

import torch
from timm.models import save_for_hf

from shvit_pl.models import create_model
from shvit_pl.teachers.config import DistillConfig
from shvit_pl.teachers.teacher import identity_of
from tests.conftest import perturb_, refusal
from tests.data.standins import IMAGENETTE
from tests.hub_server.in_process import forget
from tests.teachers.makers import TEN, as_seen_by, opened, shaken, some_images


def files_of(model, folder, **settings):
    """A model's repo as timm writes it."""
    save_for_hf(model, folder, safe_serialization=True, model_config=settings)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@torch.no_grad()
def test_repos_and_timm_names_give_their_networks_also_once_the_hub_is_away(hub, tmp_path):
    resnet, imagenet = shaken("test_resnet"), shaken("test_resnet", classes=1000)
    ours = perturb_(create_model("tiny", num_classes=10, patch_size=8)).eval()
    files = files_of(resnet, tmp_path / "resnet", label_names=TEN[::-1])
    first = hub.commit("user/resnet", files, kind="models")
    hub.commit("user/gated", files, kind="models", gated=True)
    hub.commit("user/ours", files_of(ours, tmp_path / "ours"), kind="models")
    hub.commit("timm/test_resnet.r160_in1k", files_of(imagenet, tmp_path / "timm"), kind="models")
    images, imagenette = some_images(), {"class_names": list(IMAGENETTE)}
    turned = resnet(as_seen_by(resnet, images)).flip(1)
    ten = imagenet(as_seen_by(imagenet, images))[:, [0, 217, 482, 491, 497, 566, 569, 571, 574, 701]]
    teachers = [
        ({"teacher": "user/resnet"}, turned, "10 classes matched by name (they are in another order)"),
        ({"teacher": f"hf-hub:user/resnet@{first}"}, turned, "10 classes"),
        ({"teacher": "user/gated"}, turned, "10 classes"),  # its owner's token is set
        ({"teacher": "user/ours"}, ours(as_seen_by(ours, images)), "by position"),
        ({"teacher": "test_resnet.r160_in1k", **imagenette}, ten, "10 of its 1000 classes matched by name"),
        ({"teacher": "timm/test_resnet.r160_in1k", **imagenette}, ten, "10 of its 1000 classes"),
    ]
    identities = []
    for away in (False, True):
        if away:
            hub.stop()
            forget()
        for config, expected, note in teachers:
            teacher = opened(**config)
            torch.testing.assert_close(teacher.logits(images), expected, rtol=1e-4, atol=1e-4)
            assert note in teacher.note
            identities.append(identity_of(DistillConfig(config["teacher"])))
    assert identities[: len(teachers)] == identities[len(teachers) :]
    assert identities[0]["commit"] == first


def test_other_weights_in_a_repo_are_another_identity(hub, tmp_path):
    answers, identities = [], []
    for seed in (0, 1):
        model = perturb_(create_model("tiny", num_classes=10, patch_size=8), seed)
        hub.commit("user/ours", files_of(model, tmp_path / str(seed)), kind="models")
        answers.append(opened(teacher="user/ours").logits(some_images()))
        identities.append(identity_of(DistillConfig("user/ours")))
    assert identities[0] != identities[1]
    assert not torch.equal(*answers)


def test_what_the_hub_does_not_give_is_one_message_with_the_next_step(hub, tmp_path):
    config = files_of(shaken("test_resnet"), tmp_path / "resnet")["config.json"]
    hub.commit("user/weightless", {"config.json": config}, kind="models")
    hub.commit("user/other", {"config.json": b'{"architectures": ["ViT"]}'}, kind="models")
    for teacher, parts in {  # more in tests/hub/test_pull.py
        "user/missing": ["no such repo of a model on the Hub", "HF_TOKEN"],
        "user/weightless@v9": ["no branch, tag or commit 'v9'"],
        "user/weightless": ["lacks config.json or the weights"],
        "user/other": ["does not say which network of timm"],
        "user/not a name!": ["no such repo of a model on the Hub"],
    }.items():
        with refusal(f"model.distill.teacher {teacher!r}: ", *parts):
            opened(teacher=teacher)
