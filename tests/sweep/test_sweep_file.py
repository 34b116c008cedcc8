"""What a sweep file may hold, where the configs of its base are found, and what its cells are called."""

import pytest

from shvit_pl.errors import refuse
from shvit_pl.sweep.definition import COSTS, short_names
from shvit_pl.sweep.sweep_file import MONITORS, examples, pick_sweep_file, read_objectives, read_sweep_file
from tests.sweep.small import assert_refused

BASE = "base: s1.yaml\n"
GRID = f"{BASE}grid: {{model.design.patch_size: [16, 8]}}\n"
RATE = "{low: 0.001, high: 0.1, log: true}"
OBJECTIVES = "allowed are val/acc1"
SPACE = "search: {space: {lr: %s}}\n"

# sweep files, and what the messages contain
MISTAKES = {
    "": ["the file is empty"],
    "- grid\n": ["allowed are settings such as"],
    "grid: {data.batch_size: [8}\n": ["line 1: not YAML"],
    "gird: {data.batch_size: [8]}\n": ["no sweep file", "did you mean 'grid'"],
    f"{GRID}seed: [1]\n": ["seed: no such key", "did you mean 'seeds'", "allowed are base, grid"],
    f"{BASE}seeds: [1]\n": ["give one of grid, list and search", "there is none"],
    f"{GRID}list: {{a: {{}}}}\n": ["give one of", "grid and list"],
    "base: s9.yaml\ngrid: {data.batch_size: [8]}\n": ["base 's9.yaml'", "no such file", "did you mean 's"],
    "base: {name: s1}\ngrid: {data.batch_size: [8]}\n": ["base {'name': 's1'}", "a config of fit, or a list of them"],
    "base: [1]\ngrid: {data.batch_size: [8]}\n": ["base [1]", "a config of fit"],
    "base: my.yaml\ngrid: {data.batch_size: [8]}\n": ["base 'my.yaml'", "a sweep file", "a config of fit"],
    "grid:\n": ["grid is empty", "give flags and their values"],
    "grid: {data.batch_size: []}\n": ["grid: data.batch_size []", "a list of values"],
    "grid: {data.batch_size: 8}\n": ["grid: data.batch_size 8", "a list of values"],
    "grid: {data.batch_size: [8, '8']}\n": ["grid: data.batch_size [8, '8']", "twice"],
    "grid: {model: {design: {name: [s1]}}}\n": ["model is a section", "write model.design.name: ['s1']"],
    "grid: {model.design: [s1, s2]}\n": ["grid: model.design", "model.design.name"],
    "grid: {3: [1, 2]}\n": ["grid: 3", "such as model.design.patch_size"],
    "grid: {data.name: [2026-11-22]}\n": ["grid: data.name", "put it in quotes"],
    "list:\n": ["list is empty", "give rows by name"],
    "list: [{data.batch_size: 8}]\n": ["list is empty", "give rows by name"],
    "list: {a b: {lr: 1}, 'a  b': {lr: 2}}\n": ["list: a b: two rows have this name; rename one"],
    "list: {a: {model.optim.lr: 0.001, data.augment: none}, b: {data.augment: none, model.optim.lr: 1e-3}}\n": [
        "list: b: has the flags of a; change one of them",
    ],
    "list: {a: , b: {}}\n": ["list: b: has the flags of a"],
    "list: {a: 8}\n": ["list: a: 8", "flags and their values"],
    "list: {a: {data: {batch_size: 8}}}\n": ["a: data is a section", "data.batch_size: 8"],
    "search: {n_trials: 3}\n": ["search: give a space"],
    "search: {space: [model.optim.lr]}\n": ["search: give a space"],
    f"search: {{n_trails: 3, space: {{lr: {RATE}}}}}\n": ["n_trails: no such key", "did you mean 'n_trials'"],
    f"search: {{n_trials: 0, space: {{lr: {RATE}}}}}\n": ["n_trials 0", "from 1"],
    f"search: {{n_trials: true, space: {{lr: {RATE}}}}}\n": ["n_trials True"],
    f"search: {{sampler: tpee, space: {{lr: {RATE}}}}}\n": ["'tpee': allowed are tpe, nsga2, random"],
    f"search: {{pruner: [median], space: {{lr: {RATE}}}}}\n": ["pruner ['median']", "none, median, halving"],
    SPACE % "{}": ["lr {}", "a list of choices, or a range such as"],
    SPACE % "0.1": ["lr 0.1", "a range such as"],
    SPACE % "{low: 0.1}": ["{'low': 0.1}", "a range such as"],
    SPACE % "{low: 1, high: 2, hihg: 3}": ["a range such as"],
    SPACE % "[]": ["a list of values"],
    SPACE % "[1, 1]": ["a value appears twice"],
    SPACE % "[[1, 2]]": ["numbers, text, true, false and null"],
    SPACE % "{low: 1, high: 1}": ["low must be below"],
    SPACE % "{low: 0, high: 1, log: true}": ["with log, low above 0"],
    SPACE % "{low: 1, high: 9, log: true, step: 2}": ["log and step can't be combined"],
    SPACE % "{low: 1, high: 9, log: 'yes'}": ["log must be true or false"],
    SPACE % "{low: 1, high: 9, step: 0}": ["step above 0"],
    SPACE % "{low: 1, high: 9, step: null}": ["finite numbers"],
    SPACE % "{low: .nan, high: 1.0}": ["finite numbers"],
    SPACE % "{low: true, high: 2}": ["finite numbers"],
    SPACE % "{low: 1e-3, high: 1.0}": ["lr", "YAML reads 1e-3 as text: write 1.0e-3"],
    f"{SPACE % RATE}folds: 5\n": ["folds 5", "a search runs each trial once", "repeat the best trials with folds"],
    **{
        f"{GRID}folds: {folds}\n": [f"folds {folds}", "allowed are whole numbers from 2, such as 5"]
        for folds in ("1", "0", "-2", "2.5", "[1]")
    },
    f"{SPACE % RATE}seeds: [0, 1]\n": ["seeds [0, 1]", "a search has one seed"],
    **{
        f"search: {{pruner: median, space: {{lr: {RATE}}}}}\nobjective: [{names}]\n": [
            "pruner median: allowed for one objective of val/acc1", f"not for {names};", "pruner none, or another",
        ]
        for names in ("val/acc1, macs", "macs")
    },
    **{
        f"{GRID}seeds: {seeds}\n": [" seeds ", "a list of different whole numbers from 0"]
        for seeds in ("3", "[]", "[1, 1]", "[-1]", "[true]", "[0, one]", "{0: 1}")
    },
    f"{GRID}objective: val/lss\n": [f"val/lss (did you mean 'val/loss'?): {OBJECTIVES}"],
    f"{GRID}objective:\n": [f"objective None: {OBJECTIVES}"],
    f"{GRID}objective: []\n": [f"objective []: {OBJECTIVES}"],
    f"{GRID}objective: [3]\n": [f"objective [3]: {OBJECTIVES}"],
    f"{GRID}objective: {{3: max}}\n": [f"objective 3: {OBJECTIVES}"],
    f"{GRID}objective: [macs, macs]\n": ["objective ['macs', 'macs']", "twice"],
    f"{GRID}objective: {{macs: low}}\n": ["objective macs 'low': allowed are min and max"],
    f"{GRID}objective: {{macs: [max]}}\n": ["allowed are min and max"],
}  # fmt: skip
LONG = "/data/sets/of/many/kinds/and/of/a/long/path/images"
PATCHES = "grid: {model.design.patch_size: [4, 16]}\n"


