"""Mistakes are answered in one short line, before anything is measured."""

from pathlib import Path

import pytest
import torch

from shvit_pl.cli import main

MISTAKES = [
    (["tinny"], "did you mean 'tiny'"),
    (["resnet18"], "write timm:resnet18"),
    (["timm:resnet19"], "did you mean 'resnet18'"),
    (["runs/none/version_0"], "no such file"),
    ([], "models"),
    (["tiny", "--batch-size=0"], "--batch-size '0': allowed are whole numbers from 1"),
    (["tiny", "--batch-size=1,two"], "--batch-size 'two'"),
    (["tiny", "--batch-size="], "--batch-size ''"),
    (["tiny", "--image-size=224.5"], "--image-size '224.5'"),
    (["tiny", "--image-size=8", "--device=cpu"], "sides of 64 pixels or more"),
    (["tiny", "--dtype=fp31"], "did you mean 'fp32'"),
    (
        ["tiny", "--mode=fast"],
        "--mode 'fast': allowed are official, eager, compiled, reduce-overhead, max-autotune, optimized",
    ),
    (["tiny", "--runtime=tensorrt"], "--runtime 'tensorrt': allowed are torch, onnx"),
    (["tiny", "--runtime=onnx", "--dtype=bf16"], "with --runtime onnx, allowed is fp32"),
    (["tiny", "--runtime=onnx", "--mode=eager"], "--mode eager: it is of --runtime torch"),
    (["tiny", "--runtime=onnx", "--train"], "--train trains"),
    (["tiny", "--train", "--dtype=fp16"], "fp32 or bf16"),
    (["tiny", "--train", "--batch-size=3", "--image-size=64", "--device=cpu"], "the batch must be even"),
    (["tiny", "--blocks=2"], "--blocks 2: allowed are whole numbers from 5"),
    (["tiny", "--seconds=0"], "--seconds 0.0: allowed are seconds above 0"),
    (["tiny", "--seconds=inf"], "seconds inf"),
    (["tiny", "--threads=0"], "--threads 0"),
    (["tiny", "--warm-up=3"], "of --protocol official"),
    (["tiny", "--protocol=official", "--mode=eager"], "--protocol official sets it itself"),
    (["tiny", "--protocol=official", "--threads=2"], "one thread"),
    (["tiny", "--device=tpu"], "--device 'tpu': allowed are auto, cpu"),
    (["tiny", "--device=cpu:5"], "--device 'cpu:5': allowed are auto, cpu"),
    (["tiny", "--device=cuda:01"], "--device 'cuda:01': allowed are auto, cpu"),
    (["tiny", "--device=cuda:-1"], "--device 'cuda:-1': allowed are auto, cpu"),
    (["tiny", "--output="], "give a folder"),
    (["tiny", "--output=."], "the command runs inside this folder"),
    (["tiny", "--compare=nowhere"], "no whole benchmark is there"),
    (["tiny", "--weights=best"], "--weights 'best': allowed are raw, ema"),
    (["tiny", "--fast"], "--fast: no such flag"),
]


@pytest.mark.parametrize(("args", "told"), MISTAKES, ids=[" ".join(args) or "nothing" for args, _ in MISTAKES])
def test_a_mistake_is_one_line_and_nothing_is_written(args, told, capsys):
    assert main(["benchmark", *args]) == 2
    message = capsys.readouterr().err
    assert told in message
    assert message.startswith("shvit-pl benchmark: error: ")
    assert message.count("\n") == 1
    assert len(message) < 450
    assert list(Path().iterdir()) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="of a machine without one")
def test_a_gpu_that_is_not_here_is_said(capsys):
    assert main(["benchmark", "tiny", "--device=cuda"]) == 2
    assert "torch finds no such device here" in capsys.readouterr().err
