"""`shvit-pl export`: what it prints, what it leaves, and that it leaves nothing that is wrong."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import onnxruntime
import pytest
import torch

from shvit_pl.cli import main
from shvit_pl.command_line import checks
from shvit_pl.deploy import onnx_runtime
from shvit_pl.deploy.export.export import difference
from shvit_pl.deploy.options import FORMATS
from shvit_pl.hub.upload import save_weights
from shvit_pl.models.open_network import open_network
from shvit_pl.runs.finished_run import FinishedRun
from tests.deploy.export.networks import pictures

PT2 = FORMATS["torch-export"].load_module()
SMALL = ["tiny", "--image_size=64"]


def test_what_was_measured_is_printed_and_true(plain_run, capfd):
    assert main(["export", str(plain_run), "--format=onnx", "--output=a.onnx", "--softmax", "--weights=ema"]) == 0
    printed, noise = capfd.readouterr()
    assert noise == ""
    for text in ("file       a.onnx", "(any, 3, 64, 64), normalized RGB", "probabilities; 10 labels in the file"):
        assert text in printed
    match = re.search(r"difference (\S+) at most, (\S+) of the largest output .* on 64 of 64 images", printed)
    session = onnxruntime.InferenceSession("a.onnx")
    images = pictures(64, 64)
    expected = open_network(str(plain_run), averaged=True).model(images).softmax(-1)
    found = torch.from_numpy(session.run(None, {"images": images.numpy()})[0])
    assert 1 / 5 < float(match[1]) / (found - expected).abs().max().item() < 5  # batches of other sizes round otherwise
    assert float(match[2]) < 1e-4
    assert json.loads(session.get_modelmeta().custom_metadata_map["labels"]) == [str(digit) for digit in range(10)]
    assert sorted(os.listdir()) == ["a.onnx"]  # and no file of weights beside it


def test_raw_weights_can_be_chosen_and_the_line_that_uses_the_file_works(plain_run, capfd):
    assert main(["export", str(plain_run), "--format=torch-export", "--output=a.pt2", "--weights=raw"]) == 0
    images = pictures(2, 64)
    found = PT2.load(Path("a.pt2"))(images)
    raw, averaged = (open_network(str(plain_run), averaged=averaged).model(images) for averaged in (False, True))
    torch.testing.assert_close(found, raw, rtol=1e-3, atol=1e-4)
    assert (found - averaged).abs().max() > 0.01
    assert PT2.read_metadata(Path("a.pt2"))["weights"] == "raw"
    exec(capfd.readouterr().out.rsplit("use it: ")[-1], {})


def test_a_mismatch_deletes_the_new_file_keeps_the_old_one_and_fails(plain_run, capfd):
    flags = ["export", str(plain_run), "--format=torch-export", "--output=a.pt2", "--tolerance=1e-15"]
    Path("a.pt2").write_text("before")
    assert main([*flags, "--softmax"]) == 2
    message = capfd.readouterr().err
    assert re.search(
        r"differs from the network by \S+ of the largest output on 64 images \(allowed is 1e-15\)", message
    )
    assert Path("a.pt2").read_text() == "before"
    assert os.listdir() == ["a.pt2"]


@torch.inference_mode()
def test_another_network_a_swapped_class_and_no_number_are_mismatches(plain_run):
    network = open_network(str(plain_run)).model
    images = [pictures(4, 64)]

    class Changed(torch.nn.Module):
        def __init__(self, change):
            super().__init__()
            self.change = change

        def forward(self, batch):
            return self.change(network(batch))

    assert difference(network, Changed(lambda logits: logits), images).relative <= 1e-4
    for change in (lambda x: x.roll(1, -1), lambda x: x * 1.001, lambda x: x / 0):
        assert not difference(network, Changed(change), images).relative <= 1e-4


def test_a_fixed_batch_and_another_opset(tmp_path):
    assert main(["export", *SMALL, "--format=onnx", "--batch_size=2", "--opset=20"]) == 0
    session = onnxruntime.InferenceSession("tiny.onnx")
    assert session.get_inputs()[0].shape == [2, 3, 64, 64]
    assert "opset 20" in onnx_runtime.describe(Path("tiny.onnx"))[0]


@pytest.mark.slow
@pytest.mark.parametrize("format_", ["onnx", "torch-export"])
def test_half_precision(format_, plain_run):
    output = f"a{FORMATS[format_].suffix}"
    assert main(["export", str(plain_run), f"--format={format_}", f"--output={output}", "--dtype=fp16"]) == 0
    assert (
        Path(output).stat().st_size < 0.6 * sum(p.numel() for p in open_network(str(plain_run)).model.parameters()) * 4
    )


def test_a_repo_of_the_hub_is_exported(hub, plain_run, tmp_path):
    save_weights(FinishedRun.open(plain_run), tmp_path / "files")
    hub.commit("user/name", {file.name: file.read_bytes() for file in (tmp_path / "files").iterdir()}, kind="models")
    assert main(["export", "hf-hub:user/name", "--format=torch-export"]) == 0
    images = pictures(2, 64)
    exported = PT2.load(Path("name.pt2"))
    torch.testing.assert_close(exported(images), open_network(str(plain_run)).model(images), rtol=1e-3, atol=1e-4)


def test_a_model_of_timm_is_exported():
    assert main(["export", "timm:resnet10t", "--format=torch-export", "--image_size=64"]) == 0
    assert Path("resnet10t.pt2").is_file()


@pytest.mark.parametrize(
    ("format_", "packages"), [("onnx", "onnx, onnxruntime, onnxscript"), ("coreml", "coremltools"), ("executorch",) * 2]
)
def test_each_format_names_its_extra(format_, packages, monkeypatch, capsys):
    monkeypatch.setattr(checks, "find_spec", lambda name: None)
    assert main(["export", "tiny", "--format", format_]) == 2
    message = f"--format {format_} needs {packages}, of an extra: pip install 'shvit-pl[{format_}]'"
    assert message in capsys.readouterr().err


def test_help_and_a_missing_extra_wait_for_no_torch():
    code = """
import sys
from shvit_pl.cli import main
from shvit_pl.command_line import checks
checks.find_spec = lambda name: None
assert main(["export", "--help"]) == 0
assert main(["export", "tiny", "--format=onnx"]) == 2
assert "torch" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--int8_tolerance" in done.stdout
    assert os.listdir() == []
