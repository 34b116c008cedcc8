"""Teachers from the Hub, by the real client against a Hub on the loopback interface."""

import torch
from timm.models import save_for_hf

from shvit_pl.models import create_model
from shvit_pl.teachers.config import DistillConfig
from shvit_pl.teachers.teacher import identity_of
from tests.conftest import perturb_
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
    first = hub.commit("user/resnet", files_of(resnet, tmp_path / "resnet", label_names=TEN[::-1]), kind="models")
    hub.commit("user/ours", files_of(ours, tmp_path / "ours"), kind="models", gated=True)  # its owner's token is set
    hub.commit("timm/test_resnet.r160_in1k", files_of(imagenet, tmp_path / "timm"), kind="models")
    images = some_images()
    turned = resnet(as_seen_by(resnet, images)).flip(1)
    ten = imagenet(as_seen_by(imagenet, images))[:, [0, 217, 482, 491, 497, 566, 569, 571, 574, 701]]
    teachers = [
        (f"hf-hub:user/resnet@{first}", TEN, turned, "10 classes matched by name (they are in another order)"),
        ("user/ours", TEN, ours(as_seen_by(ours, images)), "by position"),
        ("test_resnet.r160_in1k", list(IMAGENETTE), ten, "10 of its 1000 classes matched by name"),
    ]
    identities = []
    for away in (False, True):
        if away:
            hub.stop()
            forget()
        for name, class_names, expected, note in teachers:
            teacher = opened(teacher=name, class_names=class_names)
            torch.testing.assert_close(teacher.logits(images), expected, rtol=1e-4, atol=1e-4)
            assert note in teacher.note
            identities.append(identity_of(DistillConfig(name)))
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
