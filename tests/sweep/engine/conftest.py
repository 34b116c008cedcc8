"""Sweeps of made-up runs, and the places where their study may live."""

import uuid

import pytest

from tests.sweep.engine.launch import Sweep
from tests.sweep.engine.processes import kill, processes_of
from tests.sweep.postgres import postgres  # noqa: F401


@pytest.fixture
def sweep(tmp_path):
    """A sweep of made-up runs; whatever is left of it is ended."""
    yield Sweep(str(tmp_path / "numbers"))
    for process in processes_of(tmp_path / "numbers"):
        kill(process)


@pytest.fixture(params=["journal", "postgresql"])
def storage(request):
    """The journal, or a fresh database."""
    if request.param == "journal":
        return None
    return request.getfixturevalue("postgres").new(uuid.uuid4().hex)
