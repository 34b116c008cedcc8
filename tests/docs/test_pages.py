"""The documents' code runs, or says what it needs; README's is run by `tests/test_first_run.py`."""

import re

import pytest

from tests.docs.pages import NEEDS, PAGES, README, ROOT, blocks, page_name, run_page

RUN = [page for page in PAGES if page != README and any(not block.needs for block in blocks(page))]
IN_CI = ("docs/training.md", "docs/python.md")  # the main job by command and from Python; the others in `full`
FOLDERS = [ROOT, ROOT / "shvit_pl", ROOT / "cli_configs"]


def test_the_pages_are_found():
    assert {"README.md", "CONTRIBUTING.md", "benchmarks/README.md"} < set(map(page_name, PAGES))
    assert len(RUN) >= 8


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=pytest.mark.slow if page_name(page) in IN_CI else pytest.mark.full) for page in RUN],
    ids=page_name,
)
def test_its_code_runs_in_order(page, tmp_path_factory):
    run_page(page, tmp_path_factory.mktemp("tools"))


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_mark_is_one_of_four_and_before_a_block(page):
    marked = [block for block in blocks(page) if block.needs]
    assert len(re.findall("^<!-- needs:", page.read_text(), re.MULTILINE)) == len(marked)
    assert {need for block in marked for need in block.needs} <= NEEDS


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_block_is_run_or_shown_only(page):
    opened = re.findall(r"^ *```(\w.*)$", page.read_text(), re.MULTILINE)
    assert set(opened) <= {"bash", "python", "text", "yaml", "mermaid"}
    assert sum(kind in ("bash", "python") for kind in opened) == len(blocks(page))


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_its_files_are_there(page):
    """What stands in backticks, has a folder and ends like source or a config is a file of this repository."""
    for name in re.findall(r"`([a-z_.]+/[a-z_./0-9]+\.(?:py|yaml|toml|md|csv))`", page.read_text()):
        assert any((folder / name).is_file() for folder in FOLDERS), name


def test_the_rooms_of_the_architecture_are_there():
    rooms = re.findall(r"(?<![\w/])([a-z_]+(?:/[a-z_]+)*)/(?![\w/])", (ROOT / "docs" / "architecture.md").read_text())
    assert len(set(rooms)) >= 15
    for room in set(rooms):
        assert any(path.is_dir() for folder in FOLDERS for path in [folder / room, *folder.glob(f"*/{room}")]), room
