"""Peak memory of a call, and the official timing."""

import torch

from shvit_pl.deploy import benchmark
from shvit_pl.deploy.benchmark import officially_timed, peak_memory
from shvit_pl.deploy.timing import Work

MEGABYTE = 1_000_000


def test_what_a_call_holds_at_once_is_counted_and_what_it_gives_back_is_not():
    def call():
        first = torch.empty(3 * MEGABYTE, dtype=torch.uint8)
        del first
        second = torch.empty(2 * MEGABYTE, dtype=torch.uint8)
        third = torch.empty(2 * MEGABYTE, dtype=torch.uint8)
        del second, third

    assert 4 * MEGABYTE <= peak_memory(call, torch.device("cpu")) < 4.01 * MEGABYTE


def test_the_official_timing_is_the_batch_over_the_mean_after_a_warm_up(monkeypatch):
    class Clock:
        now = 0.0

        def time(self):
            return self.now

    clock, durations = Clock(), iter([5.0] * 2 + [1.0, 2.0, 3.0])

    def call():
        clock.now += next(durations)

    monkeypatch.setattr(benchmark, "time", clock)
    assert officially_timed(Work(call, 4, torch.device("cpu")), warm_up=10, seconds=6).rounds == (4 / 2.0,)
