"""Known accuracies, pictures of one dataset each, and earlier benchmarks, which need the same conditions."""

import csv
import json
import shutil
from pathlib import Path

import pytest
import timm

from shvit_pl.deploy.benchmark import plan
from shvit_pl.deploy.benchmark_report import (
    ENVIRONMENT,
    IMAGENET,
    PEERS,
    TABLE,
    check_output,
    draw,
    known_accuracy,
    ratio,
    read_earlier,
)
from shvit_pl.deploy.measuring import write_results
from shvit_pl.models.open_network import open_network
from tests.deploy.test_options import options
from tests.fractions import assert_fractions
from tests.refusals import refused

UNDER = {"task": "infer", "device": "a device", "threads": 1, "torch": "2"}
KEY = {"model": "s1", "runtime": "torch", "mode": "eager", "dtype": "fp32", "batch_size": 2, "image_size": 64}
GROUPS = plan(options("benchmark", "s1", "--batch_size=2", "--mode=eager,official"), {"s1": 64}, "cpu")
PEER = "timm:mobilenetv3_small_100"


@pytest.mark.parametrize(
    ("name", "top1_by_pixels"),
    [
        ("s1", {224: 0.728, 512: None}),
        ("s4", {256: 0.794, 512: 0.820}),
        ("tiny", {128: None}),
        (PEER, {224: 0.674, 256: None}),
    ],
)
def test_a_network_of_the_paper_has_its_accuracy_at_its_size_alone(name, top1_by_pixels):
    opened = open_network(name)
    for pixels, top1 in top1_by_pixels.items():
        found = known_accuracy(opened, pixels)
        assert (found.top1 if found else None) == top1
        assert found is None or name == PEER or (found.dataset == IMAGENET and "Table 2" in found.source)


def test_peers_are_models_of_timm():
    with PEERS.open(newline="") as file:
        for line in csv.DictReader(file):
            assert timm.is_model(line["timm"]), line
            assert 0.6 < float(line["top1"]) < 0.85


def test_only_accuracies_of_the_same_dataset_share_a_picture():
    known = [
        KEY | {"model": name, "images_per_second": 10.0, "top1": top1, "top1_dataset": dataset, "top1_source": "run"}
        for name, top1, dataset in (("a", 0.7, "x"), ("b", 0.6, "x"), ("c", 0.6, "y"), ("d", None, None))
    ]
    figures = draw(known, UNDER)
    assert_fractions(*figures.values())
    assert figures["accuracy.png"].axes[0].get_ylabel() == "top-1 on x"
    labels = {name: [text.get_text() for text in figure.axes[0].texts] for name, figure in figures.items()}
    assert labels == {"accuracy.png": ["a (64)", "b (64)"], "accuracy_2.png": ["c (64)"]}


@pytest.fixture
def earlier():
    """A folder of a benchmark with one row."""
    tables = {TABLE: [KEY | {"images_per_second": 2.0}]}
    write_results(Path("earlier"), tables, (ENVIRONMENT, {"conditions": UNDER}), {})
    return "earlier"


def test_ratios_to_an_earlier_benchmark_are_row_by_row(earlier):
    found = read_earlier(earlier, UNDER, GROUPS)
    rows = [KEY | {"mode": mode, "images_per_second": 3.0} for mode in ("eager", "official")]
    assert [ratio(row, found) for row in rows] == [1.5, None]
    assert read_earlier(None, UNDER, GROUPS) is None
    with refused("none of these rows ... there it is s1, torch, eager, fp32, 2, 64"):
        read_earlier(earlier, UNDER, plan(options("benchmark", "s1", "--batch_size=3"), {"s1": 64}, "cpu"))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        *[(content, "no complete benchmark") for content in ("", "{", '{"conditions": 3}')],
        (json.dumps({"conditions": UNDER | {"device": "another"}}), "other conditions: device is another there and a "),
        (
            json.dumps({"conditions": UNDER | {"threads": 9, "torch": 1, "task": 0, "a": 0}}),
            "torch is 1 ... and 1 more",
        ),
    ],
)
def test_a_damaged_benchmark_and_other_conditions_are_refused_with_the_difference(earlier, content, words):
    Path(earlier, "environment.json").write_text(content)
    with refused(f"--compare 'earlier': ... {words}"):
        read_earlier(earlier, UNDER, GROUPS)
    with refused(f"--output 'earlier': ... {words}"):
        check_output(earlier, UNDER)


def test_a_benchmark_alike_may_be_replaced_and_other_files_may_not(earlier):
    check_output(earlier, json.loads(json.dumps(UNDER)))
    check_output("new", UNDER)
    shutil.copy("earlier/benchmark.csv", "earlier/mine.csv")
    with refused("contains other files"):
        check_output(earlier, UNDER)
