"""Sweeps over folds: means, differences and their errors by hand."""

import csv
from dataclasses import replace
from io import StringIO

import numpy as np
import pytest
from scipy import stats

from shvit_pl.sweep.engine.reading import Cell, Results
from shvit_pl.sweep.report.comparisons import Folds, estimate
from shvit_pl.sweep.report.findings import findings_of
from shvit_pl.sweep.report.table import Spread
from shvit_pl.sweep.report.write import cells_markdown, page_html, runs_csv
from tests.sweep.report.sweeps import done

# accuracies in percent of three folds with two seeds, by cell: ((fold 1, 2, 3) of seed 0, then of seed 1)
CONV, ATTENTION = ((90, 92, 94), (92, 92, 96)), ((91, 93, 97), (93, 95, 97))
PAIR = np.array([[1, 0]])


def folded():
    cells = []
    for level, of_seeds in (("conv", CONV), ("attention", ATTENTION)):
        choices = {"model.design.stage1": level}
        runs = [
            replace(done(choices, seed, percent / 100), fold=fold)
            for seed, percents in enumerate(of_seeds)
            for fold, percent in enumerate(percents, start=1)
        ]
        cells.append(Cell(f"stage1 {level}", choices, tuple(runs)))
    return Results("folded", "grid", {"val/acc1": "max"}, tuple(cells), folds=3)


def test_a_cells_mean_is_over_all_runs_and_its_error_is_corrected_for_shared_images():
    # means of folds 91, 92, 95: mean 92.667, variance (2.779 + 0.445 + 5.443) / 2 = 4.3333;
    # times 1/3 + 1/2 = 0.8333 it is 3.6111, whose root is 1.9003
    value = findings_of(folded()).table.rows[0].values["val/acc1"]
    assert (100 * value.mean, 100 * value.sd) == pytest.approx((92.66667, 1.90029), abs=1e-4)
    assert Spread({(0, 1): 1.0}, folds=3).sd is None


def test_a_difference_is_made_fold_by_fold_with_the_corrected_error():
    # differences of seed 0: 1, 1, 3; of seed 1: 1, 3, 1; their means over seeds by fold: 1, 2, 2.
    # mean 5/3, variance (4/9 + 1/9 + 1/9) / 2 = 1/3; times 1/3 + 1/2 it is 5/18, whose root is 0.52705; t is 3.16228
    (effect,) = findings_of(folded()).effects
    found = effect.gains["val/acc1"]
    assert (found.mean, found.error, found.freedom) == pytest.approx((5 / 3, (5 / 18) ** 0.5, 2))
    assert found.p == pytest.approx(2 * stats.t.sf(10**0.5, 2))
    assert (found.seeds, found.pairs, found.planned, found.folds, found.over) == (3, 6, 6, 3, "3 folds")


def test_the_plain_error_would_be_too_small_and_two_folds_of_five_count_as_two():
    values = np.array([[0.0, 0.0, np.nan, np.nan, np.nan], [1.0, 3.0, 5.0, np.nan, np.nan]])
    found = estimate(values, PAIR, folds=Folds(np.arange(1, 6), 5))
    # differences 1 and 3: variance 2, times 1/2 + 1/4 is 1.5; without folds, times 1/2 is 1
    assert (found.mean, found.error) == pytest.approx((2.0, 1.5**0.5))
    assert estimate(values, PAIR).error == pytest.approx(1.0)


def test_without_an_effect_one_sweep_in_twenty_claims_one_where_folds_are_correlated_by_what_they_share():
    rng, p = np.random.default_rng(0), {0: [], 5: []}
    for _ in range(600):
        # the correlation that Nadeau and Bengio take: n_test / (n_test + n_train), a fifth
        differences = 0.8**0.5 * rng.normal(size=5) + 0.2**0.5 * rng.normal()
        for folds in p:
            p[folds].append(estimate(np.stack([np.zeros(5), differences]), PAIR, folds=Folds(np.arange(5), folds)).p)
    claims = {folds: np.mean(np.array(values) < 0.05) for folds, values in p.items()}
    assert claims[5] == pytest.approx(0.05, abs=0.02)
    assert claims[0] > 0.1


def test_the_report_says_that_it_is_over_folds():
    findings = findings_of(folded())
    text = cells_markdown(findings)
    assert "Mean ± standard error of the mean over folds, corrected for the training images that folds share." in text
    assert "| 0.9267 ± 0.0190 |" in text
    assert "cross-validation: 3 folds of the same training split" in text
    assert " seeds would" not in text
    page = page_html(findings)
    assert "2 seeds x 3 folds each" in page
    assert "seed 1, fold 3" in page
    rows = list(csv.DictReader(StringIO(runs_csv(findings))))
    assert [(row["seed"], row["fold"]) for row in rows[:4]] == [("0", "1"), ("0", "2"), ("0", "3"), ("1", "1")]
