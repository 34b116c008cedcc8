"""What operators read and write."""

from copy import deepcopy

import torch
from torch import nn

from shvit_pl.deploy.timing import Traffic, bytes_moved
from shvit_pl.models.blocks import SelfAttention

MODEL = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Identity(), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 16, 2))
IMAGES = torch.zeros(5, 3, 4, 4)
NUMBER = 4  # bytes, in float32


def counted(work):
    with torch.no_grad(), Traffic() as traffic:
        work()
    return traffic.bytes


def test_layers_move_their_inputs_outputs_and_weights():
    maps = 5 * 8 * 16
    convolution = 5 * 3 * 16 + maps + 8 * 3 * 9 + 8
    linear = maps + 5 * 2 + 2 * 8 * 16 + 2
    assert bytes_moved(MODEL, IMAGES) == NUMBER * (convolution + 2 * maps + linear)


def test_half_the_precision_moves_half_the_bytes():
    half = deepcopy(MODEL).to(torch.bfloat16)
    assert 2 * bytes_moved(half, IMAGES.to(torch.bfloat16)) == bytes_moved(MODEL, IMAGES)


def test_views_move_nothing_and_the_copies_of_reshapes_do():
    x = torch.zeros(6, 4)
    assert counted(lambda: (x.t(), x[:, 1:], x.view(3, 8), x.reshape(24), x.split(2), x.detach())) == 0
    assert counted(lambda: x.t().reshape(24)) == counted(x.clone) == 2 * x.nbytes


def test_what_is_added_in_place_is_read_and_written():
    x, y = torch.zeros(6, 4), torch.zeros(6, 4)
    assert counted(lambda: x.add_(y)) == counted(lambda: x + y) == 3 * x.nbytes


def test_the_scores_of_attention_are_counted():
    mixer = SelfAttention(dim=32, attended=8, qk_dim=4).eval()
    few, many = (counted(lambda side=side: mixer(torch.zeros(1, 32, side, side))) for side in (8, 16))
    scores = 16**4 - 8**4
    assert many - few > 5 * NUMBER * scores  # written by the product, read and written twice: the scale, the softmax
