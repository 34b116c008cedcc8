import numpy as np
import pytest
from scipy.stats import binomtest, t

from shvit_pl.sweep.report.findings import findings_of
from tests.sweep.report.sweeps import cube, sweep, with_speed


def test_costs_are_geometric_means_of_ratios():
    main = findings_of(with_speed(cube())).effects.main[0]
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
    ratio = findings_of(results).effects.main[0].costs["images_per_second"]
    logs = np.log([1.1, 1.2, 1.4])
    half = t.ppf(0.975, 2) * logs.std(ddof=1) / np.sqrt(3)
    assert (ratio.mean, ratio.low, ratio.high) == pytest.approx(tuple(np.exp(logs.mean() + np.array([0, -half, half]))))
    assert not ratio.is_seen  # though all three seeds say more


def test_of_costs_that_only_seem_to_differ_few_are_claimed():
    seen = [
        main.costs["images_per_second"].is_seen
        for draw in range(150)
        for main in findings_of(cube(draw=draw)).effects.main
        if main.contrast.factor.header == "stages"  # which leave the rate as it is
    ]
    assert binomtest(sum(seen), len(seen), 0.05, alternative="greater").pvalue > 0.01


def test_the_range_of_a_speed_goes_from_quartile_to_quartile():
    results = with_speed(sweep({("a",): {0: 90.0}, ("b",): {0: 91.0}}))
    slow, fast = results.speed["cells"].values()
    slow.update(eager=100.0, eager_iqr=[80.0, 120.0])
    fast.update(eager=200.0, eager_iqr=[180.0, 240.0])
    ratio = findings_of(results).effects.main[0].costs["inference_eager"]
    assert (ratio.mean, ratio.low, ratio.high) == pytest.approx((2.0, 180 / 120, 240 / 80))
    assert ratio.is_seen
