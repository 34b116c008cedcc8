"""Small runs to export, with weights whose every tensor shows in the outputs."""

import pytest

from tests.hub.runs import quick_fit, with_design


@pytest.fixture(scope="session")
def plain_run(tmp_path_factory):
    """The folder of a run on the digits."""
    root = tmp_path_factory.mktemp("export_plain")
    return with_design(quick_fit(root / "fit"), root / "run", name="tiny", depth=(1, 1, 1))


@pytest.fixture(scope="session")
def distilled_run(plain_run, tmp_path_factory):
    """The folder of such a run with two classifiers."""
    folder = tmp_path_factory.mktemp("export_dual") / "run"
    return with_design(plain_run, folder, name="tiny", depth=(1, 1, 1), distilled=True)
