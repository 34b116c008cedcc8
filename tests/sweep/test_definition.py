"""What a sweep is, and which changes to one that is there are additions."""

from dataclasses import replace
from pathlib import Path
from string import ascii_letters, digits

import pytest

from shvit_pl.sweep.definition import Definition, as_flags, monitor, refuse_other, value_of, write_record
from shvit_pl.sweep.engine.reading import recorded
from tests.sweep.small import assert_refused

CELLS = {"size 4": {"size": 4}, "size 16": {"size": 16}}
SETTINGS = {"model.optim.lr": 1e-05, "model.design.depth": [1, 2], "data.name": None}
GRID = Definition("grid", CELLS, (0, 1), {"val/acc1": "max", "macs": "min"}, SETTINGS)
SPACE = {"lr": {"low": 0.1, "high": 1.0}, "name": ["a", "b"]}
TRIALS = {f"trial {number}": {} for number in (1, 2, 3)}
SAMPLED = {"sampler": "tpe", "pruner": "none", "space": SPACE}
SEARCH = Definition("search", TRIALS, (0,), {"val/acc1": "max"}, SETTINGS, SAMPLED)
FOLDER = Path("sweeps/macro")

ODD = ["a/b", "a b", "a-b", "A-B", "..", "", "größe", "日本語", "x" * 300, "a:b|c?*<>", "-a", "nul\t", "'", "😀"]
SUMMARY = {"metrics": {"val/acc1": 0.9, "val/loss": 0.3}, "params": 1000, "macs": 5, "peak_memory_mb": None}


@pytest.mark.parametrize("definition", [GRID, SEARCH], ids=["grid", "search"])
def test_a_definition_comes_back_from_where_it_is_stored(definition, tmp_path):
    assert recorded(tmp_path) is None
    write_record(tmp_path, definition, [])
    back = recorded(tmp_path)
    assert back == definition
    assert list(back.points) == list(definition.points)
    assert list(back.objectives) == list(definition.objectives)
    refuse_other(definition, back, FOLDER)


@pytest.mark.parametrize(
    ("before", "change"),
    [
        (GRID, {"seeds": (0, 1, 2)}),
        (GRID, {"seeds": (1, 0)}),
        (GRID, {"cells": {"size 8": {"size": 8}, **CELLS}}),
        (GRID, {"cells": dict(reversed(CELLS.items()))}),
        (SEARCH, {"cells": TRIALS | {"trial 4": {}}}),
    ],
    ids=["a seed", "seeds in another order", "a choice", "choices in another order", "a trial"],
)
def test_an_addition_is_no_change(before, change):
    refuse_other(before, replace(before, **change), FOLDER)


OTHER_SPACE = SPACE | {"lr": {"low": 0.2, "high": 1.0}}
MANY = {f"model.setting_{number}": "x" * 500 for number in range(30)}
ADAM = replace(GRID, cells={"Adam": {"name": "Adam"}})


@pytest.mark.parametrize(
    ("before", "change", "said"),
    [
        (GRID, {"kind": "list"}, "(grid -> list)"),
        (GRID, {"cells": {"size 4": {"size": 4}}}, "(size 16 is gone)"),
        (GRID, {"cells": CELLS | {"size 4": {"size": 5}}}, "(size 4: size 4 -> 5)"),
        (GRID, {"seeds": (1,)}, "(seed 0 is gone)"),
        (GRID, {"objectives": {"val/acc1": "max"}}, "(objective val/acc1 max, macs min -> val/acc1 max)"),
        (GRID, {"objectives": {"macs": "min", "val/acc1": "max"}}, "macs min -> macs min, val/acc1 max)"),
        (GRID, {"objectives": {"val/acc1": "min", "macs": "min"}}, "-> val/acc1 min, macs min)"),
        (GRID, {"settings": SETTINGS | {"model.optim.lr": 0.1}}, "(model.optim.lr 1e-05 -> 0.1)"),
        (GRID, {"settings": {"data.name": None}}, "lr 1e-05 -> unset; model.design.depth [1, 2] -> unset)"),
        (GRID, {"settings": SETTINGS | {"data.path": "digits"}}, "(data.path unset -> digits)"),
        (GRID, {"settings": SETTINGS | MANY}, "and 27 more"),
        (ADAM, {"cells": ADAM.cells | {"adam": {"name": "adam"}}}, "Adam_seed-0 would have another folder"),
        (SEARCH, {"cells": {"trial 1": {}}}, "(n_trials 3 -> 1)"),
        (SEARCH, {"search": SAMPLED | {"sampler": "random", "space": OTHER_SPACE}},
         "(sampler tpe -> random; space.lr.low 0.1 -> 0.2)"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)  # fmt: skip
def test_any_other_change_is_refused_with_the_difference(before, change, said):
    parts = [f"--folder '{FOLDER}': contains another sweep (", said, "undo the change, or give another --folder."]
    assert_refused(parts, refuse_other, before, replace(before, **change), FOLDER)


def keys(names, seeds=(0,)):
    return list(replace(GRID, cells={name: {} for name in names}, seeds=seeds).points)


def test_a_folder_reads_as_its_cell_and_is_safe_and_its_own_also_where_a_file_system_ignores_case():
    assert keys(["patch_size 4, stages 3"], (0, 7)) == ["patch_size-4_stages-3_seed-0", "patch_size-4_stages-3_seed-7"]
    found = keys(ODD)
    assert len({key.lower() for key in found}) == len(ODD)
    for key in found:
        assert set(key) <= {*ascii_letters, *digits, *"_.,-"}
        assert len(key) < 150
        assert key[0] not in ".-"


def test_every_cell_has_the_first_seed_before_any_has_the_next():
    assert list(GRID.points) == ["size-4_seed-0", "size-16_seed-0", "size-4_seed-1", "size-16_seed-1"]
    points = replace(GRID, seeds=(3, 1)).points.values()
    assert [(point.seed, point.choices["size"]) for point in points] == [(3, 4), (3, 16), (1, 4), (1, 16)]


def test_a_value_is_written_as_fit_reads_it():
    values = {"a": 4, "b": True, "c": None, "d": 1e-05, "e": "auto", "f": "", "g": ["conv", 3], "h": {"betas": [0.9]}}
    flags = ["4", "true", "null", "1e-05", "auto", "", '["conv", 3]', '{"betas": [0.9]}']
    assert as_flags(values) == [f"--{name}={text}" for name, text in zip(values, flags, strict=True)]


def test_the_best_checkpoint_is_the_best_in_the_first_metric_and_a_value_is_of_it_or_a_cost():
    assert monitor({"macs": "min", "val/loss": "min", "val/acc1": "max"}) == "val/loss"
    assert monitor({"macs": "min"}) == "val/acc1"
    values = [value_of(SUMMARY, objective) for objective in ("val/acc1", "params", "val/acc1_ema", "peak_memory_mb")]
    assert values == [0.9, 1000.0, None, None]
