"""The first sentence of a report, which answers the sweep's question, and the last, which says what is undecided."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from shvit_pl.display import counted, enclose, listed
from shvit_pl.sweep.report.comparisons import MOST_SEEDS, POWER, Effect, Estimate, Ratio, seeds_to_settle
from shvit_pl.sweep.report.findings import Findings
from shvit_pl.sweep.report.table import Quantity, Table, quantity

_MOST_NAMED = 4  # comparisons or cells in one sentence
_ONE_SEED = "A single seed shows no noise: run at least 3."
_SETTLE = f"So many seeds settle each with {100 * POWER:.0f} % power, if difference and noise are as measured."


def answer(findings: Findings) -> str:
    """Return one sentence on what the choices do to the objectives, or which cell is best where none does anything."""
    table, mains = findings.table, [effect for effect in findings.effects if effect.is_main]
    objectives = [quantity(key, direction) for key, direction in findings.results.objectives.items()] or [table.primary]
    first, texts = objectives[0], dict[str, list[str]]()
    for effect in mains:
        texts[effect.name] = [text for one in objectives if (text := _change(effect, one))]
    changed = [effect for effect in mains if texts[effect.name]]
    if len(changed) > _MOST_NAMED:
        changed.sort(key=lambda effect: _worth(effect, first), reverse=True)
    if not changed:
        parts = [*_nothing_found(table, mains, first)]
    else:
        parts = [f"{effect.name} {listed(texts[effect.name])}" for effect in changed[:_MOST_NAMED]]
        more = len(changed) - _MOST_NAMED
        parts += [f"{counted(more, 'more choice')} {'matters' if more == 1 else 'matter'}"] if more > 0 else []
        parts += _dependences(findings.effects, first)
        without = [effect for effect in mains if effect not in changed and not _is_unknown(effect, first)]
        shows, on = "shows" if len(without) == 1 else "show", listed([one.name for one in objectives])
        parts += [f"{named(map(_short, without))} {shows} no significant effect on {on}"] if without else []
    unknown = [_short(effect) for effect in mains if effect not in changed and _is_unknown(effect, first)]
    parts += [f"{named(failed)} failed"] if (failed := _failed(table)) and len(unknown) < len(mains) else []
    parts += [f"{named(unknown)} can't be compared"] if 0 < len(unknown) < len(mains) else []
    return f"{'; '.join(parts)}."


def undecided(findings: Findings, gains: Sequence[Quantity], lost: str) -> str:
    """Return one line on all comparisons that decide nothing, with the seeds that would settle them; empty without any.

    `lost` is why a difference is unknown where pairs were planned.
    """
    parts, seeds = list[str](), set[int]()
    for gain in gains:
        left = [effect for effect in findings.effects if is_undecided(effect.gains[gain.key])]
        mains = [(effect.name, effect.gains[gain.key]) for effect in left if effect.is_main]
        needed = {name: seeds_to_settle(one, len(left)) or MOST_SEEDS + 1 for name, one in mains}
        mains.sort(key=lambda main: needed[main[0]])
        texts = [f"{name} ({_what_is_known(one, gain, needed[name], lost)})" for name, one in mains]
        texts = [*([named(texts, "in the table of effects")] if texts else []), *_interactions(left, gain)]
        parts += [f"in {gain.name}: {'; '.join(texts)}"] if texts else []
        seeds |= {one.seeds for _, one in mains if not one.folds}
    costs = [f"{cost.name} ({named(names)})" for cost in findings.table.costs if (names := _unchanged(findings, cost))]
    parts += [f"in cost: {', '.join(costs)}"] if costs else []
    if not parts:
        return ""
    notes = [_ONE_SEED] * (1 in seeds) + [_SETTLE] * any(count > 1 for count in seeds)
    return " ".join([f"Undecided {'; '.join(parts)}.", *notes])


def is_undecided(estimate: Estimate) -> bool:
    """Return whether a difference is unknown, known from one seed only, or not significant."""
    return not estimate.is_significant and not is_exact(estimate)


def is_exact(estimate: Estimate) -> bool:
    """Return whether several seeds agree exactly on a difference."""
    return estimate.mean is not None and estimate.seeds > 1 and estimate.low is None


def is_undecided_cost(ratio: Ratio) -> bool:
    """Return whether the interval of a ratio, as shown, has 1 inside."""
    return not ratio.is_significant and not ratio.is_one and ratio.low is not None


def named(names: Iterable[str], where: str = "") -> str:
    """Return the first names in a list, and the number of all others."""
    every = list(names)
    more = len(every) - _MOST_NAMED
    return listed([*every[:_MOST_NAMED], *([f"{more} more{enclose(' ', where)}"] if more > 0 else [])])


def _change(effect: Effect, one: Quantity) -> str:
    """Return words such as `raises top-1 by 1.2 points`; empty where nothing significant changes."""
    if one.is_cost:
        ratio = effect.costs.get(one.key)
        verb = "needs" if one.direction == "min" else "reaches"
        return f"{verb} {ratio.times} times the {one.name}" if ratio is not None and ratio.is_significant else ""
    estimate = effect.gains[one.key] if one.key in effect.gains else Estimate(None)
    if not estimate.mean or is_undecided(estimate):
        return ""
    size = enclose(estimate.signed.lstrip("+-"), f" {one.step}".rstrip()) or estimate.signed.lstrip("+-")
    return f"{'raises' if estimate.mean > 0 else 'lowers'} {one.name} by {size}"


def _dependences(effects: Sequence[Effect], one: Quantity) -> list[str]:
    """Return a clause for each pair of choices with a significant interaction."""
    found = [effect for effect in effects if not effect.is_main and one.key in effect.sides]
    pairs = dict.fromkeys(tuple(contrast.factor.header for contrast in effect.contrasts) for effect in found)
    return [f"the effect of {first} depends on {second}" for first, second in pairs]


def _worth(effect: Effect, one: Quantity) -> float:
    """Return how much a choice improves an objective."""
    known = effect.costs.get(one.key) if one.is_cost else effect.gains.get(one.key)
    mean = known.mean if known is not None and known.mean is not None else 0.0
    return -mean if one.direction == "min" else mean


def _is_unknown(effect: Effect, one: Quantity) -> bool:
    if one.is_cost:
        return one.key not in effect.costs
    return one.key not in effect.gains or effect.gains[one.key].mean is None


def _nothing_found(table: Table, mains: Sequence[Effect], one: Quantity) -> Iterator[str]:
    """Yield why no choice has an effect, and which cell is best."""
    values = table.array(one)
    if values.size and np.isfinite(values).all() and np.ptp(values) == 0:
        yield f"The {len(values)} cells have the same {one.name}, {f'{one.show(values[0, 0])} {one.unit}'.strip()}"
        return
    known = [effect.gains[one.key] for effect in mains if one.key in effect.gains]
    most = max(known, key=lambda estimate: estimate.seeds, default=Estimate(None))
    if all(_is_unknown(effect, one) for effect in mains):
        failed = _failed(table)
        yield f"No two cells can be compared{f', as {named(failed)} failed' if failed else ''}"
    elif most.seeds == 1:
        yield f"One {'fold' if most.folds else 'seed'} can't tell an effect on {one.name} from noise"
    else:
        yield f"No choice has a significant effect on {one.name}{f' over {most.over}' if most.seeds else ''}"
    yield _best(table, one)


def _failed(table: Table) -> list[str]:
    """Return the cells of which every run has failed."""
    return [row.cell.name for row in table.rows if all(run.state == "failed" for run in row.cell.runs)]


def _best(table: Table, one: Quantity) -> str:
    """Return the cells with the best mean, as it is shown."""
    sign = -1 if one.direction == "min" else 1
    known = sorted(
        (row for row in table.rows if one.key in row.values), key=lambda row: -sign * row.values[one.key].mean
    )
    if not known:
        return f"no cell has {one.name}"
    value = one.show(known[0].values[one.key].mean)
    best = [row.cell.name for row in known if one.show(row.values[one.key].mean) == value]
    return f"best {'is' if len(best) == 1 else 'are'} {named(best)}, with {f'{value} {one.unit}'.strip()}"


def _short(effect: Effect) -> str:
    """Return a choice of two levels by its header, and any other by its level too."""
    contrast = effect.contrasts[0]
    is_pair = len(contrast.factor.levels) == 2 and contrast.factor.header
    return contrast.factor.header if is_pair else f"{contrast.factor.header} {contrast.level}".strip()


def _what_is_known(estimate: Estimate, gain: Quantity, seeds: int, lost: str) -> str:
    if estimate.mean is None:
        return lost if estimate.planned else "no two cells differ in this alone"
    difference = f"{estimate.signed} {gain.step}".strip()
    if estimate.low is None or estimate.high is None:
        return difference
    interval = f"{estimate.low:+z.{estimate.places}f} to {estimate.high:+z.{estimate.places}f}"
    if not estimate.low < 0 < estimate.high:
        interval += f", but p {estimate.p_corrected:.2g} after correction for {estimate.tests} comparisons"
    needed = f"; {f'about {seeds}' if seeds <= MOST_SEEDS else f'over {MOST_SEEDS}'} seeds"
    return f"{difference}, {interval}{'' if estimate.folds else needed}"


def _interactions(left: Sequence[Effect], gain: Quantity) -> list[str]:
    """Return a part on the undecided interactions, with the largest that is possible."""
    every = [effect.gains[gain.key] for effect in left if not effect.is_main]
    tested = [one for one in every if one.p is not None]
    if not tested:
        return []
    widest = max(tested, key=lambda one: one.largest)
    largest = f"{widest.largest:.{widest.places}f} {gain.step}".strip()
    unknown = f", {len(every) - len(tested)} can't be tested" if len(every) > len(tested) else ""
    return [f"{counted(len(every), 'interaction')} (up to {largest} can't be ruled out{unknown})"]


def _unchanged(findings: Findings, cost: Quantity) -> list[str]:
    """Return the choices whose change of a cost is not significant."""
    mains = [effect for effect in findings.effects if effect.is_main]
    return [_short(effect) for effect in mains if (one := effect.costs.get(cost.key)) and is_undecided_cost(one)]
