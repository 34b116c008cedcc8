"""Detectors in a benchmark: the parts that are measured make the whole, and NMS has work in every one."""

import csv
import json
from pathlib import Path

import pytest
import torch
from torchvision.models import detection

from shvit_pl.cli import main
from shvit_pl.deploy.benchmark import WHOLE, Cell
from shvit_pl.deploy.detector_benchmark import BACKBONE, CANDIDATES, REST, DetectorBuilder, open_detector
from shvit_pl.designs.config import resolve_design
from shvit_pl.designs.detector import DetectorConfig, detector_cost
from tests.docs.pages import ROOT
from tests.refusals import refusal

CPU = torch.device("cpu")
IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
SMALL = {"retinanet": "width: 16, convs: 1", "mask_rcnn": "width: 16, convs: 1, detections: 10"}
QUICK = ["--device=cpu", "--image-size=64", "--blocks=5", "--seconds=0.002"]


@pytest.fixture(params=["retinanet"])
def config(request, tmp_path, monkeypatch):
    """The name of a config of a small detector."""
    monkeypatch.chdir(tmp_path)
    name = f"{request.param}.yaml"
    detector = f"{{name: {request.param}, {SMALL[request.param]}}}"
    Path(name).write_text(f"task: detection\nmodel: {{design: {{name: tiny}}, detector: {detector}}}\n")
    return name


