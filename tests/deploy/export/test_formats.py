"""Every format gives the network's outputs, on real images and weights of which every tensor shows."""

import json
import zipfile
from pathlib import Path

import pytest
import torch
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

import shvit_pl
from shvit_pl.cli import main
from shvit_pl.deploy.export import Graph
from shvit_pl.deploy.formats import CONVERTERS
from shvit_pl.deploy.options import FORMATS
from shvit_pl.deploy.passes import fused
from shvit_pl.models import create_model
from tests.deploy.export.conftest import pictures, read_metadata
from tests.deploy.export.mil import Program
from tests.hub.runs import lively, network

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
MIXERS = ("conv", "single_head", "multi_head", "multi_head")
SMALL = {"name": "tiny", "patch_size": 4, "stages": 4, "mixers": MIXERS, "depth": (1, 1, 1, 1)}
S1 = {"name": "s1"}
DETAILS = {
    "onnx": "opset 18",
    "torch-export": "operators of aten",
    "coreml": "MB of weights",
    "executorch": "3 native_group_norm",  # of the three blocks with attention
}
slow, full = pytest.mark.slow, pytest.mark.full


def load(format_, path):
    """The program that runs a file: for CoreML, which runs on macOS only, an evaluation of the saved program."""
    return CONVERTERS[format_].load(path) if FORMATS[format_].runs_here else Program(path)


def holds(path, text):
    """True if a file, or one in an archive or folder, has a text in it."""
    if path.is_dir():
        return any(holds(each, text) for each in path.rglob("*") if each.is_file())
    if not zipfile.is_zipfile(path):
        return text.encode() in path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        return any(text.encode() in archive.read(name) for name in archive.namelist())


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


@pytest.mark.parametrize(
    ("format_", "design", "side"),
    [
        ("onnx", SMALL, 64),
        ("torch-export", SMALL, 64),
        pytest.param("coreml", SMALL, 64, marks=slow),
        pytest.param("executorch", SMALL, 64, marks=full),
        pytest.param("onnx", S1, 224, marks=slow),
        *[pytest.param(format_, S1, 224, marks=full) for format_ in ("torch-export", "coreml", "executorch")],
    ],
    ids=str,
)
@torch.inference_mode()
def test_a_file_of_pixels_to_probabilities_gives_those_of_the_network(format_, design, side, tmp_path):
    """In batches of one and of three, where it can."""
    model, path = settled(design, side), tmp_path / f"file{FORMATS[format_].suffix}"
    normalized = pictures(4, side)
    images = normalized * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1)
    graph = Graph(fused(model), (MEAN, STD), softmax=True).eval()
    options = {"half": False} if format_ == "coreml" else {}
    CONVERTERS[format_].save(graph, images[:1], path, {"labels": json.dumps(["a", "b"])}, **options)
    exported = load(format_, path)
    sizes = [1, 3] if FORMATS[format_].dynamic else [1, 1, 1, 1]
    outputs = torch.cat([exported(batch) for batch in images.split(sizes)])
    torch.testing.assert_close(outputs.sum(-1), torch.ones(4))
    assert relative(outputs.log().diff(), model(normalized).diff()) < 1e-4  # without the constant of softmax
    assert not torch.equal(outputs[0], outputs[1])  # the outputs depend on the image
    assert json.loads(read_metadata(format_, path)["labels"]) == ["a", "b"]
    assert not holds(path, str(Path(shvit_pl.__file__).parent))  # no path of this machine
    assert design is S1 or DETAILS[format_] in " ".join(CONVERTERS[format_].describe(path))


@slow
@torch.inference_mode()
@pytest.mark.parametrize(
    ("format_", "flags", "words"),
    [
        ("coreml", ["--softmax", "--normalize"], ("outputs classLabel", "of imageType")),
        ("coreml", ["--dtype=fp32"], ("of multiArrayType",)),
        ("executorch", [], ("partitions run by XNNPACK; outside of them", "2 native_group_norm")),
    ],
    ids=str,
)
def test_a_run_with_two_classifiers_is_converted_silently_to_their_mean(format_, flags, words, dual_run, capfd):
    path = Path(f"a{FORMATS[format_].suffix}")
    assert main(["export", str(dual_run), f"--format={format_}", f"--output={path}", *flags]) == 0
    printed, noise = capfd.readouterr()
    assert noise == ""
    assert all(word in printed for word in words)
    here = FORMATS[format_].runs_here
    assert ("saved, not run: CoreML runs on macOS only" in printed, "difference" in printed) == (not here, here)
    images = pictures(4, 64)
    expected = network(dual_run / "checkpoints" / "best.ckpt")(images)
    expected = expected.softmax(-1) if "--softmax" in flags else expected
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD))
    exported = load(format_, path)
    outputs = torch.cat(
        [exported(image[None]) for image in (images * std + mean if "--normalize" in flags else images)]
    )
    assert relative(outputs, expected) < (2e-2 if "--normalize" in flags else 1e-4)  # fp16 is CoreML's default
