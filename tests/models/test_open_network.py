"""`open_network`: a network from a design, a run, a checkpoint, a folder as timm or a push saves it, or timm."""

import json
import shutil

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models import save_for_hf

from shvit_pl.hub.contents import save_weights
from shvit_pl.models import create_model
from shvit_pl.models.open_network import open_network
from shvit_pl.runs.folder import FinishedRun
from tests.conftest import perturb_
from tests.hub.runs import edit, network
from tests.refusals import refused

IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
TEN = [f"thing {number}" for number in range(10)]


def logits(model):
    with torch.inference_mode():
        return model(IMAGES)


def assert_same(model, other):
    torch.testing.assert_close(logits(model), logits(other), rtol=1e-4, atol=1e-5)


def test_a_run_or_its_checkpoint_gives_the_weights_asked_for_those_it_monitored_or_its_last(run, tmp_path):
    best = run / "checkpoints" / "best.ckpt"
    plain, average = network(best), network(best, averaged=True)
    assert (logits(plain) - logits(average)).abs().max() > 1e-3
    shutil.copytree(run, tmp_path / "monitored")
    edit(tmp_path / "monitored" / "summary.json", monitor="val/acc1_ema")
    for name, averaged, weights in (
        *((str(run), None, "trained"), (str(best), False, "trained")),
        *((str(best), True, "averaged"), ("monitored", None, "averaged")),
    ):
        opened = open_network(name, averaged)
        assert_same(opened.model, average if weights == "averaged" else plain)
        assert (opened.origin, opened.weights, opened.image_size) == ("checkpoint", weights, 64)
        assert opened.class_names == [str(digit) for digit in range(10)]
    (tmp_path / "monitored" / "checkpoints" / "best.ckpt").unlink()
    assert_same(open_network("monitored", averaged=False).model, network(run / "checkpoints" / "last.ckpt"))


def test_two_classifiers_become_their_mean(run, tmp_path):
    content = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    content["hyper_parameters"]["design"]["distilled"] = True
    dual = perturb_(create_model("tiny", num_classes=10, distilled=True)).eval()
    content["state_dict"] = {f"model.{key}": tensor for key, tensor in dual.state_dict().items()}
    torch.save(content, tmp_path / "dual.ckpt")
    assert_same(open_network("dual.ckpt", averaged=False).model, dual)


def test_a_folder_as_a_push_makes_it_gives_the_runs_network(run, tmp_path):
    save_weights(FinishedRun.open(run), tmp_path)
    pushed, own = open_network(str(tmp_path)), open_network(str(run))
    assert torch.equal(logits(pushed.model), logits(own.model))
    assert (pushed.origin, pushed.class_names, pushed.image_size) == ("hub", own.class_names, own.image_size)


@pytest.mark.parametrize("prefix", ["", "local-dir:"])
def test_a_folder_as_timm_saves_it_gives_its_network(prefix, tmp_path):
    designed = perturb_(create_model("tiny", num_classes=10, patch_size=8)).eval()
    byobnet = perturb_(timm.create_model("test_byobnet", num_classes=10)).eval()
    for name, model, size in (("designed", designed, 128), ("byobnet", byobnet, 160)):
        save_for_hf(model, tmp_path / name, safe_serialization=True, model_config={"label_names": TEN})
        opened = open_network(f"{prefix}{name}")
        assert_same(opened.model, model)
        assert (opened.origin, opened.class_names, opened.image_size) == ("hub", TEN, size)
    assert json.loads((tmp_path / "designed" / "config.json").read_text())["architecture"] == "shvit_pl"