def read(text, path="my.yaml"):
    with open(path, "w") as file:
        file.write(text)
    pick_sweep_file([path])
    file, mistakes = read_sweep_file(path)
    refuse(mistakes)
    return file


def cells(text):
    return read(text).cells


@pytest.mark.parametrize(("text", "parts"), MISTAKES.items(), ids=str)
def test_a_file_that_is_no_sweep_is_refused_in_one_short_line(text, parts):
    assert assert_refused(parts, read, text).startswith("--config 'my.yaml'")


def test_what_is_left_out_has_a_default():
    file = read(PATCHES)
    assert (file.kind, len(file.cells), file.search, file.varied) == ("grid", 2, None, ["model.design.patch_size"])
    assert (file.base, file.seeds, file.objectives) == ((), (0,), {"val/acc1": "max"})
    assert read(f"{PATCHES}seeds: [7, 3]").seeds == (7, 3)
    file = read("search: {space: {model.optim.lr: {low: 0.1, high: 1}}}")
    assert (len(file.cells), file.search["sampler"], file.search["pruner"]) == (20, "", "none")
    assert file.varied == ["model.optim.lr"]


@pytest.mark.parametrize(
    ("space", "n_trials", "trials"),
    [
        ("{a: [x, y], b: {low: 1, high: 3}}", "", 6),
        ("{a: [x, y], b: {low: 1, high: 3}}", "n_trials: 6, ", 6),
        ("{a: [x, y], b: {low: 1, high: 3}}", "n_trials: 4, ", 4),
        ("{a: {low: 0.1, high: 0.5, step: 0.1}}", "n_trials: 9, ", 5),
        ("{a: {low: 0, high: 1, step: 0.3}}", "n_trials: 9, ", 4),
        ("{a: {low: 1, high: 8, log: true}}", "", 8),
        ("{a: {low: 1.0, high: 8, log: true}, b: [x]}", "", 20),
        ("{a: {low: 1, high: 1000000}, b: {low: 1, high: 1000000}}", "n_trials: 7, ", 7),
    ],
)
def test_a_search_has_no_more_trials_than_its_space_has_points(space, n_trials, trials):
    file = read(f"search: {{{n_trials}space: {space}}}")
    assert list(file.cells) == [f"trial {number}" for number in range(1, trials + 1)]
    assert file.n_trials == int(n_trials.strip("n_trials: ,") or 20)


