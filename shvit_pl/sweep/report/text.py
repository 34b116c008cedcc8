"""A report in words: what the sweep shows, and never more than it shows."""

from __future__ import annotations

from collections import Counter
from math import floor, log10

from rich import box
from rich.table import Table as RichTable
from rich.text import Text

from shvit_pl.display.terminal import table_console
from shvit_pl.display.words import counted, listed
from shvit_pl.sweep.report.comparisons import Interaction, MainEffect
from shvit_pl.sweep.report.findings import Findings
from shvit_pl.sweep.report.quantities import Quantity, quantity
from shvit_pl.sweep.report.statistics import Estimate, Ratio
from shvit_pl.sweep.report.table import Row, columns
from shvit_pl.sweep.results import Results

_COSTS = "It costs"
_REACHES = "It reaches"
_SAME = "It has the same"
_NOISE = "Not significant:"
_UNKNOWN = "With unknown noise:"
_BEST_TRIALS = 3  # of a search
_LUCK = "The best of many trials is partly luck: repeat it with other seeds before you rely on it."


def summary_lines(findings: Findings) -> list[str]:
    """Return the cells as a table for a terminal, the progress of the sweep, and the answer."""
    return [*_terminal_table(findings), f"{progress(findings.results)}.", *answer(findings)]


def answer(findings: Findings) -> list[str]:
    """Return a paragraph for each main effect, and one for each interaction; for a search, its best trials."""
    results, effects = findings.results, findings.effects
    if not any(cell.done for cell in results.cells):
        return ["No run succeeded." if results.cells and is_finished(results) else "No run has finished yet."]
    if results.kind == "search":
        return _front(findings) if len(results.objectives) > 1 else _best_trials(findings)
    if not effects.main:
        return ["There is nothing to compare: no two cells differ."]
    # all other gains are in the page's table of effects
    gains = [one for one in effects.gains if one.key in results.objectives or one == findings.table.primary]
    lost = "every pair has a failed run" if is_finished(results) else "no complete pair of runs yet"
    main = [_main_effect(one, gains, effects.costs, lost) for one in effects.main]
    return [*main, *(sentence for one in gains for sentence in _interactions(effects.interactions, one))]


def progress(results: Results) -> str:
    """Return the number of runs in each state, such as `12 of 24 runs done, 1 failed`."""
    states = Counter(run.state for cell in results.cells for run in cell.runs)
    rest = [f"{states[state]} {state}" for state in ("failed", "pruned", "running", "waiting") if states[state]]
    return ", ".join([f"{states['done']} of {counted(states.total(), 'run')} done", *rest])


def is_finished(results: Results) -> bool:
    """Return whether nothing is running or waiting."""
    return not any(run.state in ("running", "waiting") for cell in results.cells for run in cell.runs)


def certainty(estimate: Estimate, unit: str) -> str:
    """Describe how sure a difference is."""
    if estimate.low is None or estimate.high is None or estimate.p_corrected is None:
        if estimate.seeds == 1:
            return "one seed, so no interval"
        return f"identical in all {estimate.seeds} seeds, so no interval"
    places = _places(estimate)
    interval = f"95 % interval {estimate.low:+z.{places}f} to {estimate.high:+z.{places}f} over {estimate.seeds} seeds"
    if estimate.is_significant:
        return f"{interval}, p {_p(estimate.p_corrected)}"
    if estimate.low < 0 < estimate.high:
        return f"{interval}: not significant; {_not_ruled_out(estimate, unit)}"
    return f"{interval}, but p {_p(estimate.p_corrected)} as one of {estimate.tests} comparisons: not significant"


def signed(estimate: Estimate) -> str:
    """Format the mean difference with its sign, to the digits that its noise allows."""
    return f"{estimate.mean or 0.0:+z.{_places(estimate)}f}"


def _main_effect(effect: MainEffect, gains: list[Quantity], costs: list[Quantity], lost: str) -> str:
    """Describe what a level brings and costs; `lost` is why a gain without a pair is unknown."""
    brings = ", ".join(_gain(one, effect.gains[one.key], lost) for one in gains)
    first = f"{effect.contrast.text}: {brings or 'nothing but costs was measured'}."
    return " ".join([first, *_cost_sentences(effect, costs)])


def _gain(quantity: Quantity, estimate: Estimate, lost: str) -> str:
    if estimate.mean is None:
        return f"{quantity.name} unknown ({lost if estimate.planned else 'no two cells differ in this alone'})"
    lacking = estimate.pairs < estimate.planned
    part = f", from {estimate.pairs} of {estimate.planned} pairs" if lacking else ""
    difference = f"{signed(estimate)} {quantity.step}".strip()
    return f"{quantity.name} {difference} ({certainty(estimate, quantity.step)}{part})"


def _cost_sentences(effect: MainEffect, costs: list[Quantity]) -> list[str]:
    """Describe the costs that are significant, then the rest."""
    parts: dict[str, list[str]] = {start: [] for start in (_COSTS, _REACHES, _SAME, _NOISE, _UNKNOWN)}
    for cost in costs:
        ratio = effect.costs.get(cost.key)
        if ratio is not None:
            parts[_cost_start(cost, ratio)].append(cost.name if ratio.is_same else _times(cost, ratio))
    return [f"{start} {listed(texts)}." for start, texts in parts.items() if texts]


