"""Teachers from the Hub, by the real client against a Hub on the loopback interface."""

import json
import subprocess
import sys

import pytest
import torch
from timm.models import save_for_hf

from shvit_pl.models import create_model
from tests.conftest import perturb_
from tests.data.standins import IMAGENETTE
from tests.hub_server import HubServer
from tests.teachers.makers import TEN, as_seen_by, shaken, some_images

_CLIENT = """
import json, sys
from shvit_pl.errors import UserError
from tests.teachers.makers import opened, some_images

answers = []
for config in json.load(sys.stdin):
    try:
        teacher = opened(**config)
        logits = teacher.logits(some_images()).tolist()
        answers.append({"note": teacher.note, "identity": teacher.identity, "logits": logits})
    except UserError as error:
        answers.append({"error": str(error)})
print(json.dumps(answers))
"""


def ask(hub, home, *configs, token=""):
    """What a process that talks to this Hub, with its cache in `home`, makes of these settings."""
    result = subprocess.run(
        [sys.executable, "-c", _CLIENT],
        input=json.dumps(configs),
        env=hub.environment(home, token),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


def files_of(model, folder, **settings):
    """A model's repo as timm writes it."""
    save_for_hf(model, folder, safe_serialization=True, model_config=settings)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def networks():
    ours = perturb_(create_model("tiny", num_classes=10, patch_size=8)).eval()
    return {"resnet": shaken("test_resnet"), "ours": ours, "imagenet": shaken("test_resnet", classes=1000)}


@pytest.fixture(scope="module")
def hub(networks, tmp_path_factory):
    folder = tmp_path_factory.mktemp("repos")
    resnet = files_of(networks["resnet"], folder / "resnet", label_names=TEN[::-1])
    with HubServer() as hub:
        hub.first = hub.commit("user/resnet", resnet, kind="models")
        hub.commit("user/gated", resnet, kind="models", gated=True)
        hub.repo("user/gated").members.add("member")
        hub.commit("user/ours", files_of(networks["ours"], folder / "ours"), kind="models")
        hub.commit("user/empty", {"README.md": b""}, kind="models")
        hub.commit("user/other", {"config.json": b'{"architectures": ["ViT"]}'}, kind="models")
        hub.commit("user/weightless", {"config.json": resnet["config.json"]}, kind="models")
        hub.commit("timm/test_resnet.r160_in1k", files_of(networks["imagenet"], folder / "timm"), kind="models")
        yield hub


def assert_near(logits, expected):
    torch.testing.assert_close(torch.tensor(logits), expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_repos_and_timm_names_give_their_networks_also_once_the_hub_is_away(hub, networks, tmp_path):
    imagenette = list(IMAGENETTE)
    configs = [
        {"teacher": "user/resnet"},
        {"teacher": f"hf-hub:user/resnet@{hub.first}"},
        {"teacher": "user/ours"},
        {"teacher": "test_resnet.r160_in1k", "class_names": imagenette},
        {"teacher": "timm/test_resnet.r160_in1k", "class_names": imagenette},
    ]
    answers = ask(hub, tmp_path, *configs)
    resnet, pinned, ours, named, repo = answers
    images = some_images()
    expected = networks["resnet"](as_seen_by(networks["resnet"], images)).flip(1)
    assert_near(resnet["logits"], expected)
    assert_near(pinned["logits"], expected)
    assert resnet["identity"]["commit"] == hub.first
    assert "10 classes matched by name (they stand in another order)" in resnet["note"]
    assert_near(ours["logits"], networks["ours"](as_seen_by(networks["ours"], images)))
    columns = [0, 217, 482, 491, 497, 566, 569, 571, 574, 701]
    expected = networks["imagenet"](as_seen_by(networks["imagenet"], images))[:, columns]
    assert_near(named["logits"], expected)
    assert_near(repo["logits"], expected)
    assert "10 of its 1000 classes matched by name" in named["note"]

    with HubServer() as elsewhere:
        pass  # an address at which nothing answers
    assert ask(elsewhere, tmp_path, *configs) == answers


def test_a_gated_repo_opens_for_its_members(hub, tmp_path):
    (answer,) = ask(hub, tmp_path, {"teacher": "user/gated"}, token=hub.account("member"))
    assert "error" not in answer


def test_what_the_hub_does_not_give_is_one_message_with_the_next_step(hub, tmp_path):
    said = {
        "user/gated": ["a gated model", "Ask for access at", "HF_TOKEN"],
        "user/missing": ["no such repo of a model on the Hub", "HF_TOKEN"],
        "user/resnet@v9": ["no branch, tag or commit 'v9'"],
        "user/empty": ["no model of timm", "lacks config.json or the weights"],
        "user/other": ["does not say which network of timm"],
        "user/weightless": ["lacks config.json or the weights"],
        "user/not a name!": ["no such repo of a model on the Hub"],
    }
    answers = ask(hub, tmp_path, *({"teacher": teacher} for teacher in said))
    for (teacher, parts), answer in zip(said.items(), answers, strict=True):
        message = answer.get("error", "no error")
        assert message.startswith(f"model.distill.teacher {teacher!r}: "), message
        assert all(part in message for part in parts), message
        assert "\n" not in message


@pytest.mark.slow
def test_other_weights_in_a_repo_are_another_identity(hub, networks, tmp_path):
    (before,) = ask(hub, tmp_path, {"teacher": "user/ours"})
    changed = files_of(perturb_(create_model("tiny", num_classes=10, patch_size=8), seed=1), tmp_path / "changed")
    hub.commit("user/ours", changed, kind="models")
    (after,) = ask(hub, tmp_path, {"teacher": "user/ours"})
    assert after["identity"] != before["identity"]
    assert after["logits"] != before["logits"]
