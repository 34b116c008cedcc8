"""`shvit-pl export`: what it prints, what it leaves, and that it leaves nothing that is wrong."""

import json
import os
import re
from pathlib import Path

import onnxruntime
import pytest
import torch

from shvit_pl.cli import main
from shvit_pl.deploy.export import difference
from shvit_pl.deploy.options import FORMATS
from shvit_pl.models.open_network import open_network
from tests.deploy.export.conftest import pictures, read_metadata


def outputs_of(file, images):
    return torch.export.load(file).module()(images)


def test_what_was_measured_is_printed_and_true(plain_run, capfd):
    assert main(["export", str(plain_run), "--format=onnx", "--output=a.onnx", "--softmax", "--weights=ema"]) == 0
    printed, noise = capfd.readouterr()
    assert noise == ""
    for text in ("file       a.onnx", "(any, 3, 64, 64), normalized RGB", "probabilities; 10 labels in the file"):
        assert text in printed
    match = re.search(r"difference (\S+) at most, (\S+) of the largest output .* on 64 of 64 images", printed)
    images = pictures(64, 64)
    expected = open_network(str(plain_run), averaged=True).model(images).softmax(-1)
    found = torch.from_numpy(onnxruntime.InferenceSession("a.onnx").run(None, {"images": images.numpy()})[0])
    assert 1 / 5 < float(match[1]) / (found - expected).abs().max().item() < 5  # batches of other sizes round otherwise
    assert float(match[2]) < 1e-4
    assert "opset 18" in printed
    assert json.loads(read_metadata("onnx", "a.onnx")["labels"]) == [str(digit) for digit in range(10)]
    assert os.listdir() == ["a.onnx"]  # and no file of weights beside it


def test_raw_weights_can_be_chosen_and_the_line_that_uses_the_file_works(plain_run, capfd):
    assert main(["export", str(plain_run), "--format=torch-export", "--output=a.pt2", "--weights=raw"]) == 0
    images = pictures(2, 64)
    raw, averaged = (open_network(str(plain_run), averaged=averaged).model(images) for averaged in (False, True))
    torch.testing.assert_close(outputs_of("a.pt2", images), raw, rtol=1e-3, atol=1e-4)
    assert (raw - averaged).abs().max() > 0.01
    assert read_metadata("torch-export", "a.pt2")["weights"] == "raw"
    exec(capfd.readouterr().out.rsplit("use it: ")[-1], {})


def test_a_mismatch_deletes_the_new_file_keeps_the_old_one_and_fails(plain_run, capfd):
    Path("a.pt2").write_text("before")
    flags = ["--format=torch-export", "--output=a.pt2", "--tolerance=1e-15", "--softmax"]
    assert main(["export", str(plain_run), *flags]) == 2
    pattern = r"differs from the network by \S+ of the largest output on 64 images \(allowed is 1e-15\)"
    assert re.search(pattern, capfd.readouterr().err)
    assert Path("a.pt2").read_text() == "before"
    assert os.listdir() == ["a.pt2"]


@pytest.mark.parametrize(
    ("change", "is_within"),
    [(lambda x: x, True), (lambda x: x.roll(1, -1), False), (lambda x: x * 1.001, False), (lambda x: x / 0, False)],
    ids=["equal", "swapped classes", "another network", "no numbers"],
)
def test_the_difference_shows_a_mismatch(change, is_within):
    class Changed(torch.nn.Flatten):
        def forward(self, images):
            return change(super().forward(images))

    images = torch.randn(4, 3, 2, 2)
    assert (difference(torch.nn.Flatten(), Changed(), [images]).relative <= 1e-4) == is_within


def test_a_fixed_batch_and_another_opset(capsys):
    assert main(["export", "tiny", "--image_size=64", "--format=onnx", "--batch_size=2", "--opset=20"]) == 0
    assert onnxruntime.InferenceSession("tiny.onnx").get_inputs()[0].shape == [2, 3, 64, 64]
    assert "opset 20" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("format_", ["onnx", "torch-export"])
def test_half_precision(format_, plain_run):
    output = Path(f"a{FORMATS[format_].suffix}")
    assert main(["export", str(plain_run), f"--format={format_}", f"--output={output}", "--dtype=fp16"]) == 0
    numbers = sum(parameter.numel() for parameter in open_network(str(plain_run)).model.parameters())
    assert output.stat().st_size < 0.7 * 4 * numbers  # half of the weights, and the graph


def test_a_model_of_timm_is_exported():
    assert main(["export", "timm:resnet10t", "--format=torch-export", "--image_size=64"]) == 0
    assert Path("resnet10t.pt2").is_file()
