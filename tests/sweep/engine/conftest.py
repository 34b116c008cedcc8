"""Sweeps of made-up runs."""

import pytest

from tests.sweep.engine.launch import Sweep, kill, processes_of


@pytest.fixture
def sweep(tmp_path):
    """A sweep of made-up runs; whatever is left of it is ended."""
    yield Sweep(str(tmp_path / "numbers"))
    for process in processes_of(tmp_path / "numbers"):
        kill(process)
