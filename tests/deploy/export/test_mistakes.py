"""Every mistake is one message with the flag, the value and what is allowed; nothing is written."""

import os
from pathlib import Path

import pytest

from shvit_pl.cli import main


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--format=tflite"], ["--format", "tflite", "onnx"]),
        (["--format=torchscript", "--opset=18"], ["--opset", "belongs to --format onnx", "torchscript"]),
        (["--format=coreml", "--int8"], ["--int8", "belongs to --format onnx", "coreml"]),
        (["--format=onnx", "--opset=7"], ["--opset 7", "18 to 23"]),
        (["--format=executorch", "--dtype=fp16"], ["--dtype fp16", "executorch is written in fp32"]),
        (["--format=onnx", "--int8", "--dtype=fp16"], ["--int8", "made from fp32"]),
        (["--format=onnx", "--int8"], ["--int8", "'tiny' are fresh"]),
        (["--format=onnx", "--int8_tolerance=1"], ["--int8_tolerance 1", "belongs to --int8"]),
        (["--format=onnx", "--data=digits"], ["--data digits", "belongs to --int8"]),
        (["--format=onnx", "--pretrained"], ["--pretrained", "timm:NAME"]),
        (["--format=torchscript", "--batch_size=2"], ["--batch_size", "any size"]),
        (["--format=onnx", "--batch_size=0"], ["--batch_size 0", "from 1"]),
        (["--format=onnx", "--image_size=32"], ["image_size 32", "64 pixels or more"]),
        (["--format=onnx", "--image_size=-1"], ["--image_size -1", "from 1"]),
        (["--format=onnx", "--tolerance=-1"], ["--tolerance -1", "from 0"]),
        (["--format=onnx", "--output=a.pt"], ["--output 'a.pt'", "ends in .onnx"]),
        (["--format=onnx", "--output=no/a.onnx"], ["--output 'no/a.onnx'", "there is no folder 'no'"]),
        (["--format=onnx", "--output=folder.onnx"], ["--output 'folder.onnx'", "something else is there"]),
        (["--format=onnx", "--weights=best"], ["--weights", "allowed are raw, ema"]),
    ],
    ids=str,
)
def test_a_mistake_is_answered_in_one_line(flags, told, capsys):
    Path("folder.onnx").mkdir()
    assert main(["export", "tiny", *flags]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert len(message) < 450
    for text in ("shvit-pl export: error: ", *told):
        assert text in message, message
    assert os.listdir() == ["folder.onnx"]
    assert os.listdir("folder.onnx") == []


@pytest.mark.parametrize(
    ("network", "told"),
    [("tinny", "did you mean 'tiny'"), ("no/such/run", "no such file"), ("timm:resnet19", "did you mean 'resnet18'")],
)
def test_what_is_no_network_is_answered(network, told, capsys):
    assert main(["export", network, "--format=onnx"]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert told in message
