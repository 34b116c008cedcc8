import csv
from dataclasses import replace
from io import BytesIO

import pytest
from PIL import Image

from shvit_pl.plots import color
from shvit_pl.sweep.engine.reading import Results
from shvit_pl.sweep.report.figures import _draw, draw_pngs
from shvit_pl.sweep.report.findings import findings_of
from shvit_pl.sweep.report.table import quantity
from shvit_pl.sweep.report.text import summary_lines
from shvit_pl.sweep.report.write import cells_markdown, page_html, runs_csv, write_report
from tests.fractions import assert_fractions
from tests.sweep.report.sweeps import cube, listed, nothing_done, search, unfinished, validated_once, with_speed

TEXTS = {"report.html", "results.csv", "results.md"}
CHARTS = {f"figures/{name}.png" for name in ("accuracy_over_speed", "curves")}


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        (with_speed(cube()), TEXTS | CHARTS | {"figures/effects.png"}),
        (search(trials=6), TEXTS | CHARTS),
        (nothing_done(), TEXTS),
        (Results("none", "grid", {"val/acc1": "max"}, ()), TEXTS),
    ],
    ids=["cube", "search", "nothing done", "empty"],
)
def test_any_state_of_a_sweep_can_be_reported(results, expected, tmp_path):
    written = write_report(findings_of(results), tmp_path / "sweep")
    assert {str(path.relative_to(tmp_path / "sweep")) for path in written} == expected
    assert all(path.is_file() for path in written)
    for picture in (Image.open(path) for path in written if path.suffix == ".png"):
        assert picture.width == 960
        assert 300 <= picture.height <= 800
        assert len(picture.convert("RGB").getcolors(1 << 20)) > 20  # something is drawn


@pytest.mark.parametrize("results", [with_speed(cube()), search(trials=6), unfinished()])
def test_accuracies_are_fractions_and_their_differences_points(results):
    findings = findings_of(results)
    page, terminal = page_html(findings), "\n".join(summary_lines(findings))
    assert_fractions(page, terminal, runs_csv(findings), cells_markdown(findings))
    mean = findings.table.rows[0].values["val/acc1"].show(quantity("val/acc1"))
    assert mean.startswith("0.9")
    assert all(mean in text for text in (page, terminal, cells_markdown(findings)))
    assert "nan" not in page
    figures = _draw(findings, 8, [], findings.curves)
    assert_fractions(*figures.values())
    for name in ("points", "curves"):
        (axes,) = figures[name].axes
        assert axes.get_ylabel() == "top-1"
        assert 0 < axes.get_ylim()[0] < axes.get_ylim()[1] <= 1.001
    if results.kind != "search":
        (axes,) = figures["effects"].axes
        assert axes.get_xlabel() == "difference in top-1 (points)"
        assert axes.get_xlim()[1] - axes.get_xlim()[0] >= 2
        assert " points" in terminal
    if results.speed:
        assert "top-1 0.728, 6.3 M parameters" in " ".join(page.split())
        assert "| paper: top-1 |" in cells_markdown(findings)
        assert "| 0.728 |" in cells_markdown(findings)


def test_a_file_is_replaced_at_once(tmp_path):
    old = write_report(findings_of(nothing_done()), tmp_path)[0]
    before = old.open()  # a reader of the old page
    (page, *_) = write_report(findings_of(search(trials=3)), tmp_path)
    assert "No run has finished yet." in before.read()
    assert b"No run has finished yet." not in page.read_bytes()
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(".")]


def test_a_single_validation_is_drawn_too():
    once = Image.open(BytesIO(draw_pngs(findings_of(validated_once(cube())))["curves.png"])).convert("RGB")
    plot = once.crop((100, 20, 560, 380))  # without the legend, which has the colors too
    first = tuple(bytes.fromhex(color(1).removeprefix("#")))
    assert sum(count for count, drawn in plot.getcolors(1 << 20) if drawn == first) > 10


def test_the_csv_has_every_run_as_it_was_measured():
    results = unfinished()
    lines = list(csv.DictReader(runs_csv(findings_of(results)).splitlines()))
    runs = [run for cell in results.cells for run in cell.runs]
    assert len(lines) == len(runs) == 24
    for line, run in zip(lines, runs, strict=True):
        assert (line["state"], line["command"]) == (run.state, run.command)
        if run.summary:
            assert float(line["val/acc1"]) == run.summary["metrics"]["val/acc1"]
            assert int(line["params"]) == run.summary["params"]
    assert lines[4]["error"].startswith("torch.OutOfMemoryError")
    assert lines[4]["val/acc1"] == ""
    assert [lines[0][name] for name in ("patch_size", "stages", "stage1", "seed")] == ["4", "3", "conv", "0"]


def test_the_markdown_has_a_row_per_cell_of_as_many_columns():
    table = [line for line in cells_markdown(findings_of(with_speed(cube()))).splitlines() if line.startswith("|")]
    assert len(table) == 2 + 8
    assert len({line.count("|") for line in table}) == 1
    assert "Table 2: SHViT-S1" in table[6]


def test_the_terminal_shows_cells_and_sentences_and_names_the_rows_of_a_list():
    text = "\n".join(summary_lines(findings_of(unfinished())))
    for part in ("2 of 3, 1 failed", "12 of 24 runs done", "patch_size 16 instead of 4"):
        assert part in text
    assert "paper" not in text
    terminal = [line.split() for line in summary_lines(findings_of(listed()))]
    assert terminal[0][:4] == ["no.", "cell", "mixup", "decay"]
    assert [line[1] for line in terminal[1:4]] == ["base", "Mixup", "averaged"]
    assert "| no. | cell | mixup | decay |" in cells_markdown(findings_of(listed()))


def test_names_are_shown_as_they_are_and_never_become_markup():
    odd = replace(cube().cells[0], choices={"data.path": "[red]|b\n<script>"})
    findings = findings_of(replace(cube(), kind="list", cells=(odd, *cube().cells[1:])))
    assert "<script>" not in cells_markdown(findings)
    assert "\\[red\\]\\|b &lt;script>" in cells_markdown(findings)
    assert "[red]|b" in "\n".join(summary_lines(findings))
