"""The page in a real browser: what it does, and how it looks on a phone and a wide screen, in light and dark."""

import shutil
from dataclasses import replace
from functools import cache, partial

import pytest

from shvit_pl.sweep.report.findings import findings_of
from shvit_pl.sweep.report.write import page_html
from tests.sweep.report.sweeps import (
    cube,
    listed,
    nothing_done,
    search,
    unfinished,
    validated_once,
    with_runs,
    with_speed,
)

webdriver = pytest.importorskip("selenium.webdriver", reason="the page's tests need selenium")
ui = pytest.importorskip("selenium.webdriver.support.ui")
WebDriverException = pytest.importorskip("selenium.common.exceptions").WebDriverException
POINTS = "#chart-points .wide [id^=point-]:not([id$=number])"
EVIL = "<script>document.title = 'pwned'</script><img src=x onerror=\"document.title = 'pwned'\">"
BROWSER_FLAGS = (
    "headless=new", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking",
    "disable-component-update", "disable-sync", "hide-scrollbars",
)  # fmt: skip


def one_lost():
    """A cube with a cell whose throughput is unknown."""
    first, *rest = cube().cells
    lost = tuple(replace(run, summary={**run.summary, "images_per_second": None}) for run in first.runs)
    return replace(cube(), cells=(replace(first, runs=lost), *rest))


def evil(kind):
    """A sweep whose every text is an attack."""

    def attack(run):
        dataset = {**run.summary["dataset"], "path": EVIL}
        summary = {**run.summary, "dataset": dataset, "device": EVIL, "metrics": {**run.summary["metrics"], EVIL: 1.0}}
        return replace(run, summary=summary, folder="javascript:alert(1)", command=EVIL, error=EVIL)

    results, cells = with_runs(cube(), attack), []
    for number, cell in enumerate(results.cells):
        choices = {**cell.choices, f"data.{EVIL}": f"{EVIL} {number % 2}"}
        cells.append(replace(cell, name=f"{EVIL} {cell.name}", choices=choices))
    return replace(results, title=EVIL, kind=kind, cells=tuple(cells))


OLD = "[old] <script>alert(1)</script>"
NAMES = {"conv": "<script>", "attention": "$a$ b$^", 4: "a|b", 16: "_x_ {{ 1 }}"}


def named():
    """A sweep in a folder called `OLD`, two of whose choices are of `NAMES`."""
    cells = []
    for cell in cube().cells:
        choices = {flag: NAMES.get(value, value) for flag, value in cell.choices.items()}
        name = ", ".join(f"{flag.split('.')[-1]} {value}" for flag, value in choices.items())
        cells.append(replace(cell, name=name, choices=choices))
    return replace(cube(), title=OLD, cells=tuple(cells))


