from dataclasses import replace
from itertools import combinations, product

import numpy as np
import pytest
from scipy.stats import binomtest, t

from shvit_pl.sweep.report.comparisons import compare
from shvit_pl.sweep.report.statistics import Estimate, cell_variances, corrected, estimate
from shvit_pl.sweep.report.table import make_table
from tests.sweep.report.sweeps import at, cube, listed, search, sweep, with_speed

NONE = {}


def effects(results):
    return compare(make_table(results))


def mains(results, key="val/acc1"):
    return {main.contrast.text: main.gains[key] for main in effects(results).main}


def costs(results):
    return effects(results).main[0].costs


def test_a_main_effect_is_the_mean_paired_difference_with_the_t_interval_in_closed_form():
    found = mains(sweep({("a",): {0: 90.0, 1: 91.0, 2: 92.0}, ("b",): {0: 91.0, 1: 93.0, 2: 95.0}}))["x b instead of a"]
    mean, error = 2.0, 1.0 / np.sqrt(3)  # of the differences 1, 2 and 3
    assert found.mean == pytest.approx(mean)
    assert found.low == pytest.approx(mean - t.ppf(0.975, 2) * error)
    assert found.high == pytest.approx(mean + t.ppf(0.975, 2) * error)
    assert found.p == pytest.approx(2 * t.sf(mean / error, 2))
    assert (found.seeds, found.pairs, found.planned) == (3, 3, 3)


def test_seeds_are_paired_so_that_what_they_share_is_no_noise():
    shared = {0: 80.0, 1: 95.0, 2: 60.0}
    other = {seed: value + gain for (seed, value), gain in zip(shared.items(), (1.0, 1.1, 0.9), strict=True)}
    assert mains(sweep({("a",): shared, ("b",): other}))["x b instead of a"].is_significant


def test_a_third_level_is_compared_with_the_first():
    found = mains(sweep({("a",): {0: 90.0, 1: 90.5}, ("b",): {0: 91.0, 1: 92.0}, ("c",): {0: 93.0, 1: 95.5}}))
    assert {text: one.mean for text, one in found.items()} == {
        "x b instead of a": pytest.approx(1.25),
        "x c instead of a": pytest.approx(4.0),
    }


def test_an_interaction_is_the_difference_of_the_differences():
    gains = {("a", "c"): 0.0, ("b", "c"): 2.0, ("a", "d"): 1.0, ("b", "d"): 0.5}
    jitter = {("b", "d"): {0: -0.1, 1: 0.0, 2: 0.1}}
    table = {key: {s: 90 + gain + jitter.get(key, {}).get(s, 0) for s in range(3)} for key, gain in gains.items()}
    (found,) = effects(sweep(table)).interactions
    each = found.gains["val/acc1"]
    assert each.mean == pytest.approx((0.5 - 1.0) - (2.0 - 0.0))
    assert found.sides["val/acc1"] == (pytest.approx(2.0), pytest.approx(-0.5))
    assert each.p == pytest.approx(2 * t.sf(2.5 / (0.1 / np.sqrt(3)), 2))  # one cell has all the noise


def test_p_values_are_corrected_as_holm_does():
    found = corrected([Estimate(1.0, p=p) for p in (0.01, 0.04, 0.03, 0.005)])
    assert [one.p_corrected for one in found] == pytest.approx([0.03, 0.06, 0.06, 0.02])  # Holm's steps by hand
    assert [one.is_significant for one in found] == [True, False, False, True]


def test_what_has_no_p_does_not_count_as_a_test():
    first, second = corrected([Estimate(1.0, p=0.03), Estimate(None)])
    assert first.p_corrected == pytest.approx(0.03)
    assert second.p_corrected is None


def test_one_seed_makes_no_interval_and_no_claim():
    for one in mains(cube(effects={"patch_size": -0.5}, seeds=(7,))).values():
        assert (one.low, one.high, one.p, one.is_significant) == (None, None, None, False)


def test_seeds_that_agree_exactly_make_no_claim():
    found = mains(sweep({("a",): {0: 90.0, 1: 91.0, 2: 92.0}, ("b",): {0: 90.5, 1: 91.5, 2: 92.5}}))["x b instead of a"]
    assert found.mean == pytest.approx(0.5)
    assert not found.is_significant
    assert found.p is None


def test_a_big_effect_is_significant_with_its_size_and_nothing_else_is():
    found = mains(cube(effects={"patch_size": -0.05}, noise=0.001))
    assert found["patch_size 16 instead of 4"].is_significant
    assert found["patch_size 16 instead of 4"].mean == pytest.approx(-5, abs=0.3)
    assert not found["stages 4 instead of 3"].is_significant


def test_an_interaction_is_significant_between_the_right_choices():
    found = effects(cube(effects=NONE, noise=0.0005, interaction=0.03)).interactions
    seen = [one for one in found if one.gains["val/acc1"].is_significant]
    assert [(one.first.factor.header, one.second.factor.header) for one in seen] == [("patch_size", "stages")]


def families(draws, spread, seeds=3):
    """Corrected and raw smallest p of all six tests of 2 x 2 x 2 cubes without any effect."""
    rng = np.random.default_rng(0)
    cells = np.array(list(product((0, 1), repeat=3)))
    index = {tuple(cell): i for i, cell in enumerate(cells)}
    steps = np.eye(3, dtype=int)
    pairs = [[(index[tuple(c)], index[tuple(c - s)]) for c in cells if c @ s] for s in steps]
    quads = [
        [[index[tuple(c - i * s - j * t)] for j in (0, 1) for i in (0, 1)] for c in cells if c @ s and c @ t]
        for s, t in combinations(steps, 2)
    ]
    for _ in range(draws):
        values = np.array([rng.normal(0, scale, seeds) for scale in spread])
        tests = [estimate(values, np.array(groups), variances=cell_variances(values)) for groups in pairs + quads]
        found = corrected(tests)
        yield min(one.p_corrected for one in found), min(one.p for one in found)


