"""The numbers of a report stay what they are: `python -m tests.sweep.report.test_golden` writes them anew."""

import re
import tempfile
from html import unescape
from pathlib import Path

import pytest

from shvit_pl.sweep.report.findings import findings_of
from shvit_pl.sweep.report.write import write_report
from tests.sweep.report.sweeps import cube, listed, search, unfinished, with_speed

GOLDEN = Path(__file__).with_name("golden")
TWO = {"val/acc1": "max", "images_per_second": "max"}
SWEEPS = {
    "cube": lambda: with_speed(cube()),
    "interaction": lambda: cube(effects={}, noise=0.0003, interaction=0.02),
    "one_seed": lambda: with_speed(cube(seeds=(0,)), compiled=False),
    "unfinished": unfinished,
    "list": listed,
    "search": search,
    "two_objectives": lambda: search(objectives=TWO),
}


def page_text(page):
    """The text that a reader sees: the page without its scripts, styles, drawings, their names and tags."""
    seen = re.sub(r"<(script|style|svg|head)\b.*?</\1>|<div class=.names.*?</div>", "", page, flags=re.DOTALL)
    return unescape(re.sub(r"<[^>]*>", "\n", seen))


def numbers(text):
    """The numbers of each line that has any."""
    lines = (re.findall(r"[-+]?\d+(?:\.\d+)?(?:e[-+]\d+)?", line) for line in text.splitlines())
    return [" ".join(line) for line in lines if line]


def report_numbers(results, folder):
    """The numbers of a sweep's report, file by file."""
    write_report(findings_of(results), folder)
    lines = []
    for name in ("results.md", "results.csv", "report.html"):
        text = (folder / name).read_text()
        lines += [f"# {name}", *numbers(page_text(text) if name.endswith("html") else text)]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("name", SWEEPS)
def test_a_report_has_the_numbers_that_it_had(name, tmp_path):
    assert report_numbers(SWEEPS[name](), tmp_path) == (GOLDEN / f"{name}.txt").read_text()


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for name, results in SWEEPS.items():
        with tempfile.TemporaryDirectory() as folder:
            (GOLDEN / f"{name}.txt").write_text(report_numbers(results(), Path(folder)))
