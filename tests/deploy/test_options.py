"""Flags of `benchmark` and `export`: a line for each mistake, before anything is measured or written."""

import os
from pathlib import Path

import pytest
import torch

from shvit_pl.command_line import parser
from shvit_pl.command_line.parser import read_options
from shvit_pl.compat import cores_of_process
from shvit_pl.deploy.benchmark import plan
from shvit_pl.deploy.measuring import chosen_device
from shvit_pl.deploy.options import BenchmarkOptions, ExportOptions
from shvit_pl.errors import UserError
from tests.cli.runs import needs_two_cores
from tests.refusals import refusal, refused

KINDS = {"benchmark": (BenchmarkOptions, "models"), "export": (ExportOptions, "network")}
SIZES = {"s1": 224, "s4": 256}
MODES = "official, eager, compiled, reduce-overhead, max-autotune, optimized"


def options(command, *args):
    kind, positional = KINDS[command]
    return read_options(kind, args, command=command, description="", positional=[positional])


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("benchmark", "missing MODELS: a design (s1), run folder, checkpoint, Hub repo"),
        ("benchmark tiny --batch-size=0", "--batch_size 0: allowed are whole numbers from 1 to 1048576"),
        ("benchmark tiny --dtype=fp31", "did you mean 'fp32'"),
        ("benchmark tiny --mode=fast", f"--mode fast: allowed are {MODES}"),
        ("benchmark tiny --runtime=tensorrt", "--runtime tensorrt: allowed are torch, onnx"),
        ("benchmark tiny --runtime=onnx --dtype=bf16", "--dtype bf16: with --runtime onnx, allowed is fp32"),
        ("benchmark tiny --runtime=onnx --mode=eager", "--mode eager: it needs --runtime torch"),
        ("benchmark tiny --runtime=onnx --train", "--runtime onnx: for inference only"),
        ("benchmark tiny --train --dtype=fp16", "fp32 or bf16"),
        ("benchmark tiny --blocks=2", "--blocks 2: allowed are whole numbers from 5"),
        ("benchmark tiny --seconds=0", "--seconds 0: allowed are numbers above 0"),
        ("benchmark tiny --threads=999", f"--threads 999: allowed are whole numbers from 1 to {cores_of_process()}"),
        ("benchmark tiny --warm-up=3", "--warm_up: only with --protocol official"),
        ("benchmark tiny --protocol=official --mode=eager,compiled", "--mode eager,compiled: --protocol official sets"),
        ("benchmark tiny --protocol=official --train", "--train True: --protocol official sets it itself"),
        ("benchmark tiny --protocol=official --runtime=onnx", "--runtime onnx: --protocol official sets it itself"),
        pytest.param(
            "benchmark tiny --protocol=official --threads=2",
            "--threads 2: --protocol official uses one thread",
            marks=needs_two_cores,
        ),
        ("benchmark tiny --output=", "--output '': give a folder"),
        ("benchmark tiny --output=.", "the command runs inside this folder"),
        ("benchmark tiny --compare=", "--compare '': give a folder"),
        ("benchmark tiny --weights=best", "--weights best: allowed are raw, ema"),
        ("benchmark tiny timm:vgg11 --weights=ema", "--weights ema: only for a run or a ... with tiny, timm:vgg11."),
        ("export tiny --format=tflite", "--format tflite: allowed are onnx, torch-export, coreml, executorch"),
        ("export tiny --format=torch-export --opset=18", "--opset ... only with --format onnx ... torch-export"),
        ("export tiny --format=coreml --int8", "--int8 ... only with --format onnx ... coreml"),
        ("export tiny --format=onnx --opset=7", "--opset 7 ... from 18 to 23"),
        ("export tiny --format=executorch --dtype=fp16", "--dtype fp16 ... executorch is written in fp32"),
        ("export tiny --format=onnx --int8 --dtype=fp16", "--int8 ... quantized from fp32"),
        ("export tiny --format=onnx --int8_tolerance=1", "--int8_tolerance 1 ... only with --int8"),
        ("export tiny --format=onnx --data=", "--data '' ... give a dataset"),
        ("export tiny --format=onnx --pretrained", "--pretrained ... timm:NAME"),
        ("export test_vit --format=onnx --pretrained --opset=3", "--opset 3"),  # a model of timm without prefix
        ("export tiny --format=onnx --batch_size=0", "--batch_size 0 ... from 1"),
        ("export tiny --format=onnx --image_size=-1", "--image_size -1 ... from 1"),
        ("export tiny --format=onnx --tolerance=-1", "--tolerance -1 ... from 0"),
        ("export tiny --format=onnx --output=a.pt", "--output 'a.pt' ... ends in .onnx"),
        ("export tiny --format=onnx --output=no/a.onnx", "--output 'no/a.onnx' ... there is no folder 'no'"),
        ("export tiny --format=onnx --output=folder.onnx", "--output 'folder.onnx' ... something else is there"),
        ("export tiny --format=onnx --weights=best", "--weights best ... allowed are raw, ema"),
        ("export tiny --format=onnx --weights=raw", "--weights raw: only for a run"),
        ("export tiny", "missing --format: file format, such as onnx."),
        ("export tiny --format=onnx --precision int8", "--precision: no such flag (did you mean '--dtype'?)"),
    ],
)
def test_a_mistake_is_refused_with_flag_value_and_what_is_allowed(line, words):
    Path("folder.onnx").mkdir()
    with refused(words):
        options(*line.split())


