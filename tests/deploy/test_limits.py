"""What layers read and write, and what the device does at most."""

from copy import deepcopy

import torch
from torch import nn

from shvit_pl.deploy.limits import bytes_moved, bytes_of_layers, peaks

MODEL = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Identity(), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 16, 2))
IMAGES = torch.zeros(5, 3, 4, 4)


def test_every_layer_moves_its_input_output_and_weights_once():
    maps, numbers = 5 * 8 * 16, 4  # float32
    assert bytes_of_layers(MODEL, IMAGES) == {
        "0": numbers * (5 * 3 * 16 + maps + 8 * 3 * 9 + 8),
        "2": numbers * 2 * maps,
        "4": numbers * (maps + 5 * 2 + 2 * 8 * 16 + 2),
    }
    assert bytes_moved(MODEL, IMAGES) == sum(bytes_of_layers(MODEL, IMAGES).values())
    assert not any(layer._forward_hooks for layer in MODEL)


def test_half_the_precision_moves_half_the_bytes():
    half = deepcopy(MODEL[:1]).to(torch.bfloat16)
    assert 2 * bytes_moved(half, IMAGES.to(torch.bfloat16)) == bytes_moved(MODEL[:1], IMAGES)


def test_the_peaks_are_those_of_a_product_and_a_copy():
    flops, moved = peaks(torch.device("cpu"), torch.float32)
    assert 1e8 < moved < 1e13
    assert 1e9 < flops < 1e15
