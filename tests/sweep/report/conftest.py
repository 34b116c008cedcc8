"""Pages in a browser."""

import pytest

from shvit_pl.sweep.report.findings import findings_of
from shvit_pl.sweep.report.page import render
from tests.sweep.report.browser import chromium, show


@pytest.fixture(scope="module")
def chrome(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture
def opened(chrome, tmp_path):
    """Opens the page of a sweep."""

    def opened(results, **options):
        page = tmp_path / "report.html"
        page.write_text(render(findings_of(results)))
        show(chrome, page, **options)
        return chrome

    return opened
