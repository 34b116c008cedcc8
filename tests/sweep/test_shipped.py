"""The sweeps that come with the package are read, checked and opened as the command does it."""

import pytest

from shvit_pl.command_line.config_files import find_config, shipped_configs
from shvit_pl.designs.config import resolve_design
from shvit_pl.designs.published import paper_row
from shvit_pl.errors import UserError
from shvit_pl.fit.check import FitCheck
from shvit_pl.sweep.plan.checks import check_flags, open_cells
from shvit_pl.sweep.plan.definition import as_flags
from shvit_pl.sweep.plan.sweep_file import define, pick_sweep_file, read_sweep_file

NAMES = [f"sweeps/{path.name}" for path in sorted((shipped_configs() / "sweeps").glob("*.yaml"))]
TAUGHT = [name for name in NAMES if "distil" in name]  # by a teacher that has to be trained before
MICRO = {  # the paper's top-1, row by row
    "sweeps/mixer.yaml": [77.4, 77.7, 76.3],
    "sweeps/partial_ratio.yaml": [77.1, 77.4, 77.5],
    "sweeps/single_head.yaml": [75.2, 75.1, 73.6],
}
RECIPE = "recipes/imagenet_300e.yaml"


@pytest.fixture(scope="module")
def fit():
    return FitCheck()


def opened(name, fit, *flags):
    """The cells of a shipped sweep, opened on the embedded digits."""
    file = read_sweep_file(find_config(name))
    check_flags(file, flags, fit)
    base = [*(f"--config={config}" for config in file.base), *flags]
    definition = define(file, base, fit)
    return definition, open_cells(definition, file, base, fit)


def design_of_flags(fit, flags):
    section = "model.design."
    settings = fit.settings(flags).items()
    return resolve_design(**{key.removeprefix(section): value for key, value in settings if key.startswith(section)})


@pytest.mark.parametrize("name", [name for name in NAMES if name not in TAUGHT])
def test_every_cell_opens_on_the_embedded_digits(name, fit):
    definition, cells = opened(name, fit)
    assert definition.settings["data.path"] == "digits"
    assert len(cells) >= 3
    assert all(cell.planned.params > 0 and cell.planned.trained > 0 for cell in cells)
    assert set(definition.objectives) <= {*cells[0].planned.metrics, "params", "macs"}
    if definition.kind != "search":
        assert [cell.name for cell in cells] == list(definition.cells)


@pytest.mark.parametrize("name", TAUGHT)
def test_a_teacher_that_was_not_trained_is_named_before_anything_starts(name, fit):
    with pytest.raises(UserError) as refused:
        opened(name, fit)
    assert "model.distill.teacher 'runs/teacher/version_0'" in str(refused.value)


@pytest.mark.slow
@pytest.mark.parametrize("name", TAUGHT)
def test_every_cell_opens_with_its_teacher(name, fit, run):
    definition, cells = opened(name, fit, f"--model.distill.teacher={run}", "--data.image_size=64")
    assert [cell.name for cell in cells] == list(definition.cells)


@pytest.mark.parametrize("name", NAMES)
def test_the_imagenet_recipe_may_be_layered(name, fit):
    path, layers = pick_sweep_file([name, RECIPE])
    file = read_sweep_file(path)
    base = [f"--config={config}" for config in (*file.base, *layers)]
    rows = file.rows.values() if file.rows else [{}]
    for row in rows:
        settings = fit.settings([*base, *as_flags(row)])
        assert settings["data.path"] == "ILSVRC/imagenet-1k"
        assert settings["trainer.max_epochs"] == 300
    assert len(define(file, base, fit).points) >= 3


@pytest.mark.parametrize("name", MICRO)
def test_a_micro_ablation_has_three_seeds_and_stands_beside_the_papers_rows(name, fit):
    file = read_sweep_file(find_config(name))
    base = [f"--config={config}" for config in file.base]
    definition = define(file, base, fit)
    assert definition.seeds == (0, 1, 2)
    designs = [design_of_flags(fit, [*base, *as_flags(cell)]) for cell in definition.cells.values()]
    rows = [paper_row({"design": vars(design), "teacher": None, "dataset": {"image_size": 224}}) for design in designs]
    assert [row.top1 for row in rows] == MICRO[name]


@pytest.mark.parametrize("name", MICRO)
def test_a_micro_ablation_is_of_any_design(name, fit):
    _, cells = opened(name, fit, "--model.design.name=tiny")
    assert len({cell.planned.params for cell in cells}) == 3
    assert all(cell.planned.params < 2e6 for cell in cells)
