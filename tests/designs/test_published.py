"""The paper's rows are those of our designs, and a run finds its own."""

import csv
import json
from dataclasses import asdict

import pytest

from shvit_pl.designs.config import resolve_design
from shvit_pl.designs.cost import cost
from shvit_pl.designs.published import FILE, paper_row

LINES = list(csv.DictReader(FILE.open(newline="")))
COUNTED = [line for line in LINES if line["params_m"] and not line["source"].startswith("Fig. 6")]  # of known widths


def summary(name, image_size=224, teacher=None, **changes):
    design = asdict(resolve_design(name, **changes))
    listed = json.loads(json.dumps(design))  # as it is in the file: lists, no tuples
    return {"design": {"name": name, **listed}, "teacher": teacher, "dataset": {"image_size": image_size}}


@pytest.mark.parametrize("line", LINES, ids=lambda line: line["source"])
def test_a_run_of_a_rows_design_finds_the_row(line):
    teacher = "regnety_160" if line["distilled"] == "yes" else None
    changes = json.loads(line["changes"])
    row = paper_row(summary(line["name"], int(line["image_size"]), teacher, distilled=bool(teacher), **changes))
    assert row.source == line["source"]
    assert 70 < row.top1 == float(line["top1"]) < 85
    assert row.gpu == float(line["gpu"]) > row.onnx == float(line["onnx"])
    assert row.cpu == (float(line["cpu"]) if line["cpu"] else None)
    assert row.conditions.startswith(f"ImageNet-1k, {line['image_size']} pixels, ")
    assert "A100, batch 256" in row.conditions


@pytest.mark.parametrize("line", COUNTED, ids=lambda line: line["source"])
def test_the_design_has_as_many_parameters_as_are_printed(line):
    params = cost(resolve_design(line["name"], **json.loads(line["changes"]))).params
    assert params / 1e6 == pytest.approx(float(line["params_m"]), abs=0.15)


def test_the_size_of_the_images_and_the_data_do_not_matter():
    assert paper_row(summary("s1", image_size=128)).source == "Table 2: SHViT-S1"
    assert paper_row(summary("s1", image_size=128, drop_path=0.1)).source == "Table 2: SHViT-S1"
    assert paper_row(summary("s4", image_size=128)).source == "Table 2: SHViT-S4"


def test_a_distilled_run_finds_the_distilled_row():
    taught = paper_row(summary("s1", teacher="runs/teacher", distilled=True))
    assert (taught.source, taught.top1, taught.params_m) == ("Table 3: SHViT-S1", 74.0, None)
    assert paper_row(summary("s1", teacher="runs/teacher")).source == "Table 3: SHViT-S1"  # with one classifier
    assert paper_row(summary("macro_a", teacher="runs/teacher")) is None


def test_the_same_network_by_other_flags_finds_the_row():
    assert paper_row(summary("s3", partial_ratio=1 / 8)).source == "Table 6, row 3: ratio 1/8"
    assert paper_row(summary("s3", partial_ratio=3 / 14)).source.startswith("Table 2: SHViT-S3")
    assert paper_row(summary("s3", mixers=("conv",) * 3)).source == "Table 6, row 2: SHSA to none"
    assert paper_row(summary("s1", patch_size=16, stages=3, stage1="conv")).source == "Table 2: SHViT-S1"


@pytest.mark.parametrize("changes", [{"stages": 4}, {"stage1": "attention"}, {"patch_size": 4}, {"qk_dim": 32}])
def test_what_the_paper_has_not_finds_nothing(changes):
    assert paper_row(summary("s1", **changes)) is None
    assert paper_row(summary("tiny")) is None