def test_a_design_and_a_model_of_timm_are_built_fresh():
    opened = open_network("s4")
    assert (opened.origin, opened.image_size, opened.model.training, opened.fresh) == ("design", 256, False, True)
    cfg = timm.get_pretrained_cfg("resnet10t")
    for name in ("timm:resnet10t", "resnet10t"):
        opened = open_network(name)
        assert (opened.name, opened.origin, opened.fresh) == ("timm:resnet10t", "timm", True)
        assert (opened.image_size, opened.crop_pct, opened.mean) == (cfg.input_size[-1], cfg.crop_pct, cfg.mean)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, run):
    """A folder with files of all kinds."""
    root = tmp_path_factory.mktemp("files")
    resnet = timm.create_model("test_resnet", num_classes=10)
    save_file(resnet.state_dict(), root / "resnet.safetensors")
    save_file(timm.create_model("test_resnet", num_classes=0).state_dict(), root / "none.safetensors")
    save_file(timm.create_model("test_vit", img_size=64).state_dict(), root / "vit_64.safetensors")
    for name in ("text.pth", "text.ckpt"):
        (root / name).write_text("no weights")
    torch.save({"epoch": 3}, root / "empty.pth")
    torch.save({"state_dict": resnet.state_dict()}, root / "foreign.ckpt")
    whole = run / "checkpoints" / "best.ckpt"
    content = torch.load(whole, weights_only=True)
    content["hyper_parameters"]["ema"]["decay"] = 0
    torch.save(content, root / "plain.ckpt")
    content["hyper_parameters"]["design"]["name"] = "s1"
    torch.save(content, root / "other_design.ckpt")
    (root / "run" / "checkpoints").mkdir(parents=True)
    shutil.copytree(run / "checkpoints", root / "runs" / "version_0" / "checkpoints")
    for name in ("saved", "weightless"):
        save_for_hf(resnet, root / name, safe_serialization=True)
    (root / "weightless" / "model.safetensors").unlink()
    for name, settings in (("of_others", {"architectures": ["ViT"]}), ("unknown", {"architecture": "resnet5000"})):
        (root / name).mkdir()
        (root / name / "config.json").write_text(json.dumps(settings))
        (root / name / "model.safetensors").touch()
    return root


@pytest.mark.parametrize(
    ("name", "settings", "parts"),
    [
        ("tinny", {}, ["did you mean 'tiny'", "Hub repo"]),
        ("timm:resnet19", {}, ["did you mean 'resnet18'"]),
        ("timm:resnet50.deit_in1k", {"pretrained": True}, ["no such weights of resnet50", "resnet50.a1_in1k"]),
        ("timm:coatnet_0_224", {"pretrained": True}, ["no pretrained weights"]),
        ("timm:test_resnet", {"pretrained": True}, ["no such model repo in the local cache"]),
        ("timm:test_resnet", {"pretrained": True, "averaged": True}, ["no averaged weights"]),
        ("timm:test_resnet", {"weights": "gone.pth"}, ["weights 'gone.pth'", "no such file"]),
        ("timm:test_resnet", {"weights": "run"}, ["weights 'run'", "a folder"]),
        ("timm:test_resnet", {"weights": "text.pth"}, ["weights 'text.pth'", "not a readable file of weights"]),
        ("timm:test_resnet", {"weights": "empty.pth"}, ["contains no tensors"]),
        ("timm:test_vit", {"weights": "resnet.safetensors"}, ["not weights of 'test_vit'"]),
        (
            "timm:test_vit",
            {"weights": "vit_64.safetensors"},
            ["pos_embed is [1, 17, 64]", "[1, 101, 64] in 'test_vit'"],
        ),
        (
            "timm:test_resnet",
            {"weights": "resnet.safetensors", "model_kwargs": {"num_classes": 5}},
            ["fc.weight is [10, ", "[5, ", "classes of the weights"],
        ),
        ("timm:test_resnet", {"weights": "none.safetensors"}, ["not weights of 'test_resnet'", "fc.weight"]),
        ("timm:test_resnet", {"weights": "resnet.safetensors", "averaged": True}, ["no averaged weights"]),
        ("user/repo", {}, ["no such model repo in the local cache"]),
        ("https://hub/model", {}, ["URLs are not downloaded"]),
        ("./nowhere", {}, ["no such file or folder"]),
        ("nowhere.ckpt", {}, ["no such file or folder"]),
        ("runs", {}, ["a folder of runs", "version_0"]),
        ("run", {}, ["a folder without weights", "checkpoints/best.ckpt"]),
        ("weightless", {}, ["a folder without weights", "model.safetensors"]),
        ("of_others", {}, ["names no architecture of timm"]),
        ("unknown", {}, ["'resnet5000' is not known to timm"]),
        ("saved", {"averaged": True}, ["no averaged weights"]),
        ("saved", {"weights": "resnet.safetensors"}, ["only for timm:NAME"]),
        ("resnet.safetensors", {}, ["doesn't name its network"]),
        ("text.ckpt", {}, ["not a complete checkpoint", "can't be read"]),
        ("foreign.ckpt", {}, ["not a complete checkpoint", "hyper_parameters"]),
        ("other_design.ckpt", {"averaged": False}, ["these weights are of another design"]),
        ("plain.ckpt", {"averaged": True}, ["no averaged weights"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_mistake_is_one_message_with_what_is_wrong(name, settings, parts, folder, monkeypatch):
    monkeypatch.chdir(folder)
    named = [] if "averaged" in settings else [repr(settings.get("weights", name))]
    with refused(*parts, *named, longest=600):
        open_network(name, **settings)
