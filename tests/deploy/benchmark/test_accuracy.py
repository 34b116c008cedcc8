"""Accuracies that are known, and pictures of one dataset each."""

import csv

import pytest
import timm

from shvit_pl.deploy.benchmark.accuracy import IMAGENET, PEERS, known_accuracy
from shvit_pl.deploy.benchmark.figure import draw_accuracy
from shvit_pl.models.open_network import open_network

UNDER = {"task": "infer", "device": "a device", "threads": 1, "torch": "2"}


@pytest.mark.parametrize(
    ("name", "pixels", "top1"),
    [("s1", 224, 72.8), ("s4", 256, 79.4), ("s4", 512, 82.0), ("s1", 512, None), ("tiny", 128, None)],
)
def test_a_design_has_the_papers_accuracy_at_the_papers_size_alone(name, pixels, top1):
    found = known_accuracy(open_network(name), pixels)
    assert (found.top1 if found else None) == top1
    assert found is None or (found.dataset == IMAGENET and "Table 2" in found.source)


def test_peers_have_the_papers_accuracy_at_their_size_alone():
    opened = open_network("timm:mobilenetv3_small_100")
    assert known_accuracy(opened, 224).top1 == 67.4
    assert known_accuracy(opened, 256) is None


def test_peers_are_models_of_timm_with_the_papers_image_size_or_its_own():
    with PEERS.open(newline="") as file:
        for line in csv.DictReader(file):
            assert timm.is_model(line["timm"]), line
            assert 60 < float(line["top1"]) < 85


def test_only_accuracies_of_the_same_dataset_share_a_picture():
    row = {"mode": "eager", "runtime": "torch", "dtype": "fp32", "batch_size": 1, "image_size": 64}
    known = [
        {**row, "model": "a", "images_per_second": 10.0, "top1": 70.0, "top1_dataset": "x", "top1_source": "run"},
        {**row, "model": "b", "images_per_second": 20.0, "top1": 60.0, "top1_dataset": "x", "top1_source": "run"},
        {**row, "model": "c", "images_per_second": 20.0, "top1": 60.0, "top1_dataset": "y", "top1_source": "run"},
        {**row, "model": "d", "images_per_second": 20.0, "top1": None, "top1_dataset": None, "top1_source": None},
    ]
    figures = draw_accuracy(known, UNDER)
    assert list(figures) == ["accuracy.png", "accuracy_2.png"]
    labels = [[text.get_text() for text in figure.axes[0].texts] for figure in figures.values()]
    assert labels == [["a (64)", "b (64)"], ["c (64)"]]
