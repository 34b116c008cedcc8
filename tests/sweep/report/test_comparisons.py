from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from scipy.stats import binomtest, t

from shvit_pl.sweep.report.comparisons import (
    MOST_SEEDS,
    POWER,
    Estimate,
    cell_variances,
    compare,
    corrected,
    estimate,
    seeds_to_settle,
)
from shvit_pl.sweep.report.table import make_table
from tests.sweep.report.sweeps import at, cube, search, sweep, with_runs, with_speed


def effects(results):
    return {one.name: one for one in compare(make_table(results))}


def gains(results, is_main=True):
    return {name: one.gains["val/acc1"] for name, one in effects(results).items() if one.is_main is is_main}


def costs(results):
    return next(iter(effects(results).values())).costs


def test_a_main_effect_is_the_mean_paired_difference_with_the_t_interval_in_closed_form():
    found = gains(sweep({("a",): {0: 90.0, 1: 91.0, 2: 92.0}, ("b",): {0: 91.0, 1: 93.0, 2: 95.0}}))["x b instead of a"]
    mean, error = 2.0, 1.0 / np.sqrt(3)  # of the differences 1, 2 and 3
    half = t.ppf(0.975, 2) * error
    assert (found.mean, found.low, found.high) == pytest.approx((mean, mean - half, mean + half))
    assert found.p == pytest.approx(2 * t.sf(mean / error, 2))
    assert (found.seeds, found.pairs, found.planned) == (3, 3, 3)


def test_noise_that_cells_share_by_seed_cancels():
    shared = {0: 80.0, 1: 95.0, 2: 60.0}
    other = {seed: value + gain for (seed, value), gain in zip(shared.items(), (1.0, 1.1, 0.9), strict=True)}
    assert gains(sweep({("a",): shared, ("b",): other}))["x b instead of a"].is_significant


def test_an_interaction_is_the_difference_of_the_differences():
    means = {("a", "c"): 0.0, ("b", "c"): 2.0, ("a", "d"): 1.0, ("b", "d"): 0.5}
    jitter = {("b", "d"): {0: -0.1, 1: 0.0, 2: 0.1}}
    table = {key: {s: 90 + gain + jitter.get(key, {}).get(s, 0) for s in range(3)} for key, gain in means.items()}
    found = effects(sweep(table))["x b by y d"]
    each = found.gains["val/acc1"]
    assert each.mean == pytest.approx((0.5 - 1.0) - (2.0 - 0.0))
    assert found.sides["val/acc1"] == (pytest.approx(2.0), pytest.approx(-0.5))
    assert each.p == pytest.approx(2 * t.sf(2.5 / (0.1 / np.sqrt(3)), 2))  # one cell has all the noise


def test_p_values_are_corrected_as_holm_does_and_only_those_that_are_known_count():
    found = corrected([*(Estimate(1.0, p=p) for p in (0.01, 0.04, 0.03, 0.005)), Estimate(None)])
    assert [one.p_corrected for one in found[:4]] == pytest.approx([0.03, 0.06, 0.06, 0.02])  # Holm's steps by hand
    assert [one.is_significant for one in found] == [True, False, False, True, False]
    assert [one.tests for one in found] == [4, 4, 4, 4, 0]
    assert found[4].p_corrected is None


PAIR, EIGHT = np.array([[1, 0]]), np.arange(8).reshape(4, 2)[:, ::-1]


