"""Axes don't magnify noise, and no name is lost in a legend."""

import pytest
from matplotlib.figure import Figure

from shvit_pl.callbacks.run_curves import draw_curves
from shvit_pl.deploy import benchmark_report
from shvit_pl.plots import legend_label, widen


@pytest.mark.parametrize(
    ("values", "least", "bounds", "limits"),
    [
        ((0.9801, 0.9803), 0.02, (0, 1), (0.9702, 0.9902)),
        ((0.9999, 1.0), 0.02, (0, 1), (0.981, 1.001)),
        ((0.0, 0.0001), 0.02, (0, 1), (-0.001, 0.019)),
        ((5.0, 5.0), 2.0, (), (4.0, 6.0)),
    ],
)
def test_a_short_axis_is_widened_between_its_bounds(values, least, bounds, limits):
    axes = Figure().subplots()
    axes.plot(values)
    widen(axes, "y", least, *bounds)
    assert axes.get_ylim() == pytest.approx(limits)


def test_a_long_axis_stays_and_a_logarithmic_one_covers_a_factor():
    axes = Figure().subplots()
    axes.plot([1000, 1003], [0.1, 0.9])
    before = axes.get_ylim()
    widen(axes, "y", 0.02)
    assert axes.get_ylim() == before
    axes.set_xscale("log")
    widen(axes, "x", 1.5)
    low, high = axes.get_xlim()
    assert high / low == pytest.approx(1.5)
    assert low < 1000 < 1003 < high


def test_curves_and_benchmarks_of_equal_accuracies_are_flat():
    left, right = draw_curves({"val/loss": [(1, 0.201), (2, 0.2)], "val/acc1": [(1, 0.9801), (2, 0.9803)]}).axes
    assert [high - low for low, high in (left.get_ylim(), right.get_ylim())] == pytest.approx([0.1, 0.02])
    row = {"mode": "eager", "runtime": "torch", "dtype": "fp32", "model": "s1", "image_size": 224, "top1_source": "x"}
    rows = [{**row, "batch_size": size, "top1": 0.7 + size / 100, "images_per_second": 1000 + size} for size in (0, 30)]
    panels = benchmark_report._figure([*rows, {**rows[0], "top1": 0.7001}], "x", _CONDITIONS).axes
    for panel in panels:  # which share the axis: one of them doesn't cut off the others
        assert panel.get_ylim()[0] < 0.7 < 1 < panel.get_ylim()[1]
    (panel,) = benchmark_report._figure([rows[0], {**rows[0], "top1": 0.7001}], "x", _CONDITIONS).axes
    assert panel.get_ylim()[1] - panel.get_ylim()[0] == pytest.approx(0.02)


_CONDITIONS = {"task": "inference", "device": "cpu", "threads": 1, "torch": "2"}


def test_names_with_an_underscore_stand_in_a_legend():
    axes = Figure().subplots()
    axes.plot([1], label=legend_label("_private"))
    assert [text.get_text().strip() for text in axes.legend().get_texts()] == ["_private"]
    assert legend_label("tiny_") == "tiny_"
