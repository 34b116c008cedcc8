"""What a sweep is, and which changes to one that is there are additions."""

import json
from dataclasses import asdict, replace

import pytest
import yaml

from shvit_pl.errors import UserError
from shvit_pl.sweep.plan.definition import Definition, as_flags, monitor, refuse_other, value_of

CELLS = {"size 4": {"size": 4}, "size 16": {"size": 16}}
SETTINGS = {"model.optim.lr": 1e-05, "model.design.depth": [1, 2], "data.name": None}
GRID = Definition("grid", CELLS, (0, 1), {"val/acc1": "max", "macs": "min"}, SETTINGS)
SPACE = {"lr": {"low": 0.1, "high": 1.0}, "name": ["a", "b"]}
SEARCH = Definition(
    "search",
    {f"trial {number}": {} for number in (1, 2, 3)},
    (0,),
    {"val/acc1": "max"},
    SETTINGS,
    {"sampler": "tpe", "pruner": "none", "space": SPACE},
)

ODD = ["a/b", "a b", "a-b", "A-B", "..", "", "größe", "日本語", "x" * 300, "a:b|c?*<>", "-a", "nul\t", "'", "😀"]
SUMMARY = {"metrics": {"val/acc1": 0.9, "val/loss": 0.3}, "params": 1000, "macs": 5, "peak_memory_mb": None}


def difference(before, now):
    with pytest.raises(UserError) as refused:
        refuse_other(before, now, "--folder 'sweeps/macro'")
    message = str(refused.value)
    assert message.startswith("--folder 'sweeps/macro': it holds another sweep (")
    assert message.endswith("undo the change, or give another --folder.")
    return message


def from_the_study(facts):
    return json.loads(json.dumps(facts))


def from_the_file(facts):
    return yaml.safe_load(yaml.safe_dump(facts, sort_keys=False))


@pytest.mark.parametrize("definition", [GRID, SEARCH], ids=["grid", "search"])
@pytest.mark.parametrize("stored", [from_the_study, from_the_file])
def test_a_definition_comes_back_from_where_it_is_stored(definition, stored):
    back = Definition.from_dict(stored(asdict(definition)))
    assert back == definition
    assert list(back.points) == list(definition.points)
    assert list(back.objectives) == list(definition.objectives)
    refuse_other(definition, back, "--folder 'sweeps/macro'")


@pytest.mark.parametrize(
    "now",
    [
        GRID,
        replace(GRID, seeds=(0, 1, 2)),
        replace(GRID, seeds=(1, 0)),
        replace(GRID, cells={"size 8": {"size": 8}, **CELLS}),
        replace(GRID, cells=dict(reversed(CELLS.items()))),
    ],
    ids=["the same", "a seed", "seeds in another order", "a choice", "choices in another order"],
)
def test_an_addition_is_no_change(now):
    refuse_other(GRID, now, "--folder 'sweeps/macro'")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": "list"}, "(grid -> list)"),
        ({"cells": {"size 4": {"size": 4}}}, "(size 16 is gone)"),
        ({"cells": CELLS | {"size 4": {"size": 5}}}, "(size 4: size 4 -> 5)"),
        ({"seeds": (1,)}, "(seed 0 is gone)"),
        ({"objectives": {"val/acc1": "max"}}, "(objective val/acc1 max, macs min -> val/acc1 max)"),
        ({"objectives": {"macs": "min", "val/acc1": "max"}}, "val/acc1 max, macs min -> macs min, val/acc1 max)"),
        ({"objectives": {"val/acc1": "min", "macs": "min"}}, "-> val/acc1 min, macs min)"),
        ({"settings": SETTINGS | {"model.optim.lr": 0.1}}, "(model.optim.lr 1e-05 -> 0.1)"),
        ({"settings": {"data.name": None}}, "(model.optim.lr 1e-05 -> unset; model.design.depth [1, 2] -> unset)"),
        ({"settings": SETTINGS | {"data.path": "digits"}}, "(data.path unset -> digits)"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_any_other_change_is_refused_with_the_difference(change, said):
    assert said in difference(GRID, replace(GRID, **change))


def test_a_search_may_grow_and_not_shrink():
    cells = dict(SEARCH.cells)
    refuse_other(SEARCH, replace(SEARCH, cells=cells | {"trial 4": {}}), "--folder 'sweeps/macro'")
    del cells["trial 2"], cells["trial 3"]
    assert "(n_trials 3 -> 1)" in difference(SEARCH, replace(SEARCH, cells=cells))


def test_the_difference_between_searches_is_told_by_its_setting():
    other = {"sampler": "random", "pruner": "none", "space": SPACE | {"lr": {"low": 0.2, "high": 1.0}}}
    said = difference(SEARCH, replace(SEARCH, search=other))
    assert "(sampler tpe -> random; space.lr.low 0.1 -> 0.2)" in said


def test_an_addition_that_would_move_the_folder_of_a_run_is_refused():
    before = replace(GRID, cells={"Adam": {"name": "Adam"}})
    said = difference(before, replace(before, cells={"Adam": {"name": "Adam"}, "adam": {"name": "adam"}}))
    assert "Adam_seed-0 would have another folder" in said


def test_many_and_long_differences_stay_one_short_line():
    many = {f"model.setting_{number}": "x" * 500 for number in range(30)}
    message = difference(GRID, replace(GRID, settings=SETTINGS | many))
    assert "and 27 more" in message
    assert len(message) < 450
    assert "\n" not in message


def keys(names, seeds=(0,)):
    return list(replace(GRID, cells={name: {} for name in names}, seeds=seeds).points)


def test_folders_are_different_and_safe_for_odd_names():
    found = keys(ODD)
    assert len({key.lower() for key in found}) == len(ODD)
    for key in found:
        assert set(key) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.,-")
        assert len(key) < 150
        assert key[0] not in ".-"


def test_an_ordinary_folder_reads_as_its_cell_and_differs_where_a_file_system_ignores_case():
    assert keys(["patch_size 4, stages 3"], (0, 7)) == ["patch_size-4_stages-3_seed-0", "patch_size-4_stages-3_seed-7"]
    assert len({key.lower() for key in keys(["Adam", "adam", "ADAM"])}) == 3


def test_every_cell_has_the_first_seed_before_any_has_the_next():
    assert list(GRID.points) == ["size-4_seed-0", "size-16_seed-0", "size-4_seed-1", "size-16_seed-1"]
    assert GRID.points["size-16_seed-1"].choices == {"size": 16}
    points = replace(GRID, cells={"a": {}, "b": {}}, seeds=(3, 1)).points
    assert [(point.seed, point.cell) for point in points.values()] == [(3, "a"), (3, "b"), (1, "a"), (1, "b")]


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


def test_the_best_checkpoint_is_the_best_in_the_first_metric():
    assert monitor({"macs": "min", "val/loss": "min", "val/acc1": "max"}) == "val/loss"
    assert monitor({"macs": "min"}) == "val/acc1"


def test_a_value_is_that_of_the_best_epoch_or_a_cost():
    values = [value_of(SUMMARY, objective) for objective in ("val/acc1", "params", "val/acc1_ema", "peak_memory_mb")]
    assert values == [0.9, 1000.0, None, None]
