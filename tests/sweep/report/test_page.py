from dataclasses import replace

import pytest

from tests.sweep.report.browser import click, found
from tests.sweep.report.sweeps import cube, nothing_done, search, unfinished, with_speed

EVIL = "<script>document.title = 'pwned'</script><img src=x onerror=\"document.title = 'pwned'\">"


def column(chrome, header):
    """The cells' texts below a header, of the rows that show."""
    return chrome.execute_script(
        "const heads = [...document.querySelectorAll('#table th')].map(h => h.textContent);"
        "const rows = [...document.querySelectorAll('#table tbody tr')].filter(r => !r.hidden);"
        "return rows.map(r => r.cells[heads.indexOf(arguments[0])].textContent.trim())",
        header,
    )


@pytest.mark.parametrize(
    "results",
    [with_speed(cube()), unfinished(), nothing_done(), search()],
    ids=["cube", "unfinished", "none", "search"],
)
def test_the_page_opens_without_an_error_or_a_request(opened, results):
    chrome = opened(results)
    assert chrome.get_log("browser") == []
    assert chrome.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)") == []


def test_a_click_on_a_point_shows_its_runs(opened):
    chrome = opened(with_speed(cube()))
    points = found(chrome, "#chart-points .points path.point")
    assert len(points) == 8
    click(chrome, points[6])
    (panel,) = found(chrome, "dialog[open]")
    assert panel.get_attribute("id") == "cell-7"
    assert "patch_size 16, stages 4, stage1 conv" in panel.text
    assert [head.text.split()[:2] for head in found(chrome, "dialog[open] h3")] == [["seed", str(n)] for n in range(3)]
    commands = [code.get_attribute("textContent") for code in found(chrome, "dialog[open] code")]
    assert commands == [run.command for run in cube().cells[6].runs]
    links = [link.get_attribute("href") for link in found(chrome, "dialog[open] a")]
    assert links[0].endswith("/runs/16-4-conv-s0/")


def test_a_row_opens_the_same_panel_by_mouse_and_by_keyboard(opened):
    from selenium.webdriver.common.keys import Keys

    chrome = opened(unfinished())
    click(chrome, found(chrome, "#table tbody tr")[1].find_elements("css selector", "td")[2])
    (panel,) = found(chrome, "dialog[open]")
    assert "OutOfMemoryError" in panel.text
    panel.send_keys(Keys.ESCAPE)
    assert found(chrome, "dialog[open]") == []
    found(chrome, "#table .open")[4].send_keys(Keys.ENTER)
    assert found(chrome, "dialog[open]")[0].get_attribute("id") == "cell-5"


def test_a_header_sorts_by_number_and_then_the_other_way(opened):
    from selenium.webdriver.common.keys import Keys

    chrome = opened(with_speed(cube()))
    header = next(one for one in found(chrome, "#table th") if one.text.startswith("training images/s"))
    for order in ("ascending", "descending"):
        header.find_element("css selector", "button").send_keys(Keys.ENTER)
        assert header.get_attribute("aria-sort") == order
        rates = [float(text.split()[0]) for text in column(chrome, "training images/s")]
        assert rates == sorted(rates, reverse=order == "descending")
        assert rates != sorted(map(str, rates))  # numbers, not their letters
    assert [one.get_attribute("aria-sort") for one in found(chrome, "#table th")].count("none") == len(
        found(chrome, "#table th")
    ) - 1


def test_cells_without_a_value_are_sorted_last(opened):
    chrome = opened(unfinished())
    header = next(one for one in found(chrome, "#table th button") if one.text.startswith("top-1 (%)"))
    for _ in range(2):
        click(chrome, header)
        assert column(chrome, "top-1 (%)")[-3:] == ["", "", ""]


def test_text_and_choices_filter_the_cells(opened):
    from selenium.webdriver.support.ui import Select

    chrome = opened(with_speed(cube()))
    Select(found(chrome, "select[data-choice=patch_size]")[0]).select_by_visible_text("16")
    assert column(chrome, "patch_size") == ["16"] * 4
    found(chrome, "#find")[0].send_keys("attention")
    assert column(chrome, "stage1") == ["attention"] * 2
    assert found(chrome, "#count")[0].text == "2 of 8"


def test_cells_that_are_not_drawn_are_counted_in_words(opened):
    first, *rest = cube().cells
    lost = tuple(replace(run, summary={**run.summary, "images_per_second": None}) for run in first.runs)
    chrome = opened(replace(cube(), cells=(replace(first, runs=lost), *rest)))
    assert "Drawn are 7 of 8 cells with a run that is done" in found(chrome, "main")[0].text


def test_a_click_on_a_name_hides_its_curve(opened):
    chrome = opened(cube())
    shown = "return document.querySelectorAll('#chart-curves .scatterlayer .lines path.js-line').length"
    before = chrome.execute_script(shown)
    click(chrome, found(chrome, "#chart-curves .legendtoggle")[0])
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(chrome, 5).until(lambda driver: driver.execute_script(shown) < before)


def evil():
    """A sweep whose every text is an attack."""

    def of(run):
        dataset = {**run.summary["dataset"], "path": EVIL}
        summary = {**run.summary, "dataset": dataset, "device": EVIL, "metrics": {**run.summary["metrics"], EVIL: 1.0}}
        return replace(run, summary=summary, folder="javascript:alert(1)", command=EVIL, error=EVIL)

    cells = tuple(
        replace(cell, name=f"{EVIL} {cell.name}", choices={**cell.choices, f"data.{EVIL}": f"{EVIL} {number % 2}"},
                runs=tuple(map(of, cell.runs)))
        for number, cell in enumerate(cube().cells)
    )  # fmt: skip
    return replace(cube(), title=EVIL, cells=cells)


@pytest.mark.parametrize("kind", ["grid", "list", "search"])
def test_no_text_of_a_sweep_runs_as_a_script(opened, kind):
    chrome = opened(replace(evil(), kind=kind))
    click(chrome, found(chrome, "#chart-points .points path.point")[0])
    assert found(chrome, "dialog[open]")
    assert chrome.title == EVIL
    assert found(chrome, "img") == []
    assert EVIL in found(chrome, "dialog[open] code")[0].text
    assert not any(link.get_attribute("href").startswith("javascript:") for link in found(chrome, "a"))
    assert chrome.get_log("browser") == []
