"""Temperature, calibration error, and scores that tell known images from others, by values computed by hand."""

from math import log

import pytest
import torch

from shvit_pl.modules import reliability
from shvit_pl.modules.reliability import calibration, calibration_error, fit_temperature, scores, separation


def sure(confidence, right, wrong):
    """Logits of two classes with one confidence, of which so many are right."""
    logit = log(confidence / (1 - confidence))
    logits = torch.tensor([[logit, 0.0]]).repeat(right + wrong, 1)
    return logits, torch.tensor([0] * right + [1] * wrong)


def test_the_temperature_gives_the_confidence_that_is_deserved():
    """90 % sure (a logit of ln 9) and right 3 times of 4 (ln 3): T = ln 9 / ln 3 = 2. Unsure: 1/2."""
    logits, labels = sure(0.9, 30, 10)
    assert fit_temperature(logits, labels) == pytest.approx(2.0, abs=1e-3)
    logits, labels = sure(0.75, 36, 4)
    assert fit_temperature(logits, labels) == pytest.approx(0.5, abs=1e-3)


def test_where_all_are_right_the_temperature_ends_at_its_limit():
    logits, labels = sure(0.9, 10, 0)
    assert fit_temperature(logits, labels) == pytest.approx(reliability.LIMITS[0], rel=1e-3)


def test_the_calibration_error_is_the_distance_of_confidence_from_accuracy():
    """One bin: |0.9 - 0.75| = 0.15. Two bins, 40 images in the first and 10 in the second: 0.8 * 0.15 + 0.2 * 0.2."""
    logits, labels = sure(0.9, 30, 10)
    assert calibration_error(logits, labels) == pytest.approx(0.15, abs=1e-5)
    more, theirs = sure(0.6, 4, 6)  # right in 0.4 of them
    together = calibration_error(torch.cat([logits, more]), torch.cat([labels, theirs]))
    assert together == pytest.approx(0.8 * 0.15 + 0.2 * 0.2, abs=1e-5)


def test_each_half_is_judged_by_the_temperature_of_the_other(monkeypatch):
    halves = []

    def constant(logits, labels):
        halves.append(len(labels))
        return 2.0 if len(halves) == 1 else 4.0 if len(halves) == 2 else 3.0

    monkeypatch.setattr(reliability, "fit_temperature", constant)
    logits, labels = sure(0.9, 30, 10)
    found = calibration(logits, labels)
    assert (halves, found.temperature, found.images) == ([20, 20, 40], 3.0, 40)
    assert found.ece_before == pytest.approx(0.15, abs=1e-5)
    assert found.nll_before == pytest.approx(-(0.75 * log(0.9) + 0.25 * log(0.1)), abs=1e-5)
    # the logit ln 9 divided by 2 is 0.75 sure, and by 4 it is 0.634; which half has which, and how many are right in
    # it, is drawn, but 30 of 40 are right
    half, quarter = ([log(1 + 3**-power), log(1 + 3**power)] for power in (1.0, 0.5))  # of right and wrong images
    possible = [
        (right * half[0] + (20 - right) * half[1] + (30 - right) * quarter[0] + (right - 10) * quarter[1]) / 40
        for right in range(10, 21)
    ]
    assert min(abs(found.nll_after - value) for value in possible) < 1e-6


def test_a_temperature_fitted_on_the_same_images_would_look_better():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(60, 5, generator=generator) * 3
    labels = torch.multinomial((logits / 3).softmax(-1), 1, generator=generator)[:, 0]  # three times too sure
    found = calibration(logits, labels)
    same = torch.nn.functional.cross_entropy(logits / found.temperature, labels)
    assert float(same) < found.nll_after < found.nll_before
    assert calibration(logits, labels) == found


def test_auroc_and_false_positives_by_hand():
    """Of the 3 others, the known images are above 3, 3, 2 and 1: in 9 of 12 pairs.

    To keep 95 % of four known ones, all four must pass: the threshold is 0.3, which the others 0.6 and 0.5 pass.
    """
    known, others = torch.tensor([0.9, 0.8, 0.55, 0.3]), torch.tensor([0.6, 0.5, 0.2])
    found = separation(known, others)
    assert found.auroc == pytest.approx(9 / 12)
    assert found.fpr95 == pytest.approx(2 / 3)
    large = separation(known * 1000 + 500, others * 1000 + 500)  # energies are no probabilities
    assert large == found


def test_equal_scores_count_half():
    assert separation(torch.ones(4), torch.ones(5)).auroc == pytest.approx(0.5)
    assert separation(torch.ones(4), torch.ones(5)).fpr95 == 1.0


def test_twenty_images_may_lose_one():
    """19 of 20 known images are 95 %: the threshold may be above the lowest one."""
    known = torch.cat([torch.full((19,), 2.0), torch.zeros(1)])
    assert separation(known, torch.tensor([1.0, 3.0])).fpr95 == pytest.approx(0.5)


def test_the_scores_are_the_papers():
    """Logits ln 3 and 0: softmax 3/4, and the negative energy ln(3 + 1)."""
    found = scores(torch.tensor([[log(3.0), 0.0]]))
    assert found["max_softmax"].item() == pytest.approx(0.75)
    assert found["energy"].item() == pytest.approx(log(4.0))