@pytest.mark.parametrize(("effect", "tests"), [(1.0, 1), (0.6, 1), (1.0, 6), (1.5, 3)])
@pytest.mark.parametrize("groups", [PAIR, EIGHT], ids=["pair", "cube"])
def test_so_many_seeds_find_a_difference_significant_in_four_of_five_simulated_sweeps(groups, effect, tests):
    """The difference and the noise of the simulation are exactly as estimated from three seeds."""
    cells, draws, rng = groups.max() + 1, 600, np.random.default_rng(0)
    effect, noise = effect / len(groups) ** 0.5, 0.5
    error = noise * (2 / len(groups) / 3) ** 0.5
    freedom = 2 if len(groups) == 1 else 2 * cells
    seeds = seeds_to_settle(Estimate(effect, 0.0, 0.0, error=error, freedom=freedom, seeds=3), tests)
    assert 3 < seeds <= MOST_SEEDS

    def share_significant(seeds):
        count = 0
        for _ in range(draws):
            values = rng.normal(0, noise, (cells, seeds)) + rng.normal(0, 3, seeds)
            values[groups[:, 0]] += effect
            count += estimate(values, groups, 1, cell_variances(values)).p < 0.05 / tests
        return count / draws

    assert share_significant(seeds) > POWER - 0.04
    assert share_significant(seeds - 1) < POWER + 0.04
    assert share_significant(max(2, seeds // 2)) < POWER - 0.1


def test_no_number_of_seeds_settles_a_difference_of_nothing_or_one_without_an_interval():
    known = Estimate(0.0, -1.0, 1.0, error=0.2, freedom=2.0, seeds=3)
    assert seeds_to_settle(known) is None
    assert seeds_to_settle(replace(known, mean=0.001)) is None
    assert seeds_to_settle(Estimate(1.0, seeds=1)) is None
    assert seeds_to_settle(Estimate(None)) is None
    more = [seeds_to_settle(replace(known, mean=0.2), tests) for tests in (1, 3, 9)]
    assert more == sorted(set(more))
    # a normal approximation by hand: 3 * (1.96 + 0.84) ** 2, and a little more for t
    assert seeds_to_settle(replace(known, mean=-0.2)) == pytest.approx(3 * 2.8**2, abs=3)


def test_only_a_real_effect_or_interaction_is_significant():
    found = gains(cube(effects={"patch_size": -0.05}, noise=0.001))
    assert found["patch_size 16 instead of 4"].is_significant
    assert found["patch_size 16 instead of 4"].mean == pytest.approx(-5, abs=0.3)
    assert not found["stages 4 instead of 3"].is_significant
    crossed = gains(cube(effects={}, noise=0.0005, interaction=0.03), is_main=False)
    assert [name for name, one in crossed.items() if one.is_significant] == ["patch_size 16 by stages 4"]


def smallest_p(draws, spread, seeds=3):
    """Corrected and raw smallest p of all six tests of 2 x 2 x 2 cubes without any effect."""
    rng, cells = np.random.default_rng(0), np.arange(8).reshape(2, 2, 2)
    pairs = [[cells.take(i, axis) for i in (1, 0)] for axis in range(3)]
    quads = [[cells.take(j, t).take(i, s) for j in (1, 0) for i in (1, 0)] for s, t in combinations(range(3), 2)]
    groups = [np.reshape(group, (len(group), -1)).T for group in pairs + quads]
    for _ in range(draws):
        values = np.array([rng.normal(0, scale, seeds) for scale in spread])
        tests = [estimate(values, group, variances=cell_variances(values)) for group in groups]
        found = corrected(tests)
        yield min(one.p_corrected for one in found), min(one.p for one in found)


@pytest.mark.parametrize(
    ("spread", "uncorrected"),
    [([1] * 8, 0.15), ([1] * 4 + [3] * 4, 0.15), ([0.1] * 7 + [2], 0.05)],
    ids=["even", "uneven", "one wild"],
)
def test_without_effects_at_most_one_cube_in_twenty_makes_any_claim(spread, uncorrected):
    found = np.array(list(smallest_p(300, spread)))
    claims, raw_claims = (found < 0.05).sum(axis=0)
    assert binomtest(int(claims), len(found), 0.05, alternative="greater").pvalue > 0.05
    assert raw_claims / len(found) > uncorrected  # so the correction is what holds it


def test_runs_that_are_missing_neither_bias_an_effect_nor_crash():
    whole = cube(effects={"patch_size": -0.02, "stages": 0.03, "stage1": 0.01}, noise=0.0)
    lost = iter(np.random.default_rng(1).choice(["failed", "done", "running", "done"], size=24))
    found = gains(with_runs(whole, lambda run: at(run, next(lost)))).values()
    known = [(one, mean) for one, mean in zip(found, (-2, 3, 1), strict=True) if one.mean is not None]
    assert len(known) >= 2
    for one, mean in known:
        assert one.mean == pytest.approx(mean)
        assert 0 < one.pairs < one.planned == 12


def test_a_level_that_always_fails_has_no_effect_but_the_others_do():
    whole = cube()
    failed = with_runs(whole, lambda run: at(run, "failed")).cells[4:]
    found = gains(replace(whole, cells=(*whole.cells[:4], *failed)))
    assert found["patch_size 16 instead of 4"] == Estimate(None, planned=12)
    assert found["stages 4 instead of 3"].pairs == 6


def square(kind, change):
    """Four cells whose choices are changed by a function."""
    whole = sweep({("a", "c"): {0: 90.0}, ("b", "c"): {0: 91.0}, ("a", "d"): {0: 92.0}, ("b", "d"): {0: 93.0}}, kind)
    return replace(whole, cells=tuple(replace(cell, choices=change(cell.choices)) for cell in whole.cells))


TIED = square("grid", lambda choices: {**choices, "model.z": choices["model.x"] * 2})  # two always change together
WITHOUT_A = square("list", lambda choices: {flag: level for flag, level in choices.items() if level != "a"})


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        (sweep({("a",): {0: 90.0}, ("b",): {0: 91.25}, ("c",): {0: 94.0}}),
         {"x b instead of a": 1.25, "x c instead of a": 4.0}),
        (TIED, {"x, z b, bb instead of a, aa": 1.0, "y d instead of c": 2.0}),
        (WITHOUT_A, {"y d instead of c": 2.0, "x b instead of default": 1.0}),
        (sweep({("a", "c"): {0: 90.0}, ("b", "d"): {0: 91.0}, ("b", "e"): {0: 92.0}}),
         {"b, d instead of a, c": 1.0, "b, e instead of a, c": 2.0}),
        (search(), {}),
    ],
    ids=["three levels", "tied", "list that is a product", "grid that can't be told apart", "search"],
)  # fmt: skip
def test_each_level_is_compared_with_the_first_where_the_choices_can_be_told_apart(results, expected):
    found = gains(results)
    assert list(found) == list(expected)
    assert [one.mean for one in found.values()] == pytest.approx(list(expected.values()))