@pytest.mark.parametrize(
    ("line", "flags"),
    [
        ("benchmark tiny --runtime=onnx --train --mode=eager --warm_up=1", ["--warm_up", "--runtime", "--mode"]),
        ("benchmark --seconds=0 --blocks=2 --warm_up=3", ["--seconds", "--blocks", "missing", "--warm_up"]),
        ("benchmark tiny --protocol=offical --warm_up=3", ["--protocol"]),
        ("export tiny --format=coreml --int8 --opset=3", ["--opset", "--int8"]),
        ("export tiny --int8 --opset=3", ["--opset", "missing"]),
        (
            "export tiny --format=executorch --dtype=fp16 --data= --output=a.onnx",
            ["--data", "--dtype", "--output"],
        ),
        ("benchmark s1 nosuch --device tpu --dtype fp16 --train", ["--device", "'nosuch'", "--dtype"]),
        ("benchmark s1 --device tpu --threads 99 --outptu x", ["--outptu", "--threads", "--device"]),
    ],
)
def test_all_mistakes_are_listed_at_once(line, flags):
    with pytest.raises(UserError) as caught:
        options(*line.split())
    assert [mistake.split()[0].strip(":") for mistake in str(caught.value).splitlines()] == flags


def test_other_devices_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with refused("--device cuda: torch finds no such device here"):
        chosen_device("cuda")
    with pytest.raises(UserError, match=r"--device cuda: .*\n'tinny': .* 'tiny'.*\n's11': .* 's1'"):
        options("benchmark", "tinny", "s11", "--device=cuda")
    for name in ("tpu", "cpu:5", "cuda:01", "cuda:-1"):
        with refused(f"--device '{name}': allowed are auto, cpu"):
            chosen_device(name)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("benchmark tiny --image-size=8 --device=cpu", "benchmark: error: --image_size 8: this design halves"),
        ("benchmark tiny --train --batch-size=3 --image-size=64 --device=cpu", "the batch must be even"),
        ("benchmark tiny --compare=nowhere", "no complete benchmark is there (nowhere/environment.json is missing)"),
        ("export tiny --format=onnx --int8", "--int8: the weights of 'tiny' are fresh"),
        ("export tiny --format=onnx --image_size=32", "sides of 64 pixels or more"),
        ("export no/such/run --format=onnx", "no such file"),
        ("export timm:resnet19 --format=onnx", "did you mean 'resnet18'"),
    ],
)
def test_the_command_answers_in_one_line_and_writes_nothing(line, message, capsys):
    assert message in refusal(capsys, *line.split())
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
    assert {name: str(options("export", name, "--format=onnx").path) for name in names} == names
    assert str(options("export", "run", "--format=onnx", "--int8").path) == "run/model_int8.onnx"


@pytest.mark.parametrize(("device", "batch", "official"), [("cpu", 16, "fp32"), ("cuda", 256, "fp16 autocast")])
def test_a_group_has_each_network_in_every_way_at_its_own_size_or_at_those_asked_for(device, batch, official):
    flags = ["--mode=official,eager", "--dtype=fp32,bf16", "--runtime=torch,onnx"]
    (group,) = plan(options("benchmark", "s1", "s4", *flags), SIZES, device)
    ways = [(cell.mode or cell.runtime, cell.dtype) for cell in group if cell.model == "s1"]
    assert ways == [("official", official), ("eager", "fp32"), ("eager", "bf16"), ("onnx", "fp32")]
    shapes = [(cell.model, cell.image_size, cell.batch_size) for cell in group]
    assert shapes == [("s1", 224, batch)] * 4 + [("s4", 256, batch)] * 4
    groups = plan(options("benchmark", "s1", "--batch-size=1,32", "--image-size=224,512"), SIZES, device)
    shapes = [(cell.batch_size, cell.image_size_asked) for (cell, *_) in groups]
    assert shapes == [(1, 224), (1, 512), (32, 224), (32, 512)]


@pytest.mark.parametrize(
    ("flags", "modes", "seconds"),
    [
        ("", ("eager", "optimized"), 0.5),
        ("--train", ("eager",), 0.5),
        ("--mode=official --optimize", ("official", "optimized"), 0.5),
        ("--protocol=official", ("official",), 60),
        ("--protocol=official --seconds=1", ("official",), 1),
    ],
)
def test_defaults_follow_the_protocol_and_the_task(flags, modes, seconds):
    asked = options("benchmark", "s1", *flags.split())
    assert (asked.modes, asked.block_seconds) == (modes, seconds)
