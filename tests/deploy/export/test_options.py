"""Every mistake is a message with the flag, the value and what is allowed; nothing is written."""

import os
from pathlib import Path

import pytest

from shvit_pl.command_line import parser
from shvit_pl.command_line.parser import read_options
from shvit_pl.deploy.options import ExportOptions
from shvit_pl.errors import UserError
from tests.refusals import refusal, refused


def options(*args):
    return read_options(ExportOptions, args, command="export", description="", positional=["network"])


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--format=tflite", "--format tflite: allowed are onnx, torch-export, coreml, executorch"),
        ("--format=torch-export --opset=18", "--opset ... only with --format onnx ... torch-export"),
        ("--format=coreml --int8", "--int8 ... only with --format onnx ... coreml"),
        ("--format=onnx --opset=7", "--opset 7 ... from 18 to 23"),
        ("--format=executorch --dtype=fp16", "--dtype fp16 ... executorch is written in fp32"),
        ("--format=onnx --int8 --dtype=fp16", "--int8 ... made from fp32"),
        ("--format=onnx --int8_tolerance=1", "--int8_tolerance 1 ... only with --int8"),
        ("--format=onnx --data=digits", "--data digits ... only with --int8"),
        ("--format=onnx --pretrained", "--pretrained ... timm:NAME"),
        ("--format=onnx --batch_size=0", "--batch_size 0 ... from 1"),
        ("--format=onnx --image_size=-1", "--image_size -1 ... from 1"),
        ("--format=onnx --tolerance=-1", "--tolerance -1 ... from 0"),
        ("--format=onnx --output=a.pt", "--output 'a.pt' ... ends in .onnx"),
        ("--format=onnx --output=no/a.onnx", "--output 'no/a.onnx' ... there is no folder 'no'"),
        ("--format=onnx --output=folder.onnx", "--output 'folder.onnx' ... something else is there"),
        ("--format=onnx --weights=best", "--weights best ... allowed are raw, ema"),
        ("", "give --format"),
    ],
)
def test_a_mistake_is_refused_with_flag_value_and_what_is_allowed(flags, words):
    Path("folder.onnx").mkdir()
    with refused(words):
        options("tiny", *flags.split())


def test_all_mistakes_are_listed_at_once():
    with pytest.raises(UserError) as caught:
        options("tiny", "--format=executorch", "--dtype=fp16", "--data=digits", "--output=a.onnx")
    assert [line.split()[0] for line in str(caught.value).splitlines()] == ["--data", "--dtype", "--output"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("tiny --int8", "--int8: the weights of 'tiny' are fresh"),
        ("tiny --image_size=32", "sides of 64 pixels or more"),
        ("tinny", "did you mean 'tiny'"),
        ("no/such/run", "no such file"),
        ("timm:resnet19", "did you mean 'resnet18'"),
    ],
)
def test_the_command_answers_in_one_line_and_writes_nothing(flags, message, capsys):
    assert message in refusal(capsys, "export", *flags.split(), "--format=onnx")
    assert os.listdir() == []


@pytest.mark.parametrize(
    ("format_", "packages"), [("onnx", "onnx, onnxruntime, onnxscript"), ("coreml", "coremltools"), ("executorch",) * 2]
)
def test_each_format_names_its_extra(format_, packages, monkeypatch, capsys):
    monkeypatch.setattr(parser, "find_spec", lambda name: None)
    message = f"--format {format_} needs {packages}, of an extra: pip install 'shvit-pl[{format_}]'"
    assert message in refusal(capsys, "export", "tiny", "--format", format_)


def test_the_file_is_named_after_the_network():
    Path("run").mkdir()
    Path("some.ckpt").touch()
    names = {"run": "run/model.onnx", "some.ckpt": "some.onnx", "hf-hub:user/name@v1": "name.onnx", "s1": "s1.onnx"}
    assert {name: str(options(name, "--format=onnx").path) for name in names} == names
    assert str(options("run", "--format=onnx", "--int8").path) == "run/model_int8.onnx"