SWEEPS = {
    "names": named,
    "cube": lambda: with_speed(cube()),
    "unfinished": unfinished,
    "nothing": nothing_done,
    "search": lambda: search(trials=30),
    "long names": lambda: replace(
        listed(), cells=tuple(replace(c, name=f"{c.name} {'long ' * 20}") for c in listed().cells)
    ),
    "other objective": lambda: replace(cube(), objectives={"val/loss": "min"}),
    "once": lambda: validated_once(cube()),
    "lost": one_lost,
    **{f"evil {kind}": partial(evil, kind) for kind in ("grid", "list", "search")},
}


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """Opens the page of a sweep at a width in headless Chromium; skips where there is none."""
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (browser and driver):
        pytest.skip("the page's tests need chromium and chromedriver on the PATH")
    options, pages = webdriver.ChromeOptions(), tmp_path_factory.mktemp("pages")
    options.binary_location = browser
    for flag in (*BROWSER_FLAGS, f"user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))

    @cache
    def written(name):
        page = pages / f"{name}.html"
        page.write_text(page_html(findings_of(SWEEPS[name]())))
        return page.as_uri()

    def opened(name, width=1280, dark=False):
        size = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": False}
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        chrome.execute_script("document.isOld = true")
        chrome.get(written(name))  # on a busy machine this may return before the page is there
        ui.WebDriverWait(chrome, 60, 0.05, [WebDriverException]).until(_is_loaded)
        return chrome

    yield opened
    chrome.quit()


def _is_loaded(chrome):
    return chrome.execute_script("return !document.isOld && document.readyState === 'complete'")


def click(chrome, element):
    chrome.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
    webdriver.ActionChains(chrome).move_to_element(element).click().perform()


def found(chrome, selector):
    return chrome.find_elements("css selector", selector)


def column(chrome, header):
    """The cells' texts below a header, of the rows that show."""
    return chrome.execute_script(
        "const heads = [...document.querySelectorAll('#table th')].map(h => h.textContent);"
        "const rows = [...document.querySelectorAll('#table tbody tr')].filter(r => !r.hidden);"
        "return rows.map(r => r.cells[heads.indexOf(arguments[0])].textContent.trim())",
        header,
    )


@pytest.mark.parametrize("name", ["cube", "unfinished", "nothing", "search", "once"])
def test_the_page_makes_no_error_and_no_request_and_a_phone_shows_it_whole(opened, name):
    chrome = opened(name, width=390)
    assert chrome.get_log("browser") == []
    assert chrome.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)") == []
    assert chrome.execute_script("return document.documentElement.scrollWidth") <= 390
    assert chrome.execute_script(_OVERLAPS) == []
    assert chrome.execute_script(_CUT_OFF) == []
    epochs = chrome.execute_script(
        "return [...document.querySelectorAll('#chart-curves .wide [id^=xtick] text')].map((e) => e.textContent)"
    )
    assert bool(epochs) == (name != "nothing")
    assert all(epoch.isdecimal() for epoch in epochs)
    chrome.execute_script("open(1)")
    left, right = chrome.execute_script(
        "const box = document.querySelector('dialog[open]').getBoundingClientRect(); return [box.left, box.right]"
    )
    assert 0 <= left < right <= 390


_OVERLAPS = """
const boxes = (list) => list.map((e) => [e.textContent.trim(), e.getBoundingClientRect()]).filter(([t, b]) => b.width);
const meet = (a, b) => a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1;
const groups = [[...document.querySelectorAll("main > *")], [...document.querySelectorAll(".filters > *")]];
for (const chart of document.querySelectorAll(".chart"))
  groups.push([...chart.querySelectorAll("text")].filter((text) => !text.closest("[id^=point-]")));
return groups.map(boxes).flatMap((all) => all.flatMap(([name, box], i) =>
  all.slice(i + 1).filter(([_, other]) => meet(box, other)).map(([other]) => `${name} | ${other}`)));
"""
_CUT_OFF = """
return [...document.querySelectorAll(".chart")].flatMap((chart) => {
  const frame = chart.getBoundingClientRect();
  return [...chart.querySelectorAll("text")].filter((text) => {
    const box = text.getBoundingClientRect();
    return box.width && (box.left < frame.left - 1 || box.right > frame.right + 1);
  }).map((text) => text.textContent);
});
"""


@pytest.mark.parametrize("name", ["cube", "unfinished", "search", "long names", "other objective"])
def test_a_phone_keeps_what_is_compared_in_view_however_the_table_is_scrolled(opened, name):
    chrome = opened(name, width=390)
    (head,) = found(chrome, "#table th.kept")
    assert head.text.startswith("val/loss" if name == "other objective" else "top-1")
    for share in (0, 0.5, 1):
        boxes = chrome.execute_script(_KEPT, "#table", share)
        assert len(boxes) == 1 + len(column(chrome, head.text.splitlines()[0].split("\u2195")[0].strip()))
        for left, right, is_on_top in boxes:
            assert 0 <= left < right <= 390
            assert is_on_top
    others = len(found(chrome, "#table th")) - 1
    assert [chrome.execute_script(_COVERED, "#table", number) for number in range(others)] == [[]] * others
    assert chrome.execute_script(_CUT_AT_THE_END) == []
    if name in ("cube", "long names"):
        found(chrome, "summary")[0].click()
        assert all(0 <= left < right <= 390 for left, right, _ in chrome.execute_script(_KEPT, "details table", 0))
        assert [chrome.execute_script(_COVERED, "details table", number) for number in range(4)] == [[]] * 4


_KEPT = """
const table = document.querySelector(arguments[0]), frame = table.closest(".scroll");
frame.scrollLeft = arguments[1] * (frame.scrollWidth - frame.clientWidth);
return [...table.querySelectorAll(".kept")].map((cell) => {
  cell.scrollIntoView({block: "center", inline: "nearest"});
  const box = cell.getBoundingClientRect();
  const top = document.elementFromPoint((box.left + box.right) / 2, (box.top + box.bottom) / 2);
  return [box.left, box.right, cell.contains(top)];
});
"""


