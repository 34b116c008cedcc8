"""Cells and points: every combination once, under names that are unique and fit for folders."""

import pytest

from shvit_pl.sweep.plan.flags import as_flags, short_names
from shvit_pl.sweep.plan.points import cells_of, points_of
from shvit_pl.sweep.plan.sweep_file import read_sweep_file

LONG = "/data/sets/of/many/kinds/and/of/a/long/path/images"
ODD = ["a/b", "a b", "a-b", "A-B", "..", "", "größe", "日本語", "x" * 300, "a:b|c?*<>", "-a", "nul\t", "'", "😀"]


def cells(text):
    with open("my.yaml", "w") as file:
        file.write(text)
    return cells_of(read_sweep_file("my.yaml"))


def keys(names, seeds=(0,)):
    return [point.key for point in points_of({name: {} for name in names}, seeds)]


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


def test_long_values_of_the_same_end_are_different_cells():
    found = cells(f"grid: {{data.path: [first{LONG}, second{LONG}]}}")
    assert [choices["data.path"] for choices in found.values()] == [f"first{LONG}", f"second{LONG}"]
    assert all("long/path/images" in name and len(name) < 60 for name in found)


def test_the_name_of_a_long_value_does_not_depend_on_the_others():
    alone, both = cells(f"grid: {{data.path: [a{LONG}]}}"), cells(f"grid: {{data.path: [b{LONG}, a{LONG}]}}")
    assert alone.items() <= both.items()


def test_values_that_look_alike_are_different_cells():
    assert len(cells('grid: {data.path: ["a  b", "a b", "a\\nb"]}')) == 3
    assert len(cells('grid: {data.path: ["1", "1, name 2"], data.name: ["2", "2, name 2"]}')) == 4
    assert len(cells('grid: {model.class_names: [["1", "2"], [1, 2]]}')) == 2


def test_a_list_as_a_value_reads_well():
    assert list(cells("grid: {model.design.mixers: [[conv, conv, single_head]]}")) == [
        "mixers [conv, conv, single_head]"
    ]


def test_folders_are_different_and_safe_for_odd_names():
    found = keys(ODD)
    assert len({key.lower() for key in found}) == len(ODD)
    for key in found:
        assert set(key) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.,-")
        assert len(key) < 150
        assert key[0] not in ".-"


def test_folders_are_different_where_a_file_system_ignores_case():
    assert len({key.lower() for key in keys(["Adam", "adam", "ADAM"])}) == 3


def test_an_ordinary_folder_reads_as_its_cell():
    assert keys(["patch_size 4, stages 3"], (0, 7)) == ["patch_size-4_stages-3_seed-0", "patch_size-4_stages-3_seed-7"]


def test_every_cell_has_the_first_seed_before_any_has_the_next():
    points = points_of({"a": {}, "b": {}}, (3, 1))
    assert [(point.seed, point.cell) for point in points] == [(3, "a"), (3, "b"), (1, "a"), (1, "b")]


@pytest.mark.parametrize(
    ("value", "flag"),
    [
        (4, "--x=4"),
        (True, "--x=true"),
        (None, "--x=null"),
        (1e-05, "--x=1e-05"),
        ("auto", "--x=auto"),
        ("", "--x="),
        ([3, 4], "--x=[3, 4]"),
        (["conv", "attention"], '--x=["conv", "attention"]'),
        ({"betas": [0.9, 0.99]}, '--x={"betas": [0.9, 0.99]}'),
    ],
)
def test_a_value_is_written_as_fit_reads_it(value, flag):
    assert as_flags({"x": value}) == [flag]
