"""What a sweep shows, in words, and never more than it shows."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from math import floor, log10

from shvit_pl.sweep.report.effects import Effects, Interaction, Main, Ratio, effects
from shvit_pl.sweep.report.paired import Estimate
from shvit_pl.sweep.report.quantities import INFERENCE, TRAINING, Quantity, primary
from shvit_pl.sweep.report.trials import search_sentences
from shvit_pl.sweep.results import Results

_SAME = 0.005  # of a ratio that is written 1.00
_MEASURED = (TRAINING, *INFERENCE.values())  # never exactly the same twice


def answer(results: Results) -> list[str]:
    """What to take away: a sentence per main effect, and the interactions; of a search its best trials."""
    if not any(cell.done for cell in results.cells):
        return ["No run has finished yet."]
    if results.kind == "search":
        return search_sentences(results)
    found = effects(results)
    if not found.main:
        return ["There is nothing to compare: no two cells differ."]
    asked = [one for one in found.gains if one.key in results.objectives or one == primary(results)]
    found = replace(found, gains=tuple(asked))  # all others are in the table of effects
    return [main_sentence(main, found) for main in found.main] + interaction_sentences(found)


def progress(results: Results) -> str:
    """How far the sweep is, such as `12 of 24 runs done, 1 failed`."""
    states = Counter(run.state for cell in results.cells for run in cell.runs)
    rest = [f"{states[state]} {state}" for state in ("failed", "pruned", "running", "waiting") if states[state]]
    return ", ".join([f"{states['done']} of {states.total()} runs done", *rest])


def is_finished(results: Results) -> bool:
    """Whether nothing is running or waiting."""
    return not any(run.state in ("running", "waiting") for cell in results.cells for run in cell.runs)


def main_sentence(main: Main, found: Effects) -> str:
    """What a level brings, and what it costs."""
    gains = [_gain(one, main.gains[one.key]) for one in found.gains]
    costs = [_cost(one, main.costs[one.key]) for one in found.costs if one.key in main.costs and _differs(one, main)]
    same = [one.name for one in found.costs if one.key in main.costs and not _differs(one, main)]
    clauses = [*gains, *costs, *([f"the same {_listed(same)}"] if same else [])]
    return f"{main.contrast.text}: {', '.join(clauses) or 'nothing was measured'}."


def interaction_sentences(found: Effects) -> list[str]:
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


def _gain(quantity: Quantity, each: Estimate) -> str:
    if each.mean is None:
        why = "no complete pair of runs yet" if each.planned else "no two cells differ in this alone"
        return f"{quantity.name} unknown ({why})"
    part = f", from {each.pairs} of {each.planned} pairs" if each.pairs < each.planned else ""
    return f"{quantity.name} {signed(each)} {quantity.step} ({certainty(each, quantity.step)}{part})".replace("  ", " ")


def _cost(quantity: Quantity, ratio: Ratio) -> str:
    places = 1 if ratio.mean >= 1.995 else 2
    mean, low, high = (f"{value:.{places}f}" for value in (ratio.mean, ratio.low, ratio.high))
    spread = f" ({low} to {high} over seeds)" if low != high else ""
    return f"{mean} times the {quantity.name}{spread}"


def _differs(quantity: Quantity, main: Main) -> bool:
    return quantity.key in _MEASURED or abs(main.costs[quantity.key].mean - 1) > _SAME


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


def _listed(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.2g}"
