"""What a sweep file may hold, where the configs of its base are found, and what its cells are called."""

import pytest

from shvit_pl.command_line.config_files import shipped_configs
from shvit_pl.errors import UserError
from shvit_pl.sweep.plan.definition import COSTS, short_names
from shvit_pl.sweep.plan.sweep_file import MONITORS, examples, pick_sweep_file, read_objectives, read_sweep_file
from tests.sweep.plan.mistakes import SHAPE

GRID = "grid: {model.design.patch_size: [4, 16]}\n"
LONG = "/data/sets/of/many/kinds/and/of/a/long/path/images"


def read(text, path="my.yaml"):
    with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)
    pick_sweep_file([path])
    return read_sweep_file(path)


def cells(text):
    return read(text).cells


@pytest.mark.parametrize("mistake", SHAPE)
def test_a_file_that_is_no_sweep_is_refused_in_one_short_line(mistake, tmp_path):
    text, parts = SHAPE[mistake]
    with pytest.raises(UserError) as refused:
        read(text)
    message = str(refused.value)
    assert message.startswith("--config 'my.yaml'")
    assert all(part in message for part in parts), message
    assert "\n" not in message
    assert len(message) < 430
    assert [path.name for path in tmp_path.iterdir()] == ["my.yaml"]


def test_a_grid_alone_has_one_seed_and_compares_the_accuracy():
    file = read(GRID)
    assert (file.kind, len(file.cells), file.search) == ("grid", 2, None)
    assert (file.base, file.seeds, file.objectives) == ((), (0,), {"val/acc1": "max"})
    assert read(f"{GRID}seeds: [7, 3]").seeds == (7, 3)


def test_a_list_has_named_rows_and_one_may_change_nothing():
    rows = read("list: {as it is: , 4: {model.design.patch_size: 4}}").cells
    assert rows == {"as it is": {}, "4": {"model.design.patch_size": 4}}
    assert list(read('list: {"two\\n lines": {data.batch_size: 8}}').cells) == ["two lines"]


@pytest.mark.parametrize("base", ["mine.yaml", "[mine.yaml]"])
def test_a_base_is_found_in_the_working_directory_first(base, tmp_path):
    (tmp_path / "sweeps").mkdir()
    for folder in (tmp_path, tmp_path / "sweeps"):
        (folder / "mine.yaml").write_text("data: {batch_size: 8}\n")
    assert read(f"base: {base}\n{GRID}", "sweeps/my.yaml").base == ("mine.yaml",)


def test_a_base_is_found_beside_the_sweep_file_and_before_a_shipped_one(tmp_path):
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "s1.yaml").write_text("data: {batch_size: 8}\n")
    file = read(f"base: [s1.yaml, s2.yaml]\n{GRID}", "sweeps/my.yaml")
    assert file.base == ("sweeps/s1.yaml", "s2.yaml")


@pytest.mark.parametrize("name", ["s1.yaml", "cli_configs/s1.yaml", "s1", "data/cifar10.yaml"])
def test_a_shipped_base_keeps_its_name_so_that_commands_repeat_elsewhere(name):
    assert read(f"base: {name}\n{GRID}").base == (name,)


def test_the_sweep_file_is_picked_from_all_configs_wherever_it_stands():
    read(GRID)
    assert pick_sweep_file(["s1.yaml", "my.yaml", "data/digits.yaml"]) == ("my.yaml", ["s1.yaml", "data/digits.yaml"])
    assert pick_sweep_file(["my.yaml"]) == ("my.yaml", [])


@pytest.mark.parametrize(
    ("configs", "parts"),
    [
        ([], ["--config: no sweep file", "such as cli_configs/sweeps/macro.yaml"]),
        (["s1.yaml"], ["--config 's1.yaml'", "no sweep file"]),
        (["s1.yaml", "data/digits.yaml"], ["'s1.yaml', 'data/digits.yaml'", "no sweep file"]),
        (["sweeps/marco.yaml"], ["--config 'sweeps/marco.yaml'", "did you mean 'sweeps/macro.yaml'"]),
        (["my.yaml", "other.yaml"], ["'my.yaml', 'other.yaml'", "2 of these are sweep files", "give one"]),
        (["my.yaml", "s9.yaml"], ["--config 's9.yaml'", "no such file"]),
        (["."], ["--config '.'", "a folder"]),
        ([""], ["--config ''", "no such file"]),
    ],
    ids=str,
)
def test_other_configs_are_refused(configs, parts):
    read(GRID)
    read(GRID, "other.yaml")
    assert "grid" not in (shipped_configs() / "s1.yaml").read_text()
    with pytest.raises(UserError) as refused:
        pick_sweep_file(configs)
    assert all(part in str(refused.value) for part in parts)


