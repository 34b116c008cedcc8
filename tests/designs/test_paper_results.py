"""The paper's rows are those of our designs, and a run finds its own."""

import csv
import json
from dataclasses import asdict

import pytest

from shvit_pl.designs.config import resolve_design
from shvit_pl.designs.cost import cost
from shvit_pl.designs.detector import DetectorConfig, detector_cost
from shvit_pl.designs.paper_results import FILE, detector_row, paper_row

LINES = list(csv.DictReader(FILE.open(newline="")))


def summary(name, image_size=224, teacher=None, **changes):
    design = asdict(resolve_design(name, **changes))
    listed = json.loads(json.dumps(design))  # as it is in the file: lists, no tuples
    return {"design": {"name": name, **listed}, "teacher": teacher, "dataset": {"image_size": image_size}}


@pytest.mark.parametrize("line", LINES, ids=lambda line: line["source"])
def test_a_run_of_a_rows_design_finds_the_row_and_has_the_parameters_that_are_printed(line):
    teacher = "regnety_160" if line["distilled"] == "yes" else None
    changes = json.loads(line["changes"])
    row = paper_row(summary(line["name"], int(line["image_size"]), teacher, distilled=bool(teacher), **changes))
    assert row.source == line["source"]
    assert 0.7 < row.top1 == float(line["top1"]) < 0.85
    assert row.gpu == float(line["gpu"]) > row.onnx == float(line["onnx"])
    assert row.cpu == (float(line["cpu"]) if line["cpu"] else None)
    assert row.conditions.startswith(f"ImageNet-1k, {line['image_size']} pixels, ")
    assert "A100, batch 256" in row.conditions
    if line["params_m"] and not line["source"].startswith("Fig. 6"):  # widths that are known
        params = cost(resolve_design(line["name"], **changes)).params
        tolerance = 0.1 if line["source"].startswith("Fig. 2") else 0.15
        assert params / 1e6 == pytest.approx(float(line["params_m"]), abs=tolerance)


@pytest.mark.parametrize(
    ("name", "run", "source"),
    [
        ("s1", {"image_size": 128}, "Table 2: SHViT-S1"),
        ("s1", {"image_size": 128, "drop_path": 0.1}, "Table 2: SHViT-S1"),
        ("s4", {"image_size": 128}, "Table 2: SHViT-S4"),
        ("s1", {"teacher": "runs/teacher", "distilled": True}, "Table 3: SHViT-S1"),
        ("s1", {"teacher": "runs/teacher"}, "Table 3: SHViT-S1"),  # with one classifier
        ("s3", {"partial_ratio": 1 / 8}, "Table 6, row 3: ratio 1/8"),
        ("s3", {"mixers": ("conv",) * 3}, "Table 6, row 2: SHSA to none"),
        ("s1", {"patch_size": 16, "stages": 3, "stage1": "conv"}, "Table 2: SHViT-S1"),
        *((name, changes, None) for name, changes in (("tiny", {}), ("macro_a", {"teacher": "runs/teacher"}))),
        *(("s1", changes, None) for changes in ({"stages": 4}, {"stage1": "attention"}, {"patch_size": 4})),
    ],
)
def test_a_run_finds_the_row_of_its_network_whatever_its_flags_and_images(name, run, source):
    row = paper_row(summary(name, **run))
    assert (row and row.source) == source


def detection(design, **detector):
    config = vars(DetectorConfig(**detector))
    return summary(design) | {"task": "detection", "detector": json.loads(json.dumps(config))}


@pytest.mark.parametrize(
    ("detector", "found"),
    [
        ({}, {"ap": 0.388, "ap_50": 0.598, "ap_small": 0.220, "mask_ap": None}),
        ({"name": "mask_rcnn", "score": 0.1}, {"ap": 0.390, "ap_50": 0.612, "ap_small": None, "mask_ap": 0.359}),
    ],
)
def test_a_detector_finds_its_row_of_table_5_whose_latency_is_the_backbones(detector, found):
    row = paper_row(detection("s4", **detector))
    assert found.items() <= asdict(row).items()
    assert (row.gpu_ms, row.onnx_ms, row.mobile_ms) == (0.28, 5.0, 3.3)
    parts = detector_cost(resolve_design("s4"), DetectorConfig(**detector), 80, 512)
    share = parts["backbone"].macs / sum(part.macs for part in parts.values())
    assert row.conditions.endswith(f"iPhone 12), {share:.0%} of this detector's MACs")
    assert "the backbone alone at 512 pixels" in row.conditions
    as_json = json.loads(json.dumps(asdict(DetectorConfig(**detector))))
    assert detector_row(resolve_design("s4"), DetectorConfig(**as_json)) == row


@pytest.mark.parametrize(("design", "detector"), [("s1", {}), ("s4", {"width": 64}), ("s4", {"norm": "group"})])
def test_another_detector_has_no_row(design, detector):
    assert paper_row(detection(design, **detector)) is None