_COVERED = """
const table = document.querySelector(arguments[0]), frame = table.closest(".scroll");
const view = frame.getBoundingClientRect();
const column = [...table.rows[0].cells].filter((head) => !head.classList.contains("kept"))[arguments[1]].cellIndex;
const cells = [...table.rows].map((row) => row.cells[column]);
const kept = table.querySelector(".kept");
const isAfter = column > kept.cellIndex;
frame.scrollLeft = cells[0].offsetLeft - (isAfter ? kept.offsetWidth : 0);
return cells.filter((cell) => {
  cell.scrollIntoView({block: "center", inline: "nearest"});
  frame.scrollLeft = cells[0].offsetLeft - (isAfter ? kept.offsetWidth : 0);
  const text = document.createRange();
  text.selectNodeContents(cell);
  const box = text.getBoundingClientRect(), y = (box.top + box.bottom) / 2;
  if (!box.width) return false;
  if (box.left < view.left || box.right > view.right) return true;
  return ![box.left + 1, box.right - 1].every((x) => cell.contains(document.elementFromPoint(x, y)));
}).map((cell) => cell.textContent);
"""
_CUT_AT_THE_END = """
const table = document.querySelector("#table"), frame = table.closest(".scroll");
frame.scrollLeft = frame.scrollWidth;
const edge = table.querySelector(".kept").getBoundingClientRect().right;
return [...table.querySelectorAll("th:not(.kept)")].filter((head) => {
  const box = head.getBoundingClientRect();
  return box.left < edge - 2 && box.right > edge + 2;
}).map((head) => head.textContent);
"""


@pytest.mark.parametrize("width", [390, 1280])
def test_the_answer_comes_first_and_on_a_phone_without_scrolling(opened, width):
    chrome = opened("cube", width=width)
    answer, *others = found(chrome, ".answer p")
    assert answer.text == (
        "patch_size 16 instead of 4 lowers top-1 by 1.2 points; stages and stage1 show no significant effect on top-1."
    )
    assert answer.rect["y"] + answer.rect["height"] < 844
    sizes = [float(one.value_of_css_property("font-size").removesuffix("px")) for one in (answer, others[0])]
    assert sizes[0] > sizes[1]
    assert others[-1].text.startswith("Undecided in top-1: stage1 attention instead of conv (")
    assert len(others) == 4


def test_a_point_names_its_cell_and_a_click_shows_its_runs(opened):
    chrome = opened("cube")
    title = found(chrome, "#chart-points .wide [id='point-5'] title")[0].get_attribute("textContent")
    assert title == "5: 16 · 3 · conv\ntop-1: 0.9282 ± 0.0039\ncompiled inference images/s: 1940"
    points = found(chrome, POINTS)
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
    chrome = opened("unfinished")
    click(chrome, found(chrome, "#table tbody tr")[1].find_elements("css selector", "td")[2])
    (panel,) = found(chrome, "dialog[open]")
    assert "OutOfMemoryError" in panel.text
    panel.send_keys(webdriver.Keys.ESCAPE)
    assert found(chrome, "dialog[open]") == []
    found(chrome, "#table .open")[4].send_keys(webdriver.Keys.ENTER)
    assert found(chrome, "dialog[open]")[0].get_attribute("id") == "cell-5"


def test_a_header_sorts_by_number_and_then_the_other_way_and_unknown_values_last(opened):
    chrome = opened("unfinished")
    headers = found(chrome, "#table th")
    header = next(one for one in headers if one.text.startswith("training images/s"))
    for order in ("ascending", "descending"):
        header.find_element("css selector", "button").send_keys(webdriver.Keys.ENTER)
        assert [one.get_attribute("aria-sort") for one in headers if one != header] == ["none"] * (len(headers) - 1)
        assert header.get_attribute("aria-sort") == order
        texts = column(chrome, "training images/s")
        assert texts[-3:] == [""] * 3
        rates = [float(text.split()[0]) for text in texts[:-3]]
        assert rates == sorted(rates, reverse=order == "descending")
    click(chrome, next(one for one in found(chrome, "#table th button") if one.text.startswith("top-1")))
    assert column(chrome, "top-1")[-3:] == ["", "", ""]
    assert chrome.execute_script(  # a head's arrow stays with its last word
        "return [...document.querySelectorAll('#table th button')].every("
        "(e) => getComputedStyle(e, '::after').content.startsWith('\"\\u00a0'))"
    )


