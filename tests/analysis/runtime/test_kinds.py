"""Operators are sorted by their own name, else by their caller's."""

from collections import Counter

import pytest
import torch

from shvit_pl.analysis.runtime.kinds import KINDS, OPERATORS, kind_of

CHAINS = [
    (["aten::addmm", "aten::linear"], "matrix product"),
    (["aten::mkldnn_convolution", "aten::_convolution"], "matrix product"),
    (["aten::relu_"], "elementwise"),
    (["aten::_softmax", "aten::softmax"], "normalisation"),
    (["aten::cat"], "copy"),
    (["aten::permute"], "reshape"),
    (["aten::copy_"], "copy"),
    (["aten::copy_", "aten::_to_copy", "aten::to"], "copy"),
    (["aten::copy_", "aten::clone", "aten::contiguous"], "reshape"),
    (["aten::copy_", "aten::clone", "aten::reshape", "aten::matmul"], "reshape"),
    (["aten::copy_", "aten::addmm"], "matrix product"),
    (["aten::empty", "aten::native_layer_norm"], "normalisation"),
    (["aten::empty"], "other"),
    (["aten::never_heard_of", "aten::nor_of_this"], "other"),
    (["some_library::add"], "elementwise"),
]


@pytest.mark.parametrize(("chain", "kind"), CHAINS, ids=[" < ".join(chain) for chain, _ in CHAINS])
def test_an_operator_has_the_kind_of_the_first_known_name(chain, kind):
    assert kind_of(chain) == kind


def test_no_operator_is_of_two_kinds():
    names = Counter(name for names in OPERATORS.values() for name in names.split())
    assert [name for name, number in names.items() if number > 1] == []
    assert set(OPERATORS) == set(KINDS) - {"other"}


def test_most_of_the_listed_operators_are_torchs():
    names = [name for names in OPERATORS.values() for name in names.split()]
    there = [name for name in names if hasattr(torch.ops.aten, name)]
    assert len(there) > 0.8 * len(names)
