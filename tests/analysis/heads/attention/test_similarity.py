"""Similarity is a cosine between heads, over whole maps or query by query."""

import math

import pytest
import torch

from shvit_pl.analysis import head_similarity
from shvit_pl.analysis.heads.attention.similarity import per_sample
from shvit_pl.errors import UserError

BOTH = pytest.mark.parametrize("vectorise", ["map", "query"])


def softmax_maps(samples=3, heads=4, queries=5, keys=6):
    return torch.randn(samples, heads, queries, keys, generator=torch.Generator().manual_seed(0)).mul(3).softmax(-1)


@BOTH
def test_identical_heads_are_alike_and_heads_that_look_elsewhere_are_not(vectorise):
    same = softmax_maps(heads=1).repeat(1, 3, 1, 1)
    torch.testing.assert_close(head_similarity(same, vectorise), torch.ones(3))
    apart = torch.eye(4)[None, :, None].repeat(2, 1, 5, 1)  # head h looks at key h, whichever the query
    assert head_similarity(apart, vectorise).tolist() == [0, 0, 0, 0]


def test_hand_made_maps_have_the_cosines_that_they_should():
    first, second, third = [[1.0, 0.0], [1.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]], [[0.5, 0.5], [0.5, 0.5]]
    maps = torch.tensor([[first, second, third]])
    whole = {(0, 1): 1 / 2, (0, 2): 1 / math.sqrt(2), (1, 2): 1 / math.sqrt(2)}
    single = {(0, 1): (1 + 0) / 2, (0, 2): 1 / math.sqrt(2), (1, 2): 1 / math.sqrt(2)}
    for vectorise, pairs in (("map", whole), ("query", single)):
        of = [[cosine for pair, cosine in pairs.items() if head in pair] for head in range(3)]
        assert head_similarity(maps, vectorise).tolist() == pytest.approx([sum(found) / 2 for found in of])


def test_whole_maps_count_sharp_rows_more_than_single_queries_do():
    sharp_alike = torch.tensor([[[[1.0, 0.0], [0.5, 0.5]], [[1.0, 0.0], [0.1, 0.9]]]])
    rows = (1 + (0.05 + 0.45) / math.sqrt(0.5 * 0.82)) / 2
    whole = (1 + 0.5) / math.sqrt(1.5 * 1.82)
    assert head_similarity(sharp_alike, "query").tolist() == pytest.approx([rows, rows])
    assert head_similarity(sharp_alike, "map").tolist() == pytest.approx([whole, whole])


@BOTH
def test_it_is_the_mean_over_samples_of_the_cosines_of_all_pairs(vectorise):
    maps = softmax_maps()
    expected = torch.empty(3, 4)
    for sample in range(3):
        for head in range(4):
            cosines = []
            for other in set(range(4)) - {head}:
                pair = maps[sample, head], maps[sample, other]
                vectors = [each.flatten()[None] for each in pair] if vectorise == "map" else pair
                cosines.append(torch.cosine_similarity(*vectors, dim=1).mean())
            expected[sample, head] = sum(cosines) / 3
    torch.testing.assert_close(per_sample(maps, vectorise), expected)
    torch.testing.assert_close(head_similarity(maps, vectorise), expected.mean(0))


@BOTH
def test_one_head_has_no_others_to_be_like(vectorise):
    assert head_similarity(softmax_maps(heads=1), vectorise).isnan().tolist() == [True]


def test_maps_and_choices_that_make_no_sense_are_refused():
    with pytest.raises(UserError, match="'rows': allowed are map and query"):
        head_similarity(softmax_maps(), "rows")
    with pytest.raises(UserError, match=r"shape \(4, 5, 6\): expected"):
        head_similarity(softmax_maps()[0])
