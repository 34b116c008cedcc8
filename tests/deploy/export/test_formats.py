"""Every format gives the network's outputs, on real images and weights of which every tensor shows."""

import json
from pathlib import Path

import pytest
import torch
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from shvit_pl.cli import main
from shvit_pl.deploy.export import Graph
from shvit_pl.deploy.options import FORMATS
from shvit_pl.deploy.passes import fused
from shvit_pl.models import create_model
from tests.deploy.export.conftest import pictures, read_metadata
from tests.deploy.export.mil import Program
from tests.hub.runs import lively, network

MULTI_HEAD = {"name": "tiny", "patch_size": 4, "stages": 4, "mixers": ("multi_head",) * 4}
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
slow = pytest.mark.slow
EACH = ["onnx", "torch-export", pytest.param("coreml", marks=slow), pytest.param("executorch", marks=slow)]


def load(format_, path):
    """What runs a file: for CoreML, which runs on macOS only, an evaluation of the saved program."""
    runs_here = FORMATS[format_].runs_here
    return FORMATS[format_].load_module().load(path) if runs_here else Program(path)


def relative(found, expected):
    return ((found - expected).abs().max() / expected.abs().max()).item()


def settled(design, side):
    """A network whose BatchNorms have seen real images of this size."""
    model = lively(create_model(num_classes=10, **design), 0)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d | torch.nn.BatchNorm1d):
            module.reset_running_stats()
    model.train()(pictures(32, side))
    return model.eval()


@torch.inference_mode()
def check(format_, design, tmp_path, side):
    """A file of pixels to probabilities gives those of the network, in several batch sizes where it can."""
    model = settled(design, side)
    module, path = FORMATS[format_].load_module(), tmp_path / f"file{FORMATS[format_].suffix}"
    options = {"half": False} if format_ == "coreml" else {}
    normalized = pictures(4, side)
    images = normalized * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1)
    graph = Graph(fused(model), (MEAN, STD), softmax=True).eval()
    module.save(graph, images[:1], path, {"labels": json.dumps(["a", "b"])}, **options)
    exported = load(format_, path)
    sizes = [1, 3] if FORMATS[format_].dynamic else [1, 1, 1, 1]
    outputs = torch.cat([exported(batch) for batch in images.split(sizes)])
    expected = model(normalized)
    torch.testing.assert_close(outputs.sum(-1), torch.ones(4))
    assert relative(outputs.log().diff(), expected.diff()) < 1e-4  # without the constant that softmax removes
    assert not torch.equal(outputs[0], outputs[1])  # the outputs depend on the image
    assert json.loads(read_metadata(format_, path)["labels"]) == ["a", "b"]


@pytest.mark.parametrize("format_", EACH)
def test_a_small_network_in_batches_of_one_and_of_three(format_, tmp_path):
    check(format_, {"name": "tiny", "depth": (1, 1, 1)}, tmp_path, 64)


@slow
@pytest.mark.parametrize("format_", list(FORMATS))
@pytest.mark.parametrize(("design", "side"), [({"name": "s1"}, 224), (MULTI_HEAD, 64)], ids=["s1", "many heads"])
def test_s1_and_many_heads_in_four_stages_with_a_small_patch(format_, design, side, tmp_path):
    check(format_, design, tmp_path, side)


@slow
@pytest.mark.parametrize("format_", list(FORMATS))
def test_a_distilled_run_gives_the_mean_of_its_classifiers(format_, distilled_run, tmp_path):
    path = tmp_path / f"file{FORMATS[format_].suffix}"
    dtype = ["--dtype=fp32"] if format_ == "coreml" else []
    assert main(["export", str(distilled_run), f"--format={format_}", f"--output={path}", *dtype]) == 0
    exported = load(format_, path)
    images = pictures(3, 64)
    with torch.inference_mode():
        outputs = torch.cat([exported(image[None]) for image in images])
        assert relative(outputs, network(distilled_run / "checkpoints" / "best.ckpt")(images)) < 1e-4
    assert json.loads(read_metadata(format_, path)["labels"]) == [str(digit) for digit in range(10)]


@slow
@torch.inference_mode()
@pytest.mark.parametrize("flags", [["--softmax"], ["--softmax", "--normalize"], ["--dtype=fp32"]], ids=str)
def test_coreml_is_saved_and_gives_the_networks_outputs(flags, plain_run, capfd):
    assert main(["export", str(plain_run), "--format=coreml", "--output=a.mlpackage", *flags]) == 0
    printed, noise = capfd.readouterr()
    assert noise == ""
    if not FORMATS["coreml"].runs_here:
        assert "saved, not run: CoreML runs on macOS only" in printed
        assert "difference" not in printed
    assert ("outputs classLabel" in printed) == ("--softmax" in flags)
    assert ("of imageType" in printed) == ("--normalize" in flags)
    images = pictures(4, 64)
    expected = network(plain_run / "checkpoints" / "best.ckpt")(images)
    expected = expected.softmax(-1) if "--softmax" in flags else expected
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD))
    given = images * std + mean if "--normalize" in flags else images
    exported = load("coreml", Path("a.mlpackage"))
    outputs = torch.cat([exported(image[None]) for image in given])
    assert relative(outputs, expected) < (1e-4 if "--dtype=fp32" in flags else 2e-2)


@slow
def test_what_xnnpack_leaves_is_counted(plain_run, capfd):
    assert main(["export", str(plain_run), "--format=executorch", "--output=a.pte"]) == 0
    printed, noise = capfd.readouterr()
    assert noise == ""
    assert "pieces by XNNPACK; outside of them" in printed
    assert "2 native_group_norm" in printed  # one in each block with attention
