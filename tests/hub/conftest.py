"""A run to push."""

import shutil

import pytest


@pytest.fixture
def own(run, tmp_path):
    """A copy of the folder of a run, to be changed."""
    return shutil.copytree(run, tmp_path / "runs" / "tiny" / "version_0")
