"""int8 comes with its accuracy and speed beside those of float, and is refused where it costs too much."""

import os
import re
from pathlib import Path

import onnx
import pytest

from shvit_pl.cli import main
from tests.deploy.export.conftest import read_metadata

pytestmark = pytest.mark.slow


def test_int8_is_smaller_and_says_what_it_costs(run, capfd):
    assert main(["export", str(run), "--format=onnx", "--int8", "--int8_tolerance=100", "--output=a.onnx"]) == 0
    printed, noise = capfd.readouterr()
    assert noise == ""
    accuracies = re.search(r"int8: top-1 (\S+) % \(float (\S+) %\) on 360 validation images of digits", printed)
    assert all(0 <= float(number) <= 100 for number in accuracies.groups())
    assert all(float(number) > 0 for number in re.search(r"int8: (\d+) images/s \(float (\d+)\)", printed).groups())
    kinds = [node.op_type for node in onnx.load("a.onnx").graph.node]
    assert kinds.count("QuantizeLinear") >= kinds.count("Conv") > 0
    assert main(["export", str(run), "--format=onnx", "--output=float.onnx"]) == 0
    assert Path("a.onnx").stat().st_size < 0.5 * Path("float.onnx").stat().st_size
    assert read_metadata("onnx", "a.onnx")["labels"] == read_metadata("onnx", "float.onnx")["labels"]


def test_int8_that_costs_too_much_is_not_written(plain_run, capsys):
    code = main(["export", str(plain_run), "--format=onnx", "--int8", "--int8_tolerance=0", "--output=a.onnx"])
    output = capsys.readouterr()
    if code == 0:  # whatever it measured, file and message agree
        found = re.search(r"int8: top-1 (\S+) % \(float (\S+) %\)", output.out)
        assert float(found[1]) >= float(found[2])
        assert os.listdir() == ["a.onnx"]
    else:
        found = re.search(r"top-1 falls from (\S+) to (\S+) %", output.err)
        assert float(found[1]) > float(found[2])
        assert os.listdir() == []


def test_images_of_other_classes_are_refused(plain_run, image_folder, capsys):
    assert main(["export", str(plain_run), "--format=onnx", "--int8", f"--data={image_folder}", "--output=a.onnx"]) == 2
    assert "so top-1 means nothing" in capsys.readouterr().err
    assert not Path("a.onnx").exists()
