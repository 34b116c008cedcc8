"""The sweeps that come with the package: read, checked and opened as the command does it, on digits and on ImageNet."""

from pathlib import Path

import pytest

from shvit_pl.command_line.config_files import find_config, shipped_configs
from shvit_pl.designs.config import resolve_design
from shvit_pl.designs.paper_results import paper_row
from shvit_pl.sweep.definition import as_flags
from shvit_pl.sweep.start import define, flag_mistakes, open_cells
from shvit_pl.sweep.sweep_file import examples, pick_sweep_file, read_sweep_file
from tests.designs.test_paper_results import summary
from tests.sweep.small import assert_refused, fit_check

NAMES = sorted(path.stem for path in (shipped_configs() / "sweeps").glob("*.yaml"))
TEACHER_SWEEP = "distillation"  # by a teacher that has to be trained before
DETECTION = "detection_macro"
RECIPE = "recipes/imagenet_300e.yaml"
PAPER = {
    "macro_paper": ["Fig. 2: (a)", "Fig. 2: (b)", "Fig. 2: (b')", "Fig. 2: (b'')"],
    "mixer": ["Table 2: SHViT-S3, also Table 6, row 4", "Table 6, row 1: SHSA to MHSA", "Table 6, row 2: SHSA to none"],
    "partial_ratio": [
        "Table 6, row 3: ratio 1/8", "Table 2: SHViT-S3, also Table 6, row 4", "Table 6, row 5: ratio 1/2",
    ],
    "single_head": ["Table 2: SHViT-S2", "Fig. 6: (b) full", "Fig. 6: (a) bottleneck"],
}  # fmt: skip
MICRO = [name for name in PAPER if name != "macro_paper"]


def read(name, *layers):
    """A shipped sweep file, and the flags that its runs begin with."""
    path, further = pick_sweep_file([f"sweeps/{name}.yaml", *layers])
    file, mistakes = read_sweep_file(path)
    assert mistakes == []
    return file, [f"--config={config}" for config in (*file.base, *further)]


def opened(name, *flags):
    """The cells of a shipped sweep, opened on the embedded digits."""
    file, base = read(name)
    fit = fit_check(base)
    assert not [*flag_mistakes(file, flags, fit)]
    return define(file, [*base, *flags], fit), open_cells(file, [*base, *flags], fit)


def settings_by_row(name, *layers, flags=()):
    """The settings of `fit` for each cell, or for each example of a search."""
    file, base = read(name, *layers)
    rows = examples(file.search["space"]) if file.search else file.cells.values()
    return [fit_check(base).settings([*base, *flags, *as_flags(row)]) for row in rows]


def design(settings):
    section = "model.design."
    return {key.removeprefix(section): value for key, value in settings.items() if key.startswith(section)}


@pytest.mark.parametrize("name", NAMES)
def test_a_sweep_begins_with_its_command_and_names_configs_that_exist(name):
    lines = Path(find_config(f"sweeps/{name}.yaml")).read_text().splitlines()
    assert len(lines) <= 25
    assert lines[0].startswith(f"# shvit-pl sweep --config sweeps/{name}.yaml")
    file, _ = read(name)
    assert all(find_config(base) for base in file.base)
    assert {"seeds:", "objective:"} <= {line.split()[0] for line in lines if line.strip()}
    assert file.seeds == (0, 1, 2) or name not in MICRO


@pytest.mark.parametrize("name", [name for name in NAMES if name != TEACHER_SWEEP])
def test_every_cell_opens_on_the_embedded_digits_and_a_micro_ablation_for_any_design(name):
    definition, cells = opened(name)
    assert definition.settings["data.path"] == ("digit_scenes" if name == DETECTION else "digits")
    assert len(cells) >= 3
    assert all(cell.planned.params > 0 and cell.planned.trained > 0 for cell in cells)
    assert set(definition.objectives) <= {*cells[0].planned.metrics, "params", "macs"}
    if definition.kind != "search":
        assert [cell.name for cell in cells] == list(definition.cells)
    if name in MICRO:
        _, cells = opened(name, "--model.design.name=tiny")
        assert len({cell.planned.params for cell in cells}) == 3
        assert all(cell.planned.params < 2e6 for cell in cells)


def test_a_teacher_that_was_not_trained_is_named_before_anything_starts():
    assert_refused(["model.distill.teacher 'runs/teacher/version_0'"], opened, TEACHER_SWEEP)


@pytest.mark.slow
def test_every_cell_opens_with_its_teacher(run):
    definition, cells = opened(TEACHER_SWEEP, f"--model.distill.teacher={run}", "--data.image_size=64")
    assert [cell.name for cell in cells] == list(definition.cells)


def test_one_row_has_no_teacher_and_the_others_have_the_chosen_one():
    chosen = {"--model.distill.teacher=t": "t", "--config=distill/regnety_160.yaml": "regnety_160.deit_in1k"}
    for flag, teacher in chosen.items():
        rows = settings_by_row(TEACHER_SWEEP, flags=[flag])
        assert [row["model.distill.teacher"] for row in rows] == [None, teacher, teacher]
        assert [row["model.distill.objective"] for row in rows[1:]] == ["hard", "soft"]
        assert rows[2]["model.distill.tau"] == 3


def test_fit_accepts_every_detector_with_the_recipe_of_coco():
    rows = settings_by_row(DETECTION, "recipes/coco_1x.yaml")
    assert len(rows) == 4
    assert {(row["data.min_size"], row["trainer.max_epochs"]) for row in rows} == {(800, 12)}
    assert {row["model.detector.name"] for row in rows} == {"retinanet"}


@pytest.mark.parametrize("name", [name for name in NAMES if name != DETECTION])
def test_fit_accepts_every_row_with_the_imagenet_recipe_and_the_papers_are_among_them(name):
    rows = settings_by_row(name, RECIPE)
    assert len(rows) >= 3
    for settings in rows:
        assert resolve_design(**design(settings))
        assert settings["data.path"] == "ILSVRC/imagenet-1k"
        assert settings["trainer.max_epochs"] == 300
    if name in PAPER:
        found = [paper_row(summary(image_size=one["data.image_size"], **design(one))) for one in rows]
        assert [row.source for row in found] == PAPER[name]
    if name == "macro_paper":  # whose rows have the paper's sizes on any data
        for each in (rows, settings_by_row(name)):
            assert [settings["data.image_size"] for settings in each] == [224, 224, 256, 224]