def same(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        for key, values in one.items():
            torch.testing.assert_close(values, other[key], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("config", SMALL, indirect=True)
def test_the_rest_on_the_backbones_maps_finds_what_the_whole_does(config):
    builder = DetectorBuilder({config: open_detector(config, None)}, CPU)
    calls = builder.calls(Cell(config, "torch", "eager", "fp32", 2, 64), IMAGES)
    found = calls[WHOLE]()
    assert all(len(each["boxes"]) for each in found)  # fresh weights would find nothing
    same(calls[REST](), found)
    assert [each.shape[-1] for each in calls[BACKBONE]()] == [4, 2, 1]


def test_as_many_pairs_go_to_nms_in_every_detector(config):
    builder = DetectorBuilder({config: open_detector(config, None)}, CPU)
    model, costs = builder.deployed(config, 64)
    noise = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    scores = model.head(list(model.backbone(noise).values()))["cls_logits"].sigmoid()
    assert int((scores > model.score_thresh).sum()) == pytest.approx(CANDIDATES, abs=20)  # scores may be equal
    assert costs == detector_cost(resolve_design("tiny"), DetectorConfig(width=16, convs=1), 80, 64)


def test_a_row_has_the_times_and_costs_of_the_parts(config, capsys):
    assert main(["benchmark", config, *QUICK, "--batch-size=2"]) == 0
    with Path("benchmark/benchmark.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["mode"], row["dtype"], row["ratio"]) == ("eager", "fp32", "1.0")
    for quantity in ("params", "macs"):
        assert sum(int(row[f"{part}_{quantity}"]) for part in ("backbone", "pyramid", "head")) == int(row[quantity])
    assert all(float(row[f"{part}_ms"]) > 0 for part in (BACKBONE, REST))
    printed = " ".join(capsys.readouterr().out.split())
    assert "ratio backbone ms rest ms" in printed
    assert "its stages alone, the latency of the paper's Table 5" in printed
    facts = json.loads(Path("benchmark/environment.json").read_text())
    assert facts["models"][config]["origin"] == "config"
    assert {"backbone_ms", "rest_ms", "NMS"} <= facts["explained"].keys()


def test_the_papers_latency_stands_beside_the_backbones(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["benchmark", "detection/retinanet_s4.yaml", *QUICK, "--batch-size=1"]) == 0
    assert "the paper, Table 5: RetinaNet on SHViT-S4: AP 0.388; backbone alone GPU 0.28 ms" in capsys.readouterr().out


def test_the_page_says_the_shares_that_the_costs_have():
    text = " ".join((ROOT / "docs" / "detection.md").read_text().split())
    s1, s4 = (detector_cost(resolve_design(name), DetectorConfig(), 80, 512) for name in ("s1", "s4"))
    whole, backbone = sum(part.macs for part in s4.values()) / 1e9, s4["backbone"].macs / 1e9
    assert f"Of the {whole:.1f} GMACs of its own RetinaNet the backbone has {backbone:.1f}" in text
    assert f"at most {whole / (whole - 2 / 3 * backbone):.1f} times as fast by MACs" in text
    assert f"the head has {s1['head'].macs / sum(part.macs for part in s1.values()):.0%}".replace("%", " %") in text


@pytest.mark.slow
def test_a_graph_is_a_row_of_its_own(config):
    assert main(["benchmark", config, *QUICK, "--batch-size=1", "--runtime=torch,onnx"]) == 0
    with Path("benchmark/benchmark.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["runtime"], bool(row["rest_ms"])) for row in rows] == [("torch", True), ("onnx", False)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("build", "outputs", "head"),
    [
        (detection.retinanet_resnet50_fpn, 80, ["head"]),
        (detection.maskrcnn_resnet50_fpn, 81, ["rpn", "roi_heads"]),
    ],
    ids=["retinanet", "mask_rcnn"],
)
def test_torchvisions_parts_are_counted_and_are_all_of_it(build, outputs, head):
    name = f"torchvision:{build.__name__}"
    builder = DetectorBuilder({name: open_detector(name, None)}, CPU)
    model, costs = builder.deployed(name, 64)
    whole = build(weights=None, weights_backbone=None, num_classes=outputs).eval()
    parts = (whole.get_submodule(part) for part in head)
    assert costs["head"].params == sum(parameter.numel() for part in parts for parameter in part.parameters())
    assert costs["pyramid"].params == sum(parameter.numel() for parameter in whole.backbone.fpn.parameters())
    calls = builder.calls(Cell(name, "torch", "eager", "fp32", 2, 64), IMAGES)
    same(calls[REST](), calls[WHOLE]())
    assert all(cost.macs > 0 for cost in costs.values())
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in model.modules())


@pytest.mark.parametrize("config", ["mask_rcnn"], indirect=True)
def test_a_detector_without_a_graph_is_not_measured_as_one(config, capsys):
    message = refusal(capsys, "benchmark", config, "--device=cpu", "--runtime=onnx", "--batch-size=1")
    assert f"--runtime onnx: {config} has no graph, only our RetinaNet has" in message


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("retinanet.yaml tiny", "retinanet.yaml can't be compared with tiny: give detectors alone, or classifiers"),
        ("nix.yaml", "models 'nix.yaml': no such file"),
        ("s1.yaml", "'s1.yaml': no config of detection; to measure a classifier, give its design"),
        ("torchvision:fcos", "models 'torchvision:fcos': no detector ... torchvision:retinanet_resnet50_fpn"),
        ("retinanet.yaml --weights=raw", "--weights raw: only for a run"),
        ("retinanet.yaml --train", "--train: for networks that classify images; python -m benchmarks.detectors"),
        ("retinanet.yaml --protocol=official", "--protocol official: for networks that classify images"),
        ("retinanet.yaml --mode=eager,optimized", "--mode eager, optimized: a detector runs eager"),
        ("retinanet.yaml --optimize", "--mode optimized: a detector runs eager"),
        ("retinanet.yaml --image-size=100", "--image_size 100: for a detector, allowed are multiples of 32"),
        ("retinanet.yaml --runtime=onnx", "one image at a time; give --batch_size 1"),
    ],
)
def test_what_no_detector_has_is_refused(config, flags, words, capsys):
    message = refusal(capsys, "benchmark", *flags.split(), "--device=cpu")
    assert all(part in message for part in words.split(" ... ")), message
    assert not Path("benchmark").exists()
