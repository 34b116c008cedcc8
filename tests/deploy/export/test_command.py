"""`shvit-pl export`: what it prints, what it leaves, and that it leaves nothing that is wrong."""

import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
from datasets import DatasetBuilder
from PIL import Image
from torch import nn

from shvit_pl.cli import main
from shvit_pl.data.config import DataConfig
from shvit_pl.data.datamodule import HFImageDataModule
from shvit_pl.data.opening import open_source
from shvit_pl.deploy import export, formats, images
from shvit_pl.models.open_network import open_network
from tests.deploy.export.conftest import pictures, read_metadata
from tests.hub.runs import network, quick_fit


def test_what_was_measured_is_printed_and_true(dual_run, capfd):
    assert main(["export", str(dual_run), "--format=onnx", "--output=a.onnx", "--softmax", "--weights=ema"]) == 0
    printed, noise = capfd.readouterr()
    assert noise == ""
    for text in ("file       a.onnx", "(any, 3, 64, 64), normalized RGB", "probabilities; 10 labels in the file"):
        assert text in printed
    printed = " ".join(printed.split())
    found = (
        r"difference (\S+) at most, (\S+) of the largest output .* on 64 of 64 images on 64 validation images of digits"
    )
    match = re.search(found, printed)
    images = pictures(64, 64)
    expected = network(dual_run / "checkpoints/best.ckpt", averaged=True)(images).softmax(-1)
    found = torch.from_numpy(onnxruntime.InferenceSession("a.onnx").run(None, {"images": images.numpy()})[0])
    assert 1 / 5 < float(match[1]) / (found - expected).abs().max().item() < 5  # batches of other sizes round otherwise
    assert float(match[2]) < 1e-4
    assert json.loads(read_metadata("onnx", "a.onnx")["labels"]) == [str(digit) for digit in range(10)]
    assert os.listdir() == ["a.onnx"]  # and no file of weights beside it


def test_raw_weights_can_be_chosen_and_the_line_that_uses_the_file_works(dual_run, capfd):
    assert main(["export", str(dual_run), "--format=torch-export", "--output=a.pt2", "--weights=raw"]) == 0
    images = pictures(2, 64)
    raw, averaged = (network(dual_run / "checkpoints/best.ckpt", averaged)(images) for averaged in (False, True))
    torch.testing.assert_close(torch.export.load("a.pt2").module()(images), raw, rtol=1e-3, atol=1e-4)
    assert (raw - averaged).abs().max() > 0.01
    assert read_metadata("torch-export", "a.pt2")["weights"] == "raw"
    exec(capfd.readouterr().out.rsplit("use it: ")[-1], {})


def test_a_fixed_batch_another_opset_and_half_precision(dual_run, capsys):
    flags = ["--format=onnx", "--output=a.onnx", "--batch_size=2", "--opset=20", "--dtype=fp16"]
    assert main(["export", str(dual_run), *flags]) == 0
    assert onnxruntime.InferenceSession("a.onnx").get_inputs()[0].shape == [2, 3, 64, 64]
    printed = capsys.readouterr().out
    assert "opset 20" in printed
    exec(printed.rsplit("use it: ")[-1], {})
    assert is_half("a.onnx", open_network(str(dual_run)).model)


def is_half(file, model):
    """True if a file has half of the weights' size, and the graph."""
    return Path(file).stat().st_size < 0.7 * 4 * sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.slow
def test_a_model_of_timm_is_exported():
    flags = ["--format=torch-export", "--image_size=64", "--dtype=fp16"]
    assert main(["export", "timm:resnet10t", *flags]) == 0
    assert is_half("resnet10t.pt2", open_network("timm:resnet10t").model)


def save_other(model, example, path, *_, **__):
    """Write the ONNX file of a network whose logits are those of class 0, whatever the image."""
    other = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 10))
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
        other[1].bias[0] = 1
    formats.save_onnx(other, example, path)


def test_a_mismatch_deletes_the_new_file_keeps_the_old_one_and_fails(dual_run, capfd, monkeypatch):
    monkeypatch.setitem(formats.CONVERTERS, "onnx", formats.CONVERTERS["onnx"]._replace(save=save_other))
    Path("a.onnx").write_text("before")
    assert main(["export", str(dual_run), "--format=onnx", "--output=a.onnx", "--tolerance=0.5"]) == 2
    found = (
        r"differs from the network by \S+ of the largest output on 64 images \(validation images of digits; allowed "
    )
    pattern = rf"{found}is 5e-01\)"
    assert re.search(pattern, capfd.readouterr().err)
    assert Path("a.onnx").read_text() == "before"
    assert os.listdir() == ["a.onnx"]


