"""The numbers of a report stay what they are: `python -m tests.sweep.report.test_golden` writes them anew."""

import re
from html import unescape
from pathlib import Path

import pytest

from shvit_pl.sweep.report.findings import findings_of
from shvit_pl.sweep.report.write import cells_markdown, page_html, runs_csv
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


def report_numbers(results):
    """The numbers of a sweep's report, file by file."""
    findings = findings_of(results)
    texts = {
        "results.md": cells_markdown(findings),
        "results.csv": runs_csv(findings),
        "report.html": page_text(page_html(findings)),
    }
    return "".join(f"{line}\n" for name, text in texts.items() for line in (f"# {name}", *numbers(text)))


@pytest.mark.parametrize("name", SWEEPS)
def test_a_report_has_the_numbers_that_it_had(name):
    assert report_numbers(SWEEPS[name]()) == (GOLDEN / f"{name}.txt").read_text()


if __name__ == "__main__":
    for name, results in SWEEPS.items():
        (GOLDEN / f"{name}.txt").write_text(report_numbers(results()))
