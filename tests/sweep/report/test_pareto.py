import numpy as np
import pytest

from shvit_pl.sweep.report.pareto import best_first, pareto_front


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


def test_the_best_come_front_after_front():
    points = [(1, 9), (2, 7), (2, 8), (1, 1), (3, 2)]
    assert best_first(points, ("max", "max"), most=9) == [4, 2, 0, 1, 3]
    assert best_first(points, ("max", "max"), most=2) == [4, 2]
    assert best_first([], ("max",), most=2) == []


@pytest.mark.parametrize(("direction", "order"), [("max", [1, 2, 0]), ("min", [0, 2, 1])])
def test_with_one_direction_the_best_is_first(direction, order):
    assert best_first([(1,), (9,), (4,)], (direction,), most=3) == order