@pytest.mark.parametrize(
    ("spread", "uncorrected"),
    [([1] * 8, 0.15), ([1] * 4 + [3] * 4, 0.15), ([0.1] * 7 + [2], 0.05)],
    ids=["even", "uneven", "one wild"],
)
def test_without_effects_at_most_one_cube_in_twenty_makes_any_claim(spread, uncorrected):
    found = np.array(list(families(300, spread)))
    claims, raw_claims = (found < 0.05).sum(axis=0)
    assert binomtest(int(claims), len(found), 0.05, alternative="greater").pvalue > 0.05
    assert raw_claims / len(found) > uncorrected  # so the correction is what holds it


def test_runs_that_are_missing_neither_bias_an_effect_nor_crash():
    whole = cube(effects={"patch_size": -0.02, "stages": 0.03, "stage1": 0.01}, noise=0.0)
    rng = np.random.default_rng(1)
    cells = []
    for cell in whole.cells:
        lost = rng.choice(["failed", "done", "running", "done"], size=len(cell.runs))
        cells.append(replace(cell, runs=tuple(at(run, state) for run, state in zip(cell.runs, lost, strict=True))))
    found = mains(replace(whole, cells=tuple(cells)))
    known = {text: one for text, one in found.items() if one.mean is not None}
    expected = {"patch_size 16 instead of 4": -2, "stages 4 instead of 3": 3, "stage1 attention instead of conv": 1}
    assert len(known) >= 2
    for text, one in known.items():
        assert one.mean == pytest.approx(expected[text])
        assert 0 < one.pairs < one.planned == 12


def test_a_level_that_always_fails_has_no_effect_but_the_others_do():
    whole = cube()
    failed = (replace(cell, runs=tuple(at(run, "failed") for run in cell.runs)) for cell in whole.cells[4:])
    found = mains(replace(whole, cells=(*whole.cells[:4], *failed)))
    assert found["patch_size 16 instead of 4"] == Estimate(None, planned=12)
    assert found["stages 4 instead of 3"].pairs == 6


def test_a_list_that_is_no_product_is_compared_with_its_first_row():
    found = effects(listed())
    assert [main.contrast.text for main in found.main] == ["Mixup instead of base", "averaged instead of base"]
    assert [main.gains["val/acc1"].is_significant for main in found.main] == [True, False]
    assert found.interactions == []


def test_a_list_that_is_a_product_has_factors_where_what_a_row_leaves_out_is_a_level():
    table = {("a", "c"): {0: 90.0}, ("b", "c"): {0: 91.0}, ("a", "d"): {0: 92.0}, ("b", "d"): {0: 93.0}}
    whole = sweep(table, kind="list")
    bare = (replace(cell, choices={k: v for k, v in cell.choices.items() if v != "a"}) for cell in whole.cells)
    assert list(mains(replace(whole, cells=tuple(bare)))) == ["y d instead of c", "x b instead of default"]


def test_a_search_has_no_effects():
    assert effects(search()).main == []


def test_choices_that_always_change_together_are_one():
    table = {("a", "c"): {0: 90.0}, ("b", "c"): {0: 91.0}, ("a", "d"): {0: 92.0}, ("b", "d"): {0: 93.0}}
    whole = sweep(table)
    tied = (replace(cell, choices={**cell.choices, "model.z": cell.choices["model.x"] * 2}) for cell in whole.cells)
    found = mains(replace(whole, cells=tuple(tied)))
    assert {text: one.mean for text, one in found.items()} == {
        "x, z b, bb instead of a, aa": pytest.approx(1.0),
        "y d instead of c": pytest.approx(2.0),
    }


def test_a_grid_whose_choices_cannot_be_told_apart_is_compared_with_its_first_cell():
    found = mains(sweep({("a", "c"): {0: 90.0}, ("b", "d"): {0: 91.0}, ("b", "e"): {0: 92.0}}))
    assert list(found) == ["b, d instead of a, c", "b, e instead of a, c"]


def test_costs_are_geometric_means_of_ratios():
    main = effects(with_speed(cube())).main[0]
    slow, fast = [], []
    for cell, rate in with_speed(cube()).speed["cells"].items():
        (fast if cell.startswith("patch_size 16") else slow).append(rate["eager"])
    expected = np.exp(np.mean(np.log(fast)) - np.mean(np.log(slow)))
    assert main.costs["inference_eager"].mean == pytest.approx(expected)
    assert main.costs["params"].mean == pytest.approx(6.01 / 0.5, rel=0.01)
    training = main.costs["images_per_second"]
    assert training.low < training.mean < training.high


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
    seen = [
        main.costs["images_per_second"].is_significant
        for draw in range(150)
        for main in effects(cube(draw=draw)).main
        if main.contrast.factor.header == "stages"  # which leave the rate as it is
    ]
    assert binomtest(sum(seen), len(seen), 0.05, alternative="greater").pvalue > 0.01


def test_the_range_of_a_speed_goes_from_quartile_to_quartile():
    results = with_speed(sweep({("a",): {0: 90.0}, ("b",): {0: 91.0}}))
    slow, fast = results.speed["cells"].values()
    slow.update(eager=100.0, eager_iqr=[80.0, 120.0])
    fast.update(eager=200.0, eager_iqr=[180.0, 240.0])
    ratio = costs(results)["inference_eager"]
    assert (ratio.mean, ratio.low, ratio.high) == pytest.approx((2.0, 180 / 120, 240 / 80))
    assert ratio.is_significant
