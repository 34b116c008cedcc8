"""What a sweep shows, in words, and never more than it shows."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from math import floor, log10

from shvit_pl.display.words import counted, listed
from shvit_pl.sweep.report.best_trials import search_sentences
from shvit_pl.sweep.report.effects import Effects, Interaction, MainEffect
from shvit_pl.sweep.report.findings import Findings
from shvit_pl.sweep.report.paired import Estimate
from shvit_pl.sweep.report.quantities import Quantity
from shvit_pl.sweep.report.ratios import Ratio
from shvit_pl.sweep.results import Results

_COSTS = "It costs"
_REACHES = "It reaches"
_SAME = "It has the same"
_NOISE = "Not beyond the noise:"
_UNKNOWN = "With noise that is not known:"


def answer(found: Findings) -> list[str]:
    """What to take away: of each main effect, and the interactions; of a search its best trials."""
    results = found.results
    if not any(cell.done for cell in results.cells):
        return ["No run succeeded." if results.cells and is_finished(results) else "No run has finished yet."]
    if results.kind == "search":
        return search_sentences(found)
    if not found.effects.main:
        return ["There is nothing to compare: no two cells differ."]
    asked = [one for one in found.effects.gains if one.key in results.objectives or one == found.primary]
    shown = replace(found.effects, gains=tuple(asked))  # all others are in the table of effects
    lost = "every pair has a failed run" if is_finished(results) else "no complete pair of runs yet"
    return [_main_sentences(main, shown, lost) for main in shown.main] + _interaction_sentences(shown)


def progress(results: Results) -> str:
    """How far the sweep is, such as `12 of 24 runs done, 1 failed`."""
    states = Counter(run.state for cell in results.cells for run in cell.runs)
    rest = [f"{states[state]} {state}" for state in ("failed", "pruned", "running", "waiting") if states[state]]
    return ", ".join([f"{states['done']} of {counted(states.total(), 'run')} done", *rest])


def is_finished(results: Results) -> bool:
    """Whether nothing is running or waiting."""
    return not any(run.state in ("running", "waiting") for cell in results.cells for run in cell.runs)


def _main_sentences(main: MainEffect, found: Effects, lost: str) -> str:
    """What a level brings, what it costs, and what can't be told; `lost` is why a gain without a pair is unknown."""
    gains = [_gain(one, main.gains[one.key], lost) for one in found.gains]
    costs = _cost_sentences(main, found.costs)
    first = f"{main.contrast.text}: {', '.join(gains) or 'nothing but costs was measured'}."
    return " ".join([first, *costs])


def _cost_sentences(main: MainEffect, costs: tuple[Quantity, ...]) -> list[str]:
    """What is beyond the noise, then the rest."""
    said: dict[str, list[str]] = {start: [] for start in (_COSTS, _REACHES, _SAME, _NOISE, _UNKNOWN)}
    for of in costs:
        ratio = main.costs.get(of.key)
        if ratio is not None:
            said[_start(of, ratio)].append(of.name if ratio.is_same else _times(of, ratio))
    return [f"{start} {listed(parts)}." for start, parts in said.items() if parts]


def _interaction_sentences(found: Effects) -> list[str]:
    """A sentence per interaction beyond the noise; per quantity one for all others."""
    sentences = []
    for quantity in found.gains:
        seen = [one for one in found.interactions if one.gains[quantity.key].is_seen]
        others = [one.gains[quantity.key] for one in found.interactions if one not in seen]
        sentences += [_interaction(one, quantity) for one in seen]
        sentences += _no_interaction(quantity, others, bool(seen))
    return sentences


def certainty(each: Estimate, unit: str) -> str:
    """How sure a difference is."""
    if each.low is None or each.high is None or each.p is None or each.p_corrected is None:
        if each.seeds == 1:
            return "one seed: nothing can be said of the noise"
        return f"exactly the same in all {each.seeds} seeds, which says nothing of the noise"
    places = _places(each)
    interval = f"95 % interval {each.low:+z.{places}f} to {each.high:+z.{places}f} over {each.seeds} seeds"
    if each.is_seen:
        return f"{interval}, p {_p(each.p_corrected)}"
    if each.low < 0 < each.high:
        most = f"{_largest(each):.{places}f} {unit}".strip()
        return f"{interval}: not beyond the noise, in which up to {most} could hide"
    return f"{interval}, but p {_p(each.p_corrected)} as one of {each.tests} comparisons: not beyond the noise"


def signed(each: Estimate) -> str:
    """The mean difference with its sign, to the digits that its noise allows."""
    return f"{each.mean or 0.0:+z.{_places(each)}f}"


def _gain(quantity: Quantity, each: Estimate, lost: str) -> str:
    if each.mean is None:
        return f"{quantity.name} unknown ({lost if each.planned else 'no two cells differ in this alone'})"
    part = f", from {each.pairs} of {each.planned} pairs" if each.pairs < each.planned else ""
    return f"{quantity.name} {signed(each)} {quantity.step} ({certainty(each, quantity.step)}{part})".replace("  ", " ")


def _start(of: Quantity, ratio: Ratio) -> str:
    if ratio.low is None:
        return _UNKNOWN
    if ratio.is_same:
        return _SAME
    if not ratio.is_seen:
        return _NOISE
    return _COSTS if of.direction == "min" else _REACHES


def _times(of: Quantity, ratio: Ratio) -> str:
    """A ratio and its interval, which says nothing where it shows as the ratio itself."""
    places = ratio.places
    times = f"{ratio.mean:.{places}f} times the {of.name}"
    if ratio.low is None or ratio.high is None:
        return f"{times} ({'without quartiles' if of.is_inference else 'one seed'})"
    low, high = f"{ratio.low:.{places}f}", f"{ratio.high:.{places}f}"
    if low == high:
        return times
    return f"{times} ({'quartiles' if of.is_inference else '95 % interval'} {low} to {high})"


def _interaction(one: Interaction, quantity: Quantity) -> str:
    each, (base, level) = one.gains[quantity.key], one.apart[quantity.key]
    second, places = one.second.factor.header, _places(each)
    return (
        f"The gain of {one.first.text} depends on {second}: {quantity.name} {base:+z.{places}f} {quantity.step} with "
        f"{second} {one.second.base}, {level:+z.{places}f} with {second} {one.second.level} "
        f"(difference {signed(each)}, {certainty(each, quantity.step)})."
    )


def _no_interaction(quantity: Quantity, others: list[Estimate], some_seen: bool) -> list[str]:
    tested = [each for each in others if each.p is not None]
    if not tested:
        return []
    widest = max(tested, key=_largest)
    most = f"{_largest(widest):.{_places(widest)}f} {quantity.step}".strip()
    untold = f" ({len(others) - len(tested)} of {len(others)} can't be told)" if len(tested) < len(others) else ""
    return [
        f"No {'other ' if some_seen else ''}interaction{untold} is beyond the noise in {quantity.name}, in which up to "
        f"{most} could hide."
    ]


def _largest(each: Estimate) -> float:
    """The largest effect, either way, that the interval allows."""
    return max(abs(each.low or 0.0), abs(each.high or 0.0))


def _places(each: Estimate) -> int:
    """Decimals that show the noise to one digit or two."""
    size = abs(each.mean or 0.0) if each.low is None or each.high is None else (each.high - each.low) / 2
    return max(1, -floor(log10(size))) if size else 1


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.2g}"
