"""Flags of a benchmark: a line for each mistake, before anything is measured; and the cells that they ask for."""

from pathlib import Path

import pytest
import torch

from shvit_pl.deploy.benchmark import plan
from shvit_pl.deploy.measuring import chosen_device
from shvit_pl.errors import UserError
from tests.deploy.benchmark.small import options
from tests.refusals import refusal, refused

SIZES = {"s1": 224, "s4": 256}
MODES = "official, eager, compiled, reduce-overhead, max-autotune, optimized"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("", "give models; see --help"),
        ("tiny --batch-size=0", "--batch_size 0: allowed are whole numbers from 1 to 1048576"),
        ("tiny --batch-size=1,two", "--batch_size two"),
        ("tiny --dtype=fp31", "did you mean 'fp32'"),
        ("tiny --mode=fast", f"--mode fast: allowed are {MODES}"),
        ("tiny --runtime=tensorrt", "--runtime tensorrt: allowed are torch, onnx"),
        ("tiny --runtime=onnx --dtype=bf16", "--dtype bf16: with --runtime onnx, allowed is fp32"),
        ("tiny --runtime=onnx --mode=eager", "--mode eager: it needs --runtime torch"),
        ("tiny --runtime=onnx --train", "--runtime onnx: no training steps"),
        ("tiny --train --dtype=fp16", "fp32 or bf16"),
        ("tiny --blocks=2", "--blocks 2: allowed are whole numbers from 5"),
        ("tiny --seconds=0", "--seconds 0: allowed are numbers above 0"),
        ("tiny --threads=0", "--threads 0: allowed are whole numbers from 1 to 4096"),
        ("tiny --warm-up=3", "--warm_up: only with --protocol official"),
        ("tiny --protocol=official --mode=eager,compiled", "--mode eager,compiled: --protocol official sets it"),
        ("tiny --protocol=official --train", "--train True: --protocol official sets it itself"),
        ("tiny --protocol=official --runtime=onnx", "--runtime onnx: --protocol official sets it itself"),
        ("tiny --protocol=official --threads=2", "--threads 2: --protocol official uses one thread"),
        ("tiny --output=", "--output '': give a folder"),
        ("tiny --output=.", "the command runs inside this folder"),
        ("tiny --compare=", "--compare '': give a folder"),
        ("tiny --weights=best", "--weights best: allowed are raw, ema"),
    ],
)
def test_a_mistake_is_refused_with_flag_value_and_what_is_allowed(args, message):
    with refused(message):
        options(*args.split())


def test_all_mistakes_are_listed_at_once():
    with pytest.raises(UserError) as caught:
        options("tiny", "--runtime=onnx", "--train", "--mode=eager", "--warm_up=1")
    flags = [line.split(":")[0] for line in str(caught.value).splitlines()]
    assert flags == ["--warm_up", "--runtime onnx", "--mode eager"]


def test_other_devices_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with refused("--device cuda: torch finds no such device here"):
        chosen_device("cuda")
    for name in ("tpu", "cpu:5", "cuda:01", "cuda:-1"):
        with refused(f"--device '{name}': allowed are auto, cpu"):
            chosen_device(name)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("tinny", "did you mean 'tiny'"),
        ("tiny --image-size=8 --device=cpu", "sides of 64 pixels or more"),
        ("tiny --train --batch-size=3 --image-size=64 --device=cpu", "the batch must be even"),
        ("tiny --device=tpu", "--device 'tpu'"),
        ("tiny --compare=nowhere", "no whole benchmark is there"),
    ],
)
def test_the_command_answers_in_one_line_and_writes_nothing(args, message, capsys):
    assert message in refusal(capsys, "benchmark", *args.split())
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(("device", "batch", "official"), [("cpu", 16, "fp32"), ("cuda", 256, "fp16 autocast")])
def test_a_group_has_each_network_in_every_way_at_its_own_size_or_at_those_asked_for(device, batch, official):
    flags = ["--mode=official,eager", "--dtype=fp32,bf16", "--runtime=torch,onnx"]
    (group,) = plan(options("s1", "s4", *flags), SIZES, device)
    ways = [(cell.mode or cell.runtime, cell.dtype) for cell in group if cell.model == "s1"]
    assert ways == [("official", official), ("eager", "fp32"), ("eager", "bf16"), ("onnx", "fp32")]
    shapes = [(cell.model, cell.image_size, cell.batch_size) for cell in group]
    assert shapes == [("s1", 224, batch)] * 4 + [("s4", 256, batch)] * 4
    groups = plan(options("s1", "--batch-size=1,32", "--image-size=224,512"), SIZES, device)
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
    asked = options("s1", *flags.split())
    assert (asked.modes, asked.block_seconds) == (modes, seconds)
