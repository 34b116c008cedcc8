"""Peak memory of a call."""

import torch

from shvit_pl.deploy.benchmark.memory import PeakMemory

MEGABYTE = 1_000_000


def test_what_a_call_holds_at_once_is_counted_and_what_it_gives_back_is_not():
    def call():
        first = torch.empty(3 * MEGABYTE, dtype=torch.uint8)
        del first
        second = torch.empty(2 * MEGABYTE, dtype=torch.uint8)
        third = torch.empty(2 * MEGABYTE, dtype=torch.uint8)
        del second, third

    peak = PeakMemory(torch.device("cpu")).of(call)
    assert 4 * MEGABYTE <= peak < 4.01 * MEGABYTE
