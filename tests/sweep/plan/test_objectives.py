"""What a sweep compares: directions, and the values of a run."""

import pytest

from shvit_pl.errors import UserError
from shvit_pl.sweep.plan.objectives import COSTS, MONITORS, monitor, read_objectives, value_of

SUMMARY = {"metrics": {"val/acc1": 0.9, "val/loss": 0.3}, "params": 1000, "macs": 5, "peak_memory_mb": None}


@pytest.mark.parametrize(
    ("objective", "read"),
    [
        ("val/acc1", {"val/acc1": "max"}),
        ("val/loss", {"val/loss": "min"}),
        ("val/loss_ema", {"val/loss_ema": "min"}),
        (["val/acc1", "macs"], {"val/acc1": "max", "macs": "min"}),
        (["images_per_second"], {"images_per_second": "max"}),
        ({"params": "max", "val/acc5": "max"}, {"params": "max", "val/acc5": "max"}),
    ],
    ids=str,
)
def test_an_objective_has_a_direction(objective, read):
    assert list(read_objectives(objective, "my.yaml").items()) == list(read.items())


@pytest.mark.parametrize("name", [*MONITORS, *COSTS])
def test_a_loss_and_a_cost_are_low_when_good(name):
    low = "loss" in name or name in {"params", "macs", "wall_seconds", "peak_memory_mb"}
    assert read_objectives(name, "my.yaml") == {name: "min" if low else "max"}


@pytest.mark.parametrize(
    ("objective", "said"),
    [
        ("val/lss", "objective val/lss (did you mean 'val/loss'?): allowed are val/acc1"),
        ([], "objective []: allowed are val/acc1"),
        (None, "objective None: allowed are val/acc1"),
        (3, "objective 3: allowed are val/acc1"),
        ([3], "objective [3]: allowed are val/acc1"),
        (["val/acc1", "val/acc1"], "one is there twice"),
        ({"val/acc1": "maximise"}, "objective val/acc1 'maximise': allowed are min and max"),
        ({"val/acc1": None}, "objective val/acc1 None: allowed are min and max"),
        ({"val/acc1": ["max"]}, "allowed are min and max"),
        ({3: "max"}, "objective 3: allowed are val/acc1"),
    ],
    ids=str,
)
def test_anything_else_is_refused(objective, said):
    with pytest.raises(UserError) as refused:
        read_objectives(objective, "my.yaml")
    assert str(refused.value).startswith("--config 'my.yaml': objective")
    assert said in str(refused.value)


def test_the_best_checkpoint_is_the_best_in_the_first_metric():
    assert monitor({"macs": "min", "val/loss": "min", "val/acc1": "max"}) == "val/loss"
    assert monitor({"macs": "min"}) == "val/acc1"


def test_a_value_is_that_of_the_best_epoch_or_a_cost():
    assert value_of(SUMMARY, "val/acc1") == 0.9
    assert value_of(SUMMARY, "params") == 1000.0
    assert value_of(SUMMARY, "val/acc1_ema") is None
    assert value_of(SUMMARY, "peak_memory_mb") is None
