"""What the device does at most."""

import torch

from shvit_pl.deploy.timing import peaks


def test_the_peaks_are_those_of_a_product_and_a_copy():
    flops, moved = peaks(torch.device("cpu"), torch.float32)
    assert 1e8 < moved < 1e13
    assert 1e9 < flops < 1e15
