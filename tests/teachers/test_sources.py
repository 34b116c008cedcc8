"""Teachers from wherever they come: a file for a timm model, a checkpoint or run of ours, a folder as timm saves it."""

import json
import shutil

import pytest
import torch
from timm.data import IMAGENET_DEFAULT_MEAN
from timm.models import save_for_hf

from shvit_pl import ClassificationModule
from shvit_pl.models import create_model
from tests.conftest import perturb_
from tests.teachers.makers import DIGITS, TEN, as_seen_by, opened, shaken, some_images, stored


def wrapped(state, prefix):
    return {f"{prefix}{key}": tensor for key, tensor in state.items()}


@pytest.mark.parametrize(
    "nest",
    [
        lambda state: state,
        lambda state: {"model": state, "epoch": 3},
        lambda state: {"state_dict": wrapped(state, "module.")},
        lambda state: wrapped(state, "_orig_mod."),
        lambda state: {"state_dict": {**wrapped(state, "model."), "loss.weight": torch.ones(3)}},
        lambda state: {"state_dict": wrapped(state, "model._orig_mod.")},
    ],
    ids=["bare", "official", "DDP", "compiled", "Lightning", "Lightning, compiled"],
)
@torch.no_grad()
def test_weights_are_found_in_whatever_they_are_nested(nest, tmp_path):
    network = shaken("test_resnet", classes=7)
    torch.save(nest(network.state_dict()), tmp_path / "w.pth")
    teacher = opened(teacher="test_resnet", weights="w.pth", class_names=list("abcdefg"))
    expected = network(as_seen_by(network, some_images()))
    torch.testing.assert_close(teacher.logits(some_images()), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "nest",
    [
        lambda state, average: {"state_dict": state, "state_dict_ema": average},
        lambda state, average: {"model": state, "model_ema": average},
        lambda state, average: {"state_dict": {**wrapped(state, "model."), **wrapped(average, "ema.module.")}},
    ],
    ids=["timm", "official", "ours"],
)
@torch.no_grad()
def test_a_file_with_an_average_gives_it_only_when_asked(nest, tmp_path):
    networks = [shaken("test_resnet", seed=seed) for seed in (0, 1)]
    torch.save(nest(*(network.state_dict() for network in networks)), tmp_path / "w.pth")
    for use_ema, network in zip((False, True), networks, strict=True):
        expected = network(as_seen_by(network, some_images()))
        teacher = opened(teacher="test_resnet", weights="w.pth", use_ema=use_ema)
        torch.testing.assert_close(teacher.logits(some_images()), expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_a_run_of_ours_teaches_with_its_best_checkpoint(run):
    path = run / "checkpoints" / "best.ckpt"
    module = ClassificationModule.load_from_checkpoint(path, map_location="cpu").eval()
    for source in (run, path):
        teacher = opened(teacher=str(source), class_names=DIGITS)
        images = some_images()
        torch.testing.assert_close(teacher.logits(images), module(images), rtol=1e-4, atol=1e-4)
        averaged = opened(teacher=str(source), class_names=DIGITS, use_ema=True)
        torch.testing.assert_close(averaged.logits(images), module.ema(images), rtol=1e-4, atol=1e-4)
    assert (module(images) - module.ema(images)).abs().max() > 1e-3
    assert (teacher.size, teacher.class_names, teacher.columns) == (64, DIGITS, None)
    assert "10 classes matched by name" in teacher.note
    assert teacher.identity != averaged.identity


@torch.no_grad()
def test_a_run_without_a_best_checkpoint_teaches_with_its_last(run, tmp_path):
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    last = shutil.copy(run / "checkpoints" / "last.ckpt", tmp_path / "run" / "checkpoints" / "last.ckpt")
    assert opened(teacher="run", class_names=DIGITS).identity == opened(teacher=str(last), class_names=DIGITS).identity


def test_classes_of_a_run_are_matched_by_name_in_whatever_order(run):
    teacher = opened(teacher=str(run), class_names=DIGITS[::-1])
    straight = opened(teacher=str(run), class_names=DIGITS)
    assert torch.equal(teacher.logits(some_images()), straight.logits(some_images()).flip(1))


@torch.no_grad()
def test_a_dual_head_teaches_with_the_mean_of_its_classifiers(run, tmp_path):
    content = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    content["hyper_parameters"]["design"]["distilled"] = True
    network = perturb_(create_model("tiny", num_classes=10, distilled=True)).eval()
    content["state_dict"] = wrapped(network.state_dict(), "model.")
    torch.save(content, tmp_path / "dual.ckpt")
    teacher = opened(teacher="dual.ckpt", class_names=DIGITS)
    features = network.forward_head(network.forward_features(some_images()), pre_logits=True)
    mean = (network.head(features) + network.head_dist(features)) / 2
    torch.testing.assert_close(teacher.logits(some_images()), mean, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("prefix", ["", "local-dir:"])
@torch.no_grad()
def test_a_folder_as_timm_saves_it(prefix, tmp_path):
    network = shaken("test_byobnet")
    save_for_hf(network, tmp_path / "saved", safe_serialization=True, model_config={"label_names": TEN[::-1]})
    teacher = opened(teacher=f"{prefix}saved")
    expected = network(as_seen_by(network, some_images())).flip(1)
    torch.testing.assert_close(teacher.logits(some_images()), expected, rtol=1e-4, atol=1e-4)
    before = teacher.identity
    stored(shaken("test_byobnet", seed=1), tmp_path / "saved" / "model.safetensors")
    assert opened(teacher=f"{prefix}saved").identity != before


@torch.no_grad()
def test_a_folder_of_a_design_that_timm_does_not_have(tmp_path):
    network = perturb_(create_model("tiny", num_classes=10, patch_size=8)).eval()
    save_for_hf(network, tmp_path / "saved", safe_serialization=True)
    assert json.loads((tmp_path / "saved" / "config.json").read_text())["architecture"] == "shvit_pl"
    teacher = opened(teacher="saved", mean=IMAGENET_DEFAULT_MEAN)
    assert teacher.size == 128
    images = some_images(size=128)
    torch.testing.assert_close(teacher.logits(images), network(images), rtol=1e-4, atol=1e-4)
