"""The paper's scores, and which head is called important or redundant."""

import pytest
import torch

from shvit_pl.analysis.heads.attention.layers import AttentionLayer
from shvit_pl.analysis.heads.found.results import LayerResult, layer_results
from shvit_pl.analysis.heads.found.sums import Found


def layer(without, alone, intact=70.0):
    return LayerResult(1, "attn", intact, torch.rand(4, len(without)), tuple(without), tuple(alone))


def test_the_score_of_a_layer_is_that_of_the_head_that_costs_least():
    found = layer(without=(60, 69.5, 50), alone=(10, 5, 65))
    assert (found.change_without, found.change_alone) == (-0.5, -5)


def test_important_is_what_is_missed_most_and_does_most_alone():
    found = layer(without=(60, 69, 50), alone=(10, 5, 65))
    assert (found.important, found.redundant) == (2, 1)


def test_both_scores_count():
    """Head 0 is missed by 3 points more than head 1, which does 5 more alone."""
    assert layer(without=(66, 69, 70), alone=(20, 25, 10)).important == 1


def test_heads_that_are_worth_the_same_are_not_named():
    found = layer(without=(60, 60, 70), alone=(10, 10, 5))
    assert (found.important, found.redundant) == (None, 2)


def test_a_single_head_has_nothing_to_be_compared_with():
    found = layer(without=(60,), alone=(70,))
    assert (found.similarity, found.spread, found.important, found.redundant) == (None, None, None, None)


def test_the_spread_is_that_of_images():
    similarities = torch.tensor([[10.0, 30.0], [40.0, 60.0]])
    found = LayerResult(1, "attn", 70, similarities, (1, 2), (1, 2))
    assert found.similarity == 35
    assert found.spread == pytest.approx(torch.tensor([20.0, 50.0]).std().item())
    assert found.head_similarity(1) == 45


def test_counts_become_percent():
    found = Found(
        similarity=[torch.full((2, 2), 0.5)], images=200, intact=150, matching=[torch.tensor([[140, 120], [100, 20]])]
    )
    (only,) = layer_results([AttentionLayer("blocks.0.attn", 2, "", "", -1, 32)], found)
    assert (only.number, only.name, only.heads, only.intact) == (1, "blocks.0.attn", 2, 75)
    assert (only.without, only.alone, only.similarity) == ((70, 60), (50, 10), 50)
