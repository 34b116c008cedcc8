import numpy as np
import pytest

from shvit_pl.sweep.report.pareto import pareto_front


def test_the_front_holds_what_nothing_beats():
    points = [(1, 9), (2, 8), (2, 7), (3, 8.5), (4, 1)]
    assert pareto_front(points, ("max", "max")).tolist() == [True, False, False, True, True]


def test_each_axis_has_its_direction():
    assert pareto_front([(1, 9), (2, 9), (2, 10)], ("min", "max")).tolist() == [True, False, True]


def test_equals_share_the_front():
    assert pareto_front([(1, 1), (1, 1)], ("max", "max")).all()


def test_nothing_has_no_front():
    assert pareto_front([], ("max", "max")).tolist() == []


@pytest.mark.parametrize("seed", range(5))
def test_it_agrees_with_the_definition(seed):
    points = np.random.default_rng(seed).integers(0, 6, size=(30, 2))
    beaten = [any((b >= a).all() and (b > a).any() for b in points) for a in points]
    assert pareto_front(points, ("max", "max")).tolist() == [not one for one in beaten]
