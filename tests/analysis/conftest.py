"""A run whose network has several heads, and studies without their slow figures."""

import pytest

from shvit_pl.analysis import heads_report
from tests.conftest import once_per_session
from tests.hub.runs import with_design

_DESIGN = {"name": "tiny", "mixers": ("conv", "multi_head", "multi_head"), "num_heads": 4, "patch_size": 8}


@pytest.fixture(scope="session")
def multi_head_run(run, tmp_path_factory):
    """The folder of a run, as if it had trained a network with four layers of four heads."""
    return once_per_session(tmp_path_factory, "multi_head", lambda folder: with_design(run, folder, **_DESIGN))


@pytest.fixture
def no_figures(monkeypatch):
    """Studies of heads that draw nothing: figures take most of the time of a small study."""
    monkeypatch.setattr(heads_report, "draw_figures", lambda findings: {})
