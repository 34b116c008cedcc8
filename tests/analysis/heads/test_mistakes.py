"""Every mistake is one message with the flag, the value and what is allowed; nothing is written."""

import os

import pytest

from shvit_pl.cli import main
from tests.analysis.heads.studies import heads


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--images=0"], ["--images 0", "from 1"]),
        (["--ablation_images=0"], ["--ablation_images 0", "from 1"]),
        (["--batch_size=-1"], ["--batch_size -1", "from 1"]),
        (["--image_size=0"], ["--image_size 0", "from 1"]),
        (["--image=-1"], ["--image -1", "from 0"]),
        (["--image=6"], ["--image 6", "0 to 5"]),
        (["--image=900", "--images=1000"], ["--image 900", "0 to 359"]),
        (["--query=3"], ["--query '3'", "6,7"]),
        (["--query=-1,2"], ["--query '-1,2'", "from 0"]),
        (["--query=2,0", "--image_size=64"], ["--query 2,0", "0 to 1 at 64 px"]),
        (["--vectorise=rows"], ["--vectorise", "'rows'", "map, query"]),
        (["--class_token=no"], ["--class_token", "'no'", "keep, drop"]),
        (["--labels=mine"], ["--labels", "'mine'", "dataset, network"]),
        (["--labels=dataset"], ["--labels dataset", "1000 classes", "'digits' has 10", "--data"]),
        (["--device=tpu"], ["--device 'tpu'", "auto, cpu"]),
        (["--output="], ["--output ''", "heads"]),
        (["--data=no/such/folder"], ["--data 'no/such/folder'", "no such file"]),
        (["--pretrained"], ["--pretrained", "timm:NAME"]),
        (["--image_size=32"], ["image_size 32", "64 pixels or more"]),
        (["--data="], ["--data ''", "such as digits"]),
        (["--checkpoint=w.pth"], ["--checkpoint", "timm:NAME"]),
        (["--head=1"], ["--head", "no such flag"]),
    ],
    ids=str,
)
def test_a_mistake_is_answered_in_one_line(flags, told, capsys):
    assert heads("tiny", *flags) == 2
    check(capsys.readouterr().err, told)


@pytest.mark.parametrize(
    ("network", "told"),
    [
        ("tinny", ["did you mean 'tiny'"]),
        ("timm:deit_tiny", ["'timm:deit_tiny'", "did you mean"]),
        ("no/such/run", ["no such file"]),
        ("timm:vit_small_patch14_dinov2", ["not a classifier", "num_classes"]),
        ("timm:resnet18", ["no attention whose heads can be seen", "timm:deit_tiny_patch16_224"]),
        ("s3_no_attention", ["no attention whose heads can be seen"]),
    ],
)
def test_what_is_no_network_with_attention_is_answered(network, told, capsys):
    assert heads(network) == 2
    check(capsys.readouterr().err, told)


@pytest.mark.parametrize(("study", "told"), [("head", "did you mean 'heads'"), ("", "allowed are heads")])
def test_a_study_that_there_is_not_is_answered(study, told, capsys):
    assert main(["analyze", study]) == 2
    check(capsys.readouterr().err, [told])


def check(message, told):
    assert message.startswith("shvit-pl analyze")
    assert message.count("\n") == 1
    assert len(message) < 450
    for text in told:
        assert text in message, message
    assert os.listdir() == []
