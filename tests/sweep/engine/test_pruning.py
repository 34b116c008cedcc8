"""Runs ask the driver whether to go on; whoever else talks to it, or dies meanwhile, keeps nobody waiting."""

import socket
from contextlib import ExitStack
from types import SimpleNamespace

import pytest

from shvit_pl.sweep.engine.pruning import KEY_VARIABLE, PruneServer, PruneTrial


@pytest.fixture(params=[None, "127.0.0.1", "localhost"], ids=["on this computer", "by address", "by name"])
def server(request, monkeypatch):
    """A server that stops trial 1 after the second epoch, and knows no trial 2."""

    def report(trial, value, epoch):
        if trial == 2:
            raise RuntimeError("the trial has ended")
        return trial == 1 and value < 0.5 and epoch > 1

    server = PruneServer(report, request.param)
    monkeypatch.setenv(KEY_VARIABLE, server.key)
    yield server
    server.close()


def is_stopped(address, trial, epoch, value=0.1):
    trainer = SimpleNamespace(
        state=SimpleNamespace(fn="fit"), sanity_checking=False, current_epoch=epoch - 1, max_epochs=3,
        is_global_zero=True, callback_metrics={"val/acc1": SimpleNamespace(item=lambda: value)}, should_stop=False,
        strategy=SimpleNamespace(broadcast=lambda prune: prune),
    )  # fmt: skip
    PruneTrial(address, trial, "val/acc1").on_validation_end(trainer, None)
    return trainer.should_stop


def test_a_run_is_stopped_by_the_driver_alone_and_between_two_epochs(server):
    asked = [(0, 2), (1, 1), (1, 2), (2, 2), (1, 3), (1, 2)]  # also after one that the driver can't answer
    assert [is_stopped(server.address, trial, epoch) for trial, epoch in asked] == [
        False,
        False,
        True,
        False,
        False,
        True,
    ]
    assert not is_stopped(server.address, 1, 2, value=0.7)


def test_strangers_keep_nobody_waiting(server, monkeypatch):
    host, _, port = server.address.rpartition(":")
    with ExitStack() as stack:
        for _ in range(3):  # they say nothing
            family = socket.AF_INET if host else socket.AF_UNIX
            stranger = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
            stranger.connect((host, int(port)) if host else server.address)
        assert is_stopped(server.address, 1, 2)
    monkeypatch.setenv(KEY_VARIABLE, "another")
    assert not is_stopped(server.address, 1, 2)
    monkeypatch.setenv(KEY_VARIABLE, server.key)
    assert is_stopped(server.address, 1, 2)


def test_a_run_goes_on_without_its_driver(server):
    address = server.address
    server.close()
    assert not is_stopped(address, 1, 2)