@pytest.mark.parametrize(
    ("change", "is_within"),
    [(lambda x: x, True), (lambda x: x.roll(1, -1), False), (lambda x: x * 1.001, False), (lambda x: x / 0, False)],
    ids=["equal", "swapped classes", "another network", "no numbers"],
)
def test_the_difference_shows_a_mismatch(change, is_within):
    class Changed(nn.Flatten):
        def forward(self, images):
            return change(super().forward(images))

    images = torch.randn(4, 3, 2, 2)
    assert (export.difference(nn.Flatten(), Changed(), [images]).relative <= 1e-4) == is_within


# ---- int8 comes with its accuracy and speed beside those of float, and is refused where it costs too much


@pytest.mark.slow
def test_int8_is_smaller_and_its_costs_are_printed(run, capfd):
    flags = ["--format=onnx", "--output=a.onnx", "--int8", "--int8_tolerance=100"]
    assert main(["export", str(run), *flags]) == 0
    printed, noise = capfd.readouterr()
    assert noise == ""
    accuracies = re.search(r"int8: top-1 (\d\.\d{4}) \(float (\d\.\d{4})\) on 360 validation images of digits", printed)
    assert all(0 <= float(number) <= 1 for number in accuracies.groups())
    rates = re.search(r"int8: (\d+) images/s \(float (\d+)\), (\S+) MB \(float (\S+)\);", printed)
    assert all(float(number) > 0 for number in rates.groups())
    assert float(rates[3]) < 0.5 * float(rates[4])
    assert Path("a.onnx").stat().st_size == pytest.approx(1e6 * float(rates[3]), abs=1e5)
    kinds = [node.op_type for node in onnx.load("a.onnx").graph.node]
    assert kinds.count("QuantizeLinear") >= kinds.count("Conv") > 0
    assert json.loads(read_metadata("onnx", "a.onnx")["labels"]) == [str(digit) for digit in range(10)]


@pytest.mark.slow
def test_int8_that_costs_too_much_is_not_written(run, capsys, monkeypatch):
    monkeypatch.setattr(export, "_quantize", lambda source, path, images: save_other(None, next(images), path))
    assert main(["export", str(run), "--format=onnx", "--int8", "--output=a.onnx"]) == 2
    message = capsys.readouterr().err
    assert re.search(r"top-1 falls from [01]\.\d+ to 0\.\d+ on .*\(allowed are 1 points, by --int8_tolerance", message)
    assert os.listdir() == []


def test_int8_with_images_of_other_classes_is_refused(dual_run, image_folder, capsys):
    assert main(["export", str(dual_run), "--format=onnx", "--int8", f"--data={image_folder}", "--output=a.onnx"]) == 2
    assert "so top-1 means nothing" in capsys.readouterr().err
    assert not Path("a.onnx").exists()


# ---- the images on which a file is verified


@pytest.fixture(scope="module")
def photo_run(tmp_path_factory):
    """The folder of a run on a folder of twelve images, and that folder."""
    root = tmp_path_factory.mktemp("photos")
    for number in range(12):
        path = root / "photos" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (20 * number, 0, 255 - 20 * number)).save(path)
    small = ("--data.batch_size=2", "--data.validation_fraction=0.4", "--model.design.depth=[1, 1, 1]")
    folder = quick_fit(root, f"--data.path={root / 'photos'}", *small)
    return folder, root / "photos"


def test_a_file_is_verified_on_the_validation_images_of_the_run(photo_run, capfd):
    folder, photos = photo_run
    assert main(["export", str(folder), "--format=torch-export", "--output=a.pt2"]) == 0
    assert re.search(rf"on (\d) validation images of {photos}; in batches of", printed := capfd.readouterr().out)
    opened = open_network(str(folder))
    held_out, source = images.verification_images(opened, opened.image_size, None, False, 64)
    assert f"on {len(held_out)} validation images of" in printed
    means = held_out.mean((2, 3))  # red rises by 20, blue falls
    torch.testing.assert_close(means[:, 0] + means[:, 2], torch.ones(len(held_out)))
    assert (means[:, 1] == 0).all()
    assert source == f"validation images of {photos}"


