"""How the page looks: on a phone and a wide screen, in light and dark."""

import pytest

from tests.sweep.report.sweeps import cube, search, unfinished, validated_once, with_speed


@pytest.mark.parametrize("results", [validated_once(cube()), cube()], ids=["one epoch", "ten epochs"])
def test_epochs_are_whole_numbers(opened, results):
    chrome = opened(results)
    ticks = chrome.execute_script(
        "return [...document.querySelectorAll('#chart-curves .xtick text')].map((e) => e.textContent)"
    )
    assert ticks
    assert all(tick.isdecimal() for tick in ticks)


@pytest.mark.parametrize("width", [390, 1280])
def test_a_heads_arrow_stays_beside_its_last_word(opened, width):
    chrome = opened(with_speed(cube()), width=width)
    assert chrome.execute_script(
        "return [...document.querySelectorAll('#table th button')].every("
        "(e) => getComputedStyle(e, '::after').content.startsWith('\"\\u00a0'))"
    )


@pytest.mark.parametrize("results", [with_speed(cube()), unfinished(), search()], ids=["cube", "unfinished", "search"])
def test_a_phone_needs_no_sideways_scrolling_and_nothing_overlaps(opened, results):
    chrome = opened(results, width=390)
    assert chrome.execute_script("return document.documentElement.scrollWidth") <= 390
    assert chrome.execute_script(_OVERLAPS) == []
    assert chrome.execute_script(_CUT_OFF) == []
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
  groups.push([...chart.querySelectorAll(".xtick text, .ytick text, .xtitle, .ytitle, .legendtext, .legendtitletext")]);
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


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_all_text_stands_out_in_light_and_dark(opened, dark):
    chrome = opened(unfinished(), dark=dark)
    ground = chrome.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (luminance(ground) < 0.1) is dark
    for text, own, below in chrome.execute_script(_COLOURS):
        assert contrast(own, below) >= 4.5, text


_COLOURS = """
const ground = (e) => {
  for (; e; e = e.parentElement) {
    const colour = getComputedStyle(e).backgroundColor;
    if (!/rgba\\(.*, 0\\)|transparent/.test(colour)) return colour;
  }
};
const texts = [...document.querySelectorAll("h1, h2, p, th, td, dt, dd, label, a, output")];
const drawn = [...document.querySelectorAll(".xtick text, .ytick text, .xtitle, .ytitle")];
return [...texts.filter((e) => e.offsetParent).map((e) => [e.textContent, getComputedStyle(e).color, ground(e)]),
        ...drawn.map((e) => [e.textContent, getComputedStyle(e).fill, ground(e.closest(".chart"))])];
"""


def luminance(colour):
    """Relative luminance of `rgb(...)` (WCAG 2)."""
    shares = [float(part) / 255 for part in colour.strip("rgba()").split(",")[:3]]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return sum(weight * share for weight, share in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one, other):
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)