@pytest.mark.parametrize("values", ["[0.001, 1e-3]", '[16, "16"]', '[0.5, "0.50"]', '[true, "True"]', "[null, ~]"])
def test_a_value_in_two_spellings_appears_twice(values):
    for text in (f"grid: {{a: {values}}}", f"search: {{space: {{a: {values}}}}}"):
        assert_refused(["a value appears twice; keep one"], read, text)


@pytest.mark.parametrize("values", ["[1, 1.0]", "[true, 1, x]", "[0, false]"])
def test_values_that_optuna_cannot_tell_apart_are_left_to_a_grid(values):
    assert_refused(["equal to Optuna", "or use a grid"], read, f"search: {{space: {{a: {values}}}}}")
    assert len(cells(f"grid: {{a: {values}}}")) == values.count(",") + 1


def test_a_list_has_named_rows_and_one_may_change_nothing():
    file = read("list: {as it is: , 4: {model.design.patch_size: 4}, b: {model.optim.lr: 0.1}}")
    assert file.cells == {"as it is": {}, "4": {"model.design.patch_size": 4}, "b": {"model.optim.lr": 0.1}}
    assert file.varied == ["model.design.patch_size", "model.optim.lr"]
    assert list(cells('list: {"two\\n lines": {data.batch_size: 8}}')) == ["two lines"]


def test_a_base_is_found_here_then_beside_the_sweep_file_then_among_the_shipped_which_keep_their_names(tmp_path):
    for name in ("s1.yaml", "cli_configs/s1.yaml", "s1", "data/cifar10.yaml"):  # so that commands repeat elsewhere
        assert read(f"base: {name}\n{PATCHES}").base == (name,)
    (tmp_path / "sweeps").mkdir()
    for path in ("mine.yaml", "sweeps/mine.yaml", "sweeps/s1.yaml"):
        (tmp_path / path).write_text("data: {batch_size: 8}\n")
    file = read(f"base: [mine.yaml, s1.yaml, s2.yaml]\n{PATCHES}", "sweeps/my.yaml")
    assert file.base == ("mine.yaml", "sweeps/s1.yaml", "s2.yaml")
    assert read(f"base: mine.yaml\n{PATCHES}").base == ("mine.yaml",)