def test_text_and_choices_filter_the_cells(opened):
    chrome = opened("cube")
    ui.Select(found(chrome, "select[data-choice=patch_size]")[0]).select_by_visible_text("16")
    assert column(chrome, "patch_size") == ["16"] * 4
    found(chrome, "#find")[0].send_keys("attention")
    assert column(chrome, "stage1") == ["attention"] * 2
    assert found(chrome, "#count")[0].text == "2 of 8"


def test_a_click_on_a_name_hides_its_curve_and_another_shows_it_again(opened):
    chrome = opened("lost")
    assert "Shown: 7 of 8 cells with a finished run" in found(chrome, "main")[0].text
    parts = found(chrome, "#chart-curves .wide [id^='curve-3-']")
    assert [part.is_displayed() for part in parts] == [True, True]
    for shown in (False, True):
        click(chrome, found(chrome, "[data-curve='3']")[0])
        assert [part.is_displayed() for part in parts] == [shown, shown]
    assert all(part.is_displayed() for part in found(chrome, "#chart-curves .wide [id^='curve-']"))


def test_the_best_curves_of_many_are_shown_first(opened):
    chrome = opened("search")
    shown = [one for one in found(chrome, "#chart-curves .wide [id$='-line']") if one.is_displayed()]
    assert len(shown) == len(found(chrome, "[data-curve][aria-pressed=true]")) == 12


@pytest.mark.parametrize("kind", ["grid", "list", "search"])
def test_no_text_of_a_sweep_runs_as_a_script(opened, kind):
    chrome = opened(f"evil {kind}")
    click(chrome, found(chrome, POINTS)[0])
    assert chrome.title == EVIL
    assert found(chrome, "img") == []
    assert EVIL in found(chrome, "dialog[open] code")[0].text
    assert not any(link.get_attribute("href").startswith("javascript:") for link in found(chrome, "a"))
    assert chrome.get_log("browser") == []


def test_names_are_shown_as_they_are(opened):
    chrome = opened("names")
    assert chrome.get_log("browser") == []  # neither is a dialog open, as every call would raise
    assert (chrome.title, found(chrome, "h1")[0].text) == (OLD, OLD)
    assert set(column(chrome, "stage1")) == {"<script>", "$a$ b$^"}
    assert set(column(chrome, "patch_size")) == {"a|b", "_x_ {{ 1 }}"}
    drawn = chrome.execute_script("return [...document.querySelectorAll('.chart text')].map(e => e.textContent)")
    for name in NAMES.values():
        assert any(name in text for text in drawn), name
        assert name in found(chrome, ".filters")[0].text


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_all_text_stands_out_in_light_and_dark(opened, dark):
    chrome = opened("unfinished", dark=dark)
    ground = chrome.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (luminance(ground) < 0.1) is dark
    for text, own, below in chrome.execute_script(_COLORS):
        low, high = sorted((luminance(own), luminance(below)))
        assert (high + 0.05) / (low + 0.05) >= 4.5, text


_COLORS = """
const ground = (e) => {
  for (; e; e = e.parentElement) {
    const color = getComputedStyle(e).backgroundColor;
    if (!/rgba\\(.*, 0\\)|transparent/.test(color)) return color;
  }
};
const texts = [...document.querySelectorAll("h1, h2, p, th, td, dt, dd, label, a, output")];
const drawn = [...document.querySelectorAll(".chart .wide text")].filter((text) => !text.closest("[id^=point-]"));
return [...texts.filter((e) => e.offsetParent).map((e) => [e.textContent, getComputedStyle(e).color, ground(e)]),
        ...drawn.map((e) => [e.textContent, getComputedStyle(e).fill, ground(e.closest(".chart"))])];
"""


def luminance(color):
    """Relative luminance of `rgb(...)` (WCAG 2)."""
    shares = [float(part) / 255 for part in color.strip("rgba()").split(",")[:3]]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return sum(weight * share for weight, share in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