def test_values_that_look_alike_may_differ():
    assert len(read("grid: {model.optim.lr: [1.0e-3, 2.0e-3], data.augment: [none, null]}").cells) == 4


def test_the_flags_that_a_sweep_varies_are_those_of_all_rows():
    file = read("list: {a: {data.batch_size: 8}, b: {model.optim.lr: 0.1}}")
    assert file.varied == ["data.batch_size", "model.optim.lr"]
    assert read(GRID).varied == ["model.design.patch_size"]
    assert read("search: {space: {model.optim.lr: {low: 0.1, high: 1}}}").varied == ["model.optim.lr"]


@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        ("val/acc1", {"val/acc1": "max"}),
        ("val/loss_ema", {"val/loss_ema": "min"}),
        (["val/acc1", "macs"], {"val/acc1": "max", "macs": "min"}),
        (["images_per_second"], {"images_per_second": "max"}),
        ({"params": "max", "val/acc5": "max"}, {"params": "max", "val/acc5": "max"}),
    ],
    ids=str,
)
def test_an_objective_has_a_direction(objective, expected):
    assert list(read_objectives(objective, "").items()) == list(expected.items())


@pytest.mark.parametrize("name", [*MONITORS, *COSTS])
def test_a_loss_and_a_cost_are_low_when_good(name):
    low = "loss" in name or name in {"params", "macs", "wall_seconds", "peak_memory_mb"}
    assert read_objectives(name, "") == {name: "min" if low else "max"}


def test_what_a_search_leaves_out_has_a_default():
    file = read("search: {space: {model.optim.lr: {low: 0.1, high: 1}}}")
    assert (len(file.cells), file.search["sampler"], file.search["pruner"]) == (20, "", "none")


@pytest.mark.parametrize(("pruner", "objective"), [("median", "val/loss"), ("none", "[val/acc1, macs]")])
def test_a_pruner_follows_a_metric_and_none_needs_none(pruner, objective):
    text = f"search: {{pruner: {pruner}, space: {{model.optim.lr: {{low: 0.1, high: 1}}}}}}\nobjective: {objective}\n"
    assert read(text).search["pruner"] == pruner


def test_ends_short_ranges_of_whole_numbers_and_choices_can_be_tried_before():
    file = read("search: {space: {a: {low: 0.5, high: 9}, b: [x, y], c: {low: 1, high: 5, step: 2}}}")
    first = {"a": 0.5, "b": "x", "c": 1}
    changed = [{}, {"a": 9}, {}, {"b": "y"}, {}, {"c": 3}, {"c": 5}]
    assert examples(file.search["space"]) == [first | change for change in changed]
    assert examples({"c": {"low": 1, "high": 500}}) == [{"c": 1}, {"c": 500}]


def test_a_grid_has_every_combination_in_the_order_of_the_file():
    found = cells("grid: {model.design.patch_size: [4, 16], model.design.stages: [3, 4]}")
    assert list(found) == [f"patch_size {size}, stages {stages}" for size in (4, 16) for stages in (3, 4)]
    assert found["patch_size 16, stages 3"] == {"model.design.patch_size": 16, "model.design.stages": 3}


def test_a_search_has_as_many_cells_as_trials():
    found = cells("search: {n_trials: 3, space: {model.optim.lr: {low: 0.1, high: 1}}}")
    assert found == {"trial 1": {}, "trial 2": {}, "trial 3": {}}


def test_flags_that_end_alike_keep_what_tells_them_apart():
    flags = ["model.design.name", "model.optim.name", "data.path"]
    assert list(short_names(flags).values()) == ["design.name", "optim.name", "path"]
    found = cells("grid: {model.design.name: [s1, s2], model.optim.name: [adamw]}")
    assert list(found) == [f"design.name {name}, optim.name adamw" for name in ("s1", "s2")]


def test_long_values_of_the_same_end_are_different_cells_whose_names_do_not_depend_on_each_other():
    found = cells(f"grid: {{data.path: [first{LONG}, second{LONG}]}}")
    assert [choices["data.path"] for choices in found.values()] == [f"first{LONG}", f"second{LONG}"]
    assert all("long/path/images" in name and len(name) < 60 for name in found)
    assert cells(f"grid: {{data.path: [second{LONG}]}}").items() <= found.items()


def test_values_that_look_alike_are_different_cells():
    assert len(cells('grid: {data.path: ["a  b", "a b", "a\\nb"]}')) == 3
    assert len(cells('grid: {data.path: ["1", "1, name 2"], data.name: ["2", "2, name 2"]}')) == 4
    assert len(cells('grid: {model.class_names: [["1", "2"], [1, 2]]}')) == 2


def test_a_list_as_a_value_reads_well():
    name = "mixers [conv, conv, single_head]"
    assert list(cells("grid: {model.design.mixers: [[conv, conv, single_head]]}")) == [name]