def test_costs_are_geometric_means_of_ratios():
    results = with_speed(cube())
    logs = np.log([rate["eager"] for rate in results.speed["cells"].values()])
    found = costs(results)["inference_eager"].mean
    assert found == pytest.approx(np.exp(logs[4:].mean() - logs[:4].mean()))


def test_the_interval_of_a_cost_is_that_of_its_logarithms():
    results = sweep({("a",): dict.fromkeys(range(3), 90.0), ("b",): dict.fromkeys(range(3), 91.0)})
    for cell, rates in zip(results.cells, [(100.0, 100.0, 100.0), (110.0, 120.0, 140.0)], strict=True):
        for run, rate in zip(cell.runs, rates, strict=True):
            run.summary["images_per_second"] = rate
    ratio = costs(results)["images_per_second"]
    logs = np.log([1.1, 1.2, 1.4])
    half = t.ppf(0.975, 2) * logs.std(ddof=1) / np.sqrt(3)
    assert (ratio.mean, ratio.low, ratio.high) == pytest.approx(tuple(np.exp(logs.mean() + np.array([0, -half, half]))))
    assert not ratio.is_significant  # though all three seeds say more


def test_of_costs_that_only_seem_to_differ_few_are_claimed():
    stages = [effects(cube(draw=draw))["stages 4 instead of 3"] for draw in range(150)]  # which leave the rate as it is
    seen = [one.costs["images_per_second"].is_significant for one in stages]
    assert binomtest(sum(seen), len(seen), 0.05, alternative="greater").pvalue > 0.01


def test_the_range_of_a_speed_goes_from_quartile_to_quartile():
    results = with_speed(sweep({("a",): {0: 90.0}, ("b",): {0: 91.0}}))
    slow, fast = results.speed["cells"].values()
    slow.update(eager=100.0, eager_iqr=[80.0, 120.0])
    fast.update(eager=200.0, eager_iqr=[180.0, 240.0])
    ratio = costs(results)["inference_eager"]
    assert (ratio.mean, ratio.low, ratio.high) == pytest.approx((2.0, 180 / 120, 240 / 80))
    assert ratio.is_significant
