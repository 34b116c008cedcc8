"""What a sweep file may say, and where the configs of its base are found."""

import pytest

from shvit_pl.command_line.config_files import shipped_configs
from shvit_pl.errors import UserError
from shvit_pl.sweep.plan.sweep_file import pick_sweep_file, read_sweep_file

GRID = "grid: {model.design.patch_size: [4, 16]}\n"


def read(text, path="my.yaml"):
    with open(path, "w") as file:
        file.write(text)
    return read_sweep_file(path)


def refusal(text):
    with pytest.raises(UserError) as refused:
        read(text)
    return str(refused.value)


def test_a_grid_alone_has_one_seed_and_compares_the_accuracy():
    file = read(GRID)
    assert file.grid == {"model.design.patch_size": [4, 16]}
    assert (file.base, file.seeds, file.objectives) == ((), (0,), {"val/acc1": "max"})
    assert file.rows is None
    assert file.search is None


def test_a_list_has_named_rows_and_one_may_change_nothing():
    rows = read("list: {as it is: , 4: {model.design.patch_size: 4}}").rows
    assert rows == {"as it is": {}, "4": {"model.design.patch_size": 4}}


def test_a_name_of_a_row_is_one_line():
    assert list(read('list: {"two\\n lines": {data.batch_size: 8}}').rows) == ["two lines"]


@pytest.mark.parametrize("base", ["mine.yaml", "[mine.yaml]"])
def test_a_base_is_found_in_the_working_directory_first(base, tmp_path):
    (tmp_path / "sweeps").mkdir()
    for folder in (tmp_path, tmp_path / "sweeps"):
        (folder / "mine.yaml").write_text("data: {batch_size: 8}\n")
    assert read(f"base: {base}\n{GRID}", "sweeps/my.yaml").base == ("mine.yaml",)


def test_a_base_is_found_beside_the_sweep_file_before_the_shipped_ones(tmp_path):
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "s1.yaml").write_text("data: {batch_size: 8}\n")
    file = read(f"base: [s1.yaml, s2.yaml]\n{GRID}", "sweeps/my.yaml")
    assert file.base == ("sweeps/s1.yaml", "s2.yaml")


@pytest.mark.parametrize("name", ["s1.yaml", "cli_configs/s1.yaml", "s1", "data/cifar10.yaml"])
def test_a_shipped_base_keeps_its_name_so_that_commands_repeat_elsewhere(name):
    assert read(f"base: {name}\n{GRID}").base == (name,)


def test_a_base_that_is_nowhere_is_named_with_the_file_that_wants_it():
    message = refusal(f"base: [s1.yaml, data/cifar11.yaml]\n{GRID}")
    assert "--config 'my.yaml': base 'data/cifar11.yaml': no such file (did you mean 'data/cifar10.yaml'?)" in message


def test_the_sweep_file_is_picked_from_all_configs_wherever_it_stands(tmp_path):
    read(GRID)
    assert pick_sweep_file(["s1.yaml", "my.yaml", "data/digits.yaml"]) == ("my.yaml", ["s1.yaml", "data/digits.yaml"])
    assert pick_sweep_file(["my.yaml"]) == ("my.yaml", [])


def test_a_config_of_fit_is_no_sweep_file():
    with pytest.raises(UserError, match=r"--config 's1\.yaml': no sweep file"):
        pick_sweep_file(["s1.yaml"])
    assert "grid" not in (shipped_configs() / "s1.yaml").read_text()


def test_a_key_that_is_there_twice_is_refused_with_its_line():
    assert "line 3: grid is there twice" in refusal(f"{GRID}seeds: [1]\n{GRID}")
    assert "line 2: grid.data.batch_size is there twice" in refusal(
        "grid: {data.batch_size: [8],\n data.batch_size: [4]}"
    )
    assert "list.a is there twice" in refusal("list: {a: {data.batch_size: 8}, a: {data.batch_size: 4}}")


def test_a_value_that_is_there_twice_on_the_command_line_is_refused():
    assert "a value is there twice" in refusal("grid: {model.design.patch_size: [4, '4']}")
    assert len(read("grid: {model.optim.lr: [1.0e-3, 2.0e-3], data.augment: [none, null]}").grid) == 2


def test_the_flags_that_a_sweep_varies_are_those_of_all_rows():
    file = read("list: {a: {data.batch_size: 8}, b: {model.optim.lr: 0.1}}")
    assert file.varied == ["data.batch_size", "model.optim.lr"]
    assert read(GRID).varied == ["model.design.patch_size"]
    assert read("search: {space: {model.optim.lr: {low: 0.1, high: 1}}}").varied == ["model.optim.lr"]


@pytest.mark.parametrize("seeds", ["3", "[]", "[0, 0]", "[-1]", "[1.5]", "[true]", "", "[0, one]", "{0: 1}"])
def test_seeds_are_different_whole_numbers(seeds):
    assert "seeds" in refusal(f"{GRID}seeds: {seeds}")
    assert read(f"{GRID}seeds: [7, 3]").seeds == (7, 3)