def test_images_that_are_gone_or_broken_are_replaced_by_digits_and_that_is_said(photo_run, tmp_path, capfd):
    folder, photos = photo_run
    opened = open_network(str(folder))
    missing = replace(opened, data={**opened.data, "path": str(tmp_path / "gone")})
    elsewhere = replace(opened, data={**opened.data, "path": "someone/photos"})  # of the Hub: nothing is downloaded
    shutil.copytree(photos, broken := tmp_path / "broken")
    for path in broken.glob("*/*"):
        path.write_bytes(path.read_bytes()[:40])
    ruined = replace(opened, data={**opened.data, "path": str(broken)})
    for network_, reason in (
        (missing, "gone' is not on this machine"),
        (elsewhere, "'someone/photos' is not on this machine"),
        (ruined, "none of 5 validation images can be read"),
    ):
        pictures_, source = images.verification_images(network_, 32, None, False, 8)
        assert len(pictures_) == 8
        assert source.startswith("images of digits, as those of the run can't be read here: ")
        assert reason in source
    assert "run is not known" in images.verification_images(open_network("tiny"), 32, None, False, 8)[1]
    photos.rename(moved := photos.with_name("moved"))
    try:
        assert main(["export", str(folder), "--format=torch-export", "--output=a.pt2"]) == 0
        assert "digits, as those of the run can't be read here: " in capfd.readouterr().out
        assert main(["export", str(folder), "--format=torch-export", "--output=a.pt2", f"--data={moved}"]) == 0
        assert f"validation images of {moved}" in capfd.readouterr().out
        assert main(["export", str(folder), "--format=torch-export", "--output=b.pt2", "--data=gone/x/y"]) == 2
        assert "--data 'gone/x/y': no such file" in capfd.readouterr().err
        assert main(["export", str(folder), "--format=onnx", "--output=b.onnx", "--int8"]) == 2
        assert "Give its dataset by --data." in capfd.readouterr().err
    finally:
        moved.rename(photos)
    assert sorted(os.listdir()) == ["a.pt2", "broken"]


def test_a_file_is_verified_on_images_without_labels(tmp_path):
    for number in range(4):
        Image.new("RGB", (8, 8), (60 * number, 0, 0)).save(tmp_path / f"{number}.png")
    (tmp_path / "2.png").write_bytes(b"torn")
    for path, reds in ((tmp_path, [0, 60, 180]), (tmp_path / "3.png", [180])):
        found, source = images.verification_images(open_network("tiny"), 32, str(path), False, 8)
        assert (found[:, 0].amax((1, 2)) * 255).round().tolist() == reds
        assert source == f"images of {path}"


def test_a_stream_is_verified_on_its_first_validation_images_and_not_stored(photo_run, tmp_path, monkeypatch):
    opened = open_network(str(photo_run[0]))
    for split, rows in open_source(DataConfig()).splits.items():
        rows.select(range(40)).to_parquet(tmp_path / f"{split}.parquet")
        rows.select(range(40, 60)).to_parquet(tmp_path / "validation.parquet")
    streamed = {"path": str(tmp_path), "streaming": True, "steps_per_epoch": 7}
    network_ = replace(opened, data={**opened.data, **streamed})
    monkeypatch.setattr(DatasetBuilder, "download_and_prepare", None)  # what is not a stream is stored
    pictures_, source = images.verification_images(network_, 32, None, False, 8)
    assert (len(pictures_), source) == (8, f"validation images of {tmp_path}")
    monkeypatch.undo()
    data = HFImageDataModule(path=str(tmp_path), image_size=32, batch_size=2, num_workers=0, crop_pct=opened.crop_pct)
    data.mean, data.std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    data.setup("validate")
    torch.testing.assert_close(pictures_, torch.cat([batch["image"] for batch in data.val_dataloader()])[:8] / 255)
    gone = replace(network_, data={**network_.data, "path": "someone/stream"})
    assert "'someone/stream' is not on this machine" in images.verification_images(gone, 32, None, False, 8)[1]


def test_a_network_that_predicts_one_class_or_only_zeros_says_so():
    class Zeros(nn.Flatten):
        def forward(self, images):
            return super().forward(images) * 0

    found = export.difference(Zeros(), Zeros(), [torch.randn(4, 3, 2, 2)])
    assert found == (0, 0, 4, 1)
