"""A run to push."""

import shutil

import pytest

from tests.hub.runs import quick_fit


@pytest.fixture(scope="session")
def ended(tmp_path_factory):
    """The folder of a run of two steps on the digits, with averaged weights."""
    return quick_fit(tmp_path_factory.mktemp("ended"))


@pytest.fixture
def own(ended, tmp_path):
    """A copy of it, to be changed."""
    return shutil.copytree(ended, tmp_path / "runs" / "tiny" / "version_0")