@pytest.mark.parametrize(
    ("configs", "parts"),
    [
        ([], ["--config: no sweep file", "such as cli_configs/sweeps/macro.yaml"]),
        (["s1.yaml", "data/digits.yaml"], ["'s1.yaml', 'data/digits.yaml'", "no sweep file"]),
        ([""], ["--config ''", "no such file; shipped are s1.yaml"]),
        (["sweeps/marco.yaml"], ["--config 'sweeps/marco.yaml'", "did you mean 'sweeps/macro.yaml'"]),
        (["my.yaml", "other.yaml"], ["'my.yaml', 'other.yaml'", "2 of these are sweep files", "give one"]),
    ],
    ids=str,
)
def test_the_one_sweep_file_is_picked_from_all_configs_and_others_are_refused(configs, parts):
    read(PATCHES)
    read(PATCHES, "other.yaml")
    assert pick_sweep_file(["s1.yaml", "my.yaml", "data/digits.yaml"]) == ("my.yaml", ["s1.yaml", "data/digits.yaml"])
    assert_refused(parts, pick_sweep_file, configs)


def test_an_objective_has_a_direction_which_is_low_of_a_loss_and_a_cost():
    assert list(read_objectives(["val/acc1", "macs"], []).items()) == [("val/acc1", "max"), ("macs", "min")]
    assert read_objectives({"params": "max", "val/acc5": "max"}, []) == {"params": "max", "val/acc5": "max"}
    for name in (*MONITORS, *COSTS):
        low = "loss" in name or "/ece" in name or name in {"params", "macs", "wall_seconds", "peak_memory_mb"}
        assert read_objectives(name, []) == {name: "min" if low else "max"}


def test_a_pruner_follows_a_metric_and_none_needs_none():
    for pruner, objective in (("median", "val/loss"), ("none", "[val/acc1, macs]")):
        text = f"search: {{pruner: {pruner}, space: {{lr: {RATE}}}}}\nobjective: {objective}\n"
        assert read(text).search["pruner"] == pruner


def test_ends_short_ranges_of_whole_numbers_and_choices_can_be_tried_before():
    file = read("search: {space: {a: {low: 0.5, high: 9}, b: [x, y], c: {low: 1, high: 5, step: 2}}}")
    first = {"a": 0.5, "b": "x", "c": 1}
    changed = [{}, {"a": 9}, {}, {"b": "y"}, {}, {"c": 3}, {"c": 5}]
    assert examples(file.search["space"]) == [first | change for change in changed]
    assert examples({"c": {"low": 1, "high": 500}}) == [{"c": 1}, {"c": 500}]


def test_a_grid_has_every_combination_in_the_files_order_and_flags_that_end_alike_keep_what_tells_them_apart():
    found = cells("grid: {model.design.patch_size: [4, 16], model.design.stages: [3, 4]}")
    assert list(found) == [f"patch_size {size}, stages {stages}" for size in (4, 16) for stages in (3, 4)]
    assert found["patch_size 16, stages 3"] == {"model.design.patch_size": 16, "model.design.stages": 3}
    flags = ["model.design.name", "model.optim.name", "data.path"]
    assert list(short_names(flags).values()) == ["design.name", "optim.name", "path"]
    found = cells("grid: {model.design.name: [s1, s2], model.optim.name: [adamw]}")
    assert list(found) == [f"design.name {name}, optim.name adamw" for name in ("s1", "s2")]


def test_long_values_of_the_same_end_are_different_cells_whose_names_do_not_depend_on_each_other():
    found = cells(f"grid: {{data.path: [first{LONG}, second{LONG}]}}")
    assert [choices["data.path"] for choices in found.values()] == [f"first{LONG}", f"second{LONG}"]
    assert all("long/path/images" in name and len(name) < 60 for name in found)
    assert cells(f"grid: {{data.path: [second{LONG}]}}").items() <= found.items()


def test_values_that_look_alike_are_different_cells_and_a_list_reads_well():
    assert len(cells('grid: {data.path: ["a  b", "a b", "a\\nb"]}')) == 3
    assert len(cells('grid: {data.path: ["1", "1, name 2"], data.name: ["2", "2, name 2"]}')) == 4
    assert len(cells('grid: {model.class_names: [["1", "2"], [1, 2]]}')) == 2
    assert len(cells("grid: {model.optim.lr: [1.0e-3, 2.0e-3], data.augment: [none, null]}")) == 4
    assert list(cells("grid: {model.design.mixers: [[conv, single_head]]}")) == ["mixers [conv, single_head]"]
