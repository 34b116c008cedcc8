import csv
from dataclasses import replace
from io import BytesIO

import pytest
from PIL import Image

from shvit_pl.display.plots import color
from shvit_pl.sweep.report.figures import draw_pngs
from shvit_pl.sweep.report.findings import findings_of
from shvit_pl.sweep.report.text import summary_lines
from shvit_pl.sweep.report.write import cells_markdown, runs_csv, write_report
from shvit_pl.sweep.results import Results
from tests.sweep.report.sweeps import cube, listed, nothing_done, search, unfinished, validated_once, with_speed

EMPTY = Results("none", "grid", {"val/acc1": "max"}, ())


def test_a_finished_cube_writes_every_file(tmp_path):
    written = write_report(findings_of(with_speed(cube())), tmp_path / "sweep")
    assert {str(path.relative_to(tmp_path / "sweep")) for path in written} == {
        "report.html", "results.csv", "results.md",
        "figures/accuracy_over_speed.png", "figures/curves.png", "figures/effects.png",
    }  # fmt: skip
    assert all(path.is_file() for path in written)


@pytest.mark.parametrize(
    "results", [unfinished(), nothing_done(), EMPTY, search(), listed()], ids=lambda one: one.title
)
def test_any_state_of_a_sweep_can_be_reported(results, tmp_path):
    assert {"report.html", "results.csv", "results.md"} <= {
        path.name for path in write_report(findings_of(results), tmp_path)
    }
    assert summary_lines(findings_of(results))


def test_a_file_is_replaced_at_once_and_leaves_nothing_beside_it(tmp_path):
    old = write_report(findings_of(nothing_done()), tmp_path)[0]
    before = old.open()  # a reader of the old page
    write_report(findings_of(cube()), tmp_path)
    assert "No run has finished yet." in before.read()
    assert "No run has finished yet." not in old.read_text()
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(".")]


def test_a_disk_that_refuses_keeps_the_old_file(tmp_path):
    (page, *_) = write_report(findings_of(nothing_done()), tmp_path)
    before = page.read_bytes()
    (tmp_path / "results.csv").unlink()
    (tmp_path / "results.csv").mkdir()
    with pytest.raises(OSError, match=r"results\.csv"):
        write_report(findings_of(nothing_done()), tmp_path)
    assert page.read_bytes() == before
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(".")]


def test_figures_are_pngs_of_a_sane_size():
    for image in draw_pngs(findings_of(with_speed(cube()))).values():
        picture = Image.open(BytesIO(image))
        assert picture.format == "PNG"
        assert picture.width == 960
        assert 300 <= picture.height <= 800
        assert len(picture.convert("RGB").getcolors(1 << 20)) > 20  # something is drawn


def test_a_single_validation_is_drawn_too():
    once = Image.open(BytesIO(draw_pngs(findings_of(validated_once(cube())))["curves.png"])).convert("RGB")
    plot = once.crop((100, 20, 560, 380))  # without the legend, which has the colours too
    first = tuple(bytes.fromhex(color(1).removeprefix("#")))
    assert sum(count for count, drawn in plot.getcolors(1 << 20) if drawn == first) > 10


def test_a_search_draws_no_effects():
    assert set(draw_pngs(findings_of(search()))) == {"accuracy_over_speed.png", "curves.png"}


def test_the_csv_has_every_run_as_it_was_measured():
    results = unfinished()
    lines = list(csv.DictReader(runs_csv(findings_of(results)).splitlines()))
    runs = [run for cell in results.cells for run in cell.runs]
    assert len(lines) == len(runs) == 24
    for line, run in zip(lines, runs, strict=True):
        assert line["state"] == run.state
        assert line["command"] == run.command
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


def test_names_break_neither_the_markdown_nor_become_html():
    odd = replace(cube().cells[0], choices={"data.path": "a|b\n<script>"})
    text = cells_markdown(findings_of(replace(cube(), kind="list", cells=(odd, *cube().cells[1:]))))
    assert "<script>" not in text
    assert "a\\|b &lt;script>" in text


def test_the_terminal_shows_the_cells_and_the_sentences():
    text = "\n".join(summary_lines(findings_of(unfinished())))
    assert "2 of 3, 1 failed" in text
    assert "12 of 24 runs done" in text
    assert "patch_size 16 instead of 4" in text


def test_the_terminal_and_markdown_name_the_rows_of_a_list():
    terminal = [line.split() for line in summary_lines(findings_of(listed()))]
    assert terminal[0][:4] == ["no.", "cell", "mixup", "decay"]
    assert [line[1] for line in terminal[2:5]] == ["base", "Mixup", "averaged"]
    assert "| no. | cell | mixup | decay |" in cells_markdown(findings_of(listed()))


def test_the_terminal_shows_names_as_they_are():
    cells = (replace(cell, choices={"data.path": f"[red]{number}"}) for number, cell in enumerate(cube().cells))
    assert "[red]7" in "\n".join(summary_lines(findings_of(replace(cube(), cells=tuple(cells)))))
