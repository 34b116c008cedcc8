"""Searches: what can be searched, and that Optuna's samplers and pruners do it."""

import optuna
import pytest
from optuna.pruners import MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import NSGAIISampler, RandomSampler, TPESampler

from shvit_pl.errors import UserError
from shvit_pl.sweep.plan.search import make_pruner, make_sampler, read_search, suggest

LR = {"low": 1e-4, "high": 1e-1, "log": True}
SPACE = {
    "lr": LR,
    "depth": {"low": 1, "high": 3},
    "width": {"low": 0.5, "high": 2, "step": 0.5},
    "name": ["a", None, 3],
}


def search(**settings):
    return read_search({"space": {"model.optim.lr": LR}, **settings}, "my.yaml")


def refusal(settings):
    with pytest.raises(UserError) as refused:
        read_search(settings, "my.yaml")
    assert str(refused.value).startswith("--config 'my.yaml': search: ")
    return str(refused.value)


def test_what_is_left_out_has_a_default():
    read = search()
    assert (read.n_trials, read.sampler, read.pruner) == (20, "", "none")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([], "a list of values"),
        ([1, 1], "a value is there twice"),
        ([[1, 2]], "numbers, text, true, false and null"),
        (3, "a list of choices, or a range"),
        ({"low": 1}, "a list of choices, or a range"),
        ({"low": 1, "high": 2, "hihg": 3}, "a list of choices, or a range"),
        ({"low": 1, "high": 1}, "low must be below high"),
        ({"low": 2, "high": 1}, "low must be below high"),
        ({"low": 0, "high": 1, "log": True}, "with log, low above 0"),
        ({"low": 1, "high": 9, "log": True, "step": 2}, "log has no step"),
        ({"low": 1, "high": 9, "log": "yes"}, "log is true or false"),
        ({"low": 1, "high": 9, "step": 0}, "step above 0"),
        ({"low": 1, "high": 9, "step": None}, "finite numbers"),
        ({"low": "1e-3", "high": 1.0}, "YAML reads 1e-3 as text: write 1.0e-3"),
        ({"low": float("nan"), "high": 1.0}, "finite numbers"),
        ({"low": 1, "high": float("inf")}, "finite numbers"),
        ({"low": True, "high": 2}, "finite numbers"),
    ],
    ids=str,
)
def test_a_range_that_can_not_be_searched_is_refused(values, said):
    message = refusal({"space": {"model.optim.lr": values}})
    assert "search: space: model.optim.lr" in message
    assert said in message


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (None, "give a space, such as"),
        ({}, "give a space, such as"),
        ({"space": {}}, "give a space, such as"),
        ({"space": ["model.optim.lr"]}, "give a space, such as"),
        ({"spcae": {}}, "spcae: no such key (did you mean 'space'?)"),
        ({3: 4}, "3: no such key"),
        ({"space": {"x": [1]}, "n_trials": 0}, "n_trials 0: allowed are whole numbers from 1"),
        ({"space": {"x": [1]}, "n_trials": True}, "n_trials True"),
        ({"space": {"x": [1]}, "n_trials": "ten"}, "n_trials 'ten'"),
        ({"space": {"x": [1]}, "sampler": "tpee"}, "sampler 'tpee': allowed are tpe, nsga2, random"),
        ({"space": {"x": [1]}, "pruner": None}, "pruner None: allowed are none, median, halving"),
        ({"space": {"x": [1]}, "pruner": ["median"]}, "pruner ['median']"),
    ],
    ids=str,
)
def test_a_key_that_makes_no_search_is_refused(settings, said):
    assert said in refusal(settings)


@pytest.mark.parametrize("pruner", ["median", "halving"])
def test_pruning_needs_one_objective_that_changes_from_epoch_to_epoch(pruner):
    read = search(pruner=pruner)
    read.check_objectives({"val/loss": "min"}, "my.yaml")
    with pytest.raises(UserError, match=f"pruner {pruner}: with several objectives .*give pruner none, or one objec"):
        read.check_objectives({"val/acc1": "max", "macs": "min"}, "my.yaml")
    with pytest.raises(UserError, match="macs does not change from epoch to epoch"):
        read.check_objectives({"macs": "min"}, "my.yaml")
    search(pruner="none").check_objectives({"val/acc1": "max", "macs": "min"}, "my.yaml")


def test_ends_short_ranges_of_whole_numbers_and_choices_can_be_tried_before():
    space = {"a": {"low": 0.5, "high": 9}, "b": ["x", "y"], "c": {"low": 1, "high": 5, "step": 2}}
    examples = read_search({"space": space}, "my.yaml").examples()
    first = {"a": 0.5, "b": "x", "c": 1}
    changed = [{}, {"a": 9}, {}, {"b": "y"}, {}, {"c": 3}, {"c": 5}]
    assert examples == [first | change for change in changed]
    long = read_search({"space": {"c": {"low": 1, "high": 500}}}, "my.yaml").examples()
    assert long == [{"c": 1}, {"c": 500}]


@pytest.mark.parametrize("name", ["tpe", "nsga2", "random"])
def test_samples_are_inside_their_ranges_and_of_their_kinds(name):
    study = optuna.create_study(sampler=make_sampler(name, 1, 0))
    for _ in range(15):
        trial = study.ask()
        chosen = suggest(trial, SPACE)
        assert 1e-4 <= chosen["lr"] <= 1e-1
        assert chosen["depth"] in (1, 2, 3)
        assert type(chosen["depth"]) is int
        assert chosen["width"] in (0.5, 1.0, 1.5, 2.0)
        assert chosen["name"] in ("a", None, 3)
        study.tell(trial, chosen["lr"])


@pytest.mark.parametrize("name", ["tpe", "nsga2", "random"])
def test_the_same_seed_samples_the_same(name):
    def sampled(seed):
        study = optuna.create_study(sampler=make_sampler(name, 1, seed))
        return [suggest(study.ask(), SPACE) for _ in range(3)]

    assert sampled(1) == sampled(1) != sampled(2)


def test_the_sampler_is_as_asked_for_or_fits_the_objectives():
    assert isinstance(make_sampler("", 1, 0), TPESampler)
    assert isinstance(make_sampler("", 2, 0), NSGAIISampler)
    assert isinstance(make_sampler("tpe", 2, 0), TPESampler)
    assert isinstance(make_sampler("random", 1, 0), RandomSampler)


def test_the_pruner_is_optunas():
    assert isinstance(make_pruner("median"), MedianPruner)
    assert isinstance(make_pruner("halving"), SuccessiveHalvingPruner)
    assert isinstance(make_pruner("none"), NopPruner)
