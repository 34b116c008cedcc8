"""Sweeps with folds: each cell and seed runs in each fold, and what no fold can be made of is refused."""

import pytest
import yaml

from shvit_pl.sweep.definition import Definition
from tests.sweep.small import PATCHES, sweep, trials

LIST = "base: s1.yaml\nlist: {plain: {}, mixed: {model.mix.mixup: 0.8}}\n"


def test_points_are_seed_after_seed_and_fold_after_fold_of_all_cells():
    points = Definition("list", {"a": {}, "b": {}}, (0, 1), {"val/acc1": "max"}, {}, folds=2).points
    assert [(point.cell, point.seed, point.fold) for point in points.values()] == [
        ("a", 0, 1), ("b", 0, 1), ("a", 0, 2), ("b", 0, 2), ("a", 1, 1), ("b", 1, 1), ("a", 1, 2), ("b", 1, 2),
    ]  # fmt: skip
    assert list(points)[2] == "a_seed-0_fold-2"
    plain = Definition("list", {"a": {}}, (0,), {"val/acc1": "max"}, {})
    assert [*plain.points] == ["a_seed-0"]


@pytest.mark.slow
def test_each_cell_runs_in_each_fold_and_the_report_pairs_them(tmp_path):
    code, output = sweep(tmp_path / "cv", f"{LIST}folds: 2\n")
    assert code == 0, output
    assert "4 runs (2 cells, seeds 0, 2 folds)" in output
    summaries = {trial.user_attrs["key"]: trial.user_attrs["summary"]["dataset"] for trial in trials(tmp_path / "cv")}
    assert {key: data["fold"] for key, data in summaries.items()} == {
        "plain_seed-0_fold-1": "1/2", "mixed_seed-0_fold-1": "1/2",
        "plain_seed-0_fold-2": "2/2", "mixed_seed-0_fold-2": "2/2",
    }  # fmt: skip
    report = (tmp_path / "cv" / "results.md").read_text()
    assert "validation on each of 2 folds of 'train' (seed 0)" in report
    again, output = sweep(tmp_path / "cv", LIST)
    assert again == 2
    assert yaml.safe_load((tmp_path / "cv" / "sweep.yaml").read_text())["definition"]["folds"] == 2


@pytest.mark.parametrize(
    ("text", "flags", "words"),
    [
        (f"{PATCHES}folds: 2000\n", [], "folds 2000: data.fold '1/2000': 'train' has only 1797 images"),
        (f"{PATCHES}folds: 3\n", ["--data.fold=1/3"], "--data.fold: can't be set here; set by folds 3"),
        (f"{PATCHES}folds: 3\n", ["--data.validation_split=x"], "folds 3: data.validation_split 'x': with data.fold"),
        (
            "base: detection/retinanet_tiny.yaml\nlist: {plain: {}}\nfolds: 3\nobjective: val/map\n", [],
            "folds 3: for classification alone; leave it out.",
        ),
    ],
)  # fmt: skip
def test_folds_that_no_run_could_make_are_refused_at_the_start(text, flags, words, tmp_path, capsys):
    common = [] if "detection" in text else ["--model.design.name=tiny", "--data.image_size=64"]
    assert sweep(tmp_path / "cv", text, *flags, common=common)[0] == 2
    message = capsys.readouterr().err
    assert words in message
    assert len([line for line in message.splitlines() if line.strip()]) == 1, message
    assert not (tmp_path / "cv").exists()