def _cost_start(cost: Quantity, ratio: Ratio) -> str:
    if ratio.low is None:
        return _UNKNOWN
    if ratio.is_same:
        return _SAME
    if not ratio.is_significant:
        return _NOISE
    return _COSTS if cost.direction == "min" else _REACHES


def _times(cost: Quantity, ratio: Ratio) -> str:
    """Format a ratio and its interval, which is left out where it shows as the ratio itself."""
    places = ratio.places
    times = f"{ratio.mean:.{places}f} times the {cost.name}"
    if ratio.low is None or ratio.high is None:
        return f"{times} ({'without quartiles' if cost.is_inference else 'one seed'})"
    low, high = f"{ratio.low:.{places}f}", f"{ratio.high:.{places}f}"
    if low == high:
        return times
    return f"{times} ({'quartiles' if cost.is_inference else '95 % interval'} {low} to {high})"


def _interactions(interactions: list[Interaction], quantity: Quantity) -> list[str]:
    """Describe each significant interaction, and all others together."""
    significant = [one for one in interactions if one.gains[quantity.key].is_significant]
    others = [one.gains[quantity.key] for one in interactions if one not in significant]
    tested = [one for one in others if one.p is not None]
    sentences = [_interaction(one, quantity) for one in significant]
    if tested:
        widest = max(tested, key=_largest)
        untested = len(others) - len(tested)
        unknown = f" ({untested} of {len(others)} can't be tested)" if untested else ""
        sentences.append(
            f"No {'other ' if significant else ''}interaction{unknown} is significant in {quantity.name}; "
            f"{_not_ruled_out(widest, quantity.step)}."
        )
    return sentences


def _interaction(interaction: Interaction, quantity: Quantity) -> str:
    estimate, (base, level) = interaction.gains[quantity.key], interaction.sides[quantity.key]
    second, places = interaction.second, _places(estimate)
    header = second.factor.header
    return (
        f"The gain of {interaction.first.text} depends on {header}: {quantity.name} {base:+z.{places}f} "
        f"{quantity.step} with {header} {second.base}, {level:+z.{places}f} with {header} {second.level} "
        f"(difference {signed(estimate)}, {certainty(estimate, quantity.step)})."
    )


def _not_ruled_out(estimate: Estimate, unit: str) -> str:
    return f"up to {_largest(estimate):.{_places(estimate)}f} {unit}".strip() + " can't be ruled out"


def _largest(estimate: Estimate) -> float:
    """Return the largest effect, either way, that the interval allows."""
    return max(abs(estimate.low or 0.0), abs(estimate.high or 0.0))


def _places(estimate: Estimate) -> int:
    """Return the decimals that show the noise to one digit or two."""
    has_interval = estimate.low is not None and estimate.high is not None
    size = ((estimate.high or 0.0) - (estimate.low or 0.0)) / 2 if has_interval else abs(estimate.mean or 0.0)
    return max(1, -floor(log10(size))) if size else 1


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.2g}"


def _best_trials(findings: Findings) -> list[str]:
    primary = findings.table.primary
    key, direction = next(iter(findings.results.objectives.items()), (primary.key, "max"))
    objective = quantity(key, direction)
    known = [row for row in findings.table.rows if key in row.values]
    ranked = sorted(known, key=lambda row: row.values[key].mean, reverse=direction == "max")
    if not ranked:
        return [f"No trial has {objective.name} yet."]
    first, *runners_up = [f"{_trial(row)}, {_value(row, objective)}" for row in ranked[:_BEST_TRIALS]]
    return [
        f"Best of {counted(len(ranked), 'trial')} in {objective.name}: {first}.",
        *([f"Next: {'; '.join(runners_up)}."] if runners_up else []),
        _LUCK,
    ]


def _front(findings: Findings) -> list[str]:
    """Describe the Pareto front of a search for several objectives."""
    plane = findings.plane
    x, y, front = plane.across.quantity, plane.up.quantity, plane.front
    if not front:
        return [f"No trial has {y.name} and {x.name} yet."]
    ends = [front[0], front[-1]] if len(front) > 1 else front
    shown = "; to ".join(f"{_trial(one.row)}, {_value(one.row, y)}, {_value(one.row, x)} {x.name}" for one in ends)
    count = f"{len(front)} {'is' if len(front) == 1 else 'are'}"
    return [
        f"Of {counted(len(plane.dots), 'trial')}, {count} not beaten in {y.name} and {x.name} at once: "
        f"{'from ' if len(front) > 1 else ''}{shown}.",
        *([f"Compared are {plane.left_out}."] if plane.left_out else []),
        _LUCK,
    ]


def _trial(row: Row) -> str:
    choices = ", ".join(f"{name} {level}" for name, level in row.levels.items())
    return f"no. {row.number} ({choices or row.cell.name})"


def _value(row: Row, quantity: Quantity) -> str:
    return f"{row.show(quantity)} {quantity.unit}".strip()


def _terminal_table(findings: Findings) -> list[str]:
    """Return the table without the paper's columns, for which a terminal is too narrow."""
    shown = [column for column in columns(findings.table) if column.kind != "paper"]
    table = RichTable(box=box.SIMPLE)
    for column in shown:
        table.add_column(Text(column.header), justify="right" if column.kind == "quantity" else "left")
    for texts in zip(*(column.text for column in shown), strict=True):
        table.add_row(*map(Text, texts))
    console = table_console(color_system=None)
    with console.capture() as capture:
        console.print(table)
    return [line.rstrip() for line in capture.get().splitlines() if line.strip()]
