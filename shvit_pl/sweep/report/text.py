"""The sentences of a report: the answer, details, what is open; a difference is stated only where it is significant."""

from collections import Counter

from rich.table import Table as RichTable
from rich.text import Text

from shvit_pl.display import counted, enclose, listed, table_console
from shvit_pl.errors import visible
from shvit_pl.sweep.engine.reading import Results
from shvit_pl.sweep.report.answer import answer, is_undecided, is_undecided_cost, named, undecided
from shvit_pl.sweep.report.comparisons import Effect, Estimate
from shvit_pl.sweep.report.findings import Findings
from shvit_pl.sweep.report.table import Quantity, Row, quantity, rank_of

_SAME = "It has the same"
_BEST_TRIALS = 3  # trials of a search that are listed
_LUCK = "The best of many trials is partly luck: repeat it with other seeds before relying on it."


def summary_lines(findings: Findings) -> list[str]:
    """Return the cells as a table for a terminal, the progress of the sweep, and the conclusions."""
    shown = [column for column in findings.table.columns if column.kind != "paper"]  # a terminal is too narrow for it
    table = RichTable(box=None, padding=(0, 1, 0, 0))
    for column in shown:
        if column.kind == "quantity":  # its header is broken, its numbers are not
            table.add_column(Text(column.header), justify="right", min_width=max(map(len, column.text), default=0))
        else:
            table.add_column(Text(column.header))
    for texts in zip(*(column.text for column in shown), strict=True):
        table.add_row(*(Text(visible(text)) for text in texts))
    console = table_console(color_system=None)
    with console.capture() as capture:
        console.print(table)
    lines = [line.rstrip() for line in capture.get().splitlines() if line.strip()]
    return [*lines, f"{progress(findings.results)}.", *conclusions(findings)]


def progress(results: Results) -> str:
    """Return the number of runs in each state, such as `12 of 24 runs done, 1 failed`."""
    states = Counter(run.state for cell in results.cells for run in cell.runs)
    rest = [f"{states[state]} {state}" for state in ("failed", "pruned", "running", "waiting") if states[state]]
    return ", ".join([f"{states['done']} of {counted(states.total(), 'run')} done", *rest])


def is_finished(results: Results) -> bool:
    """Return whether nothing is running or waiting."""
    return not any(run.state in ("running", "waiting") for cell in results.cells for run in cell.runs)


def conclusions(findings: Findings) -> list[str]:
    """Return the answer in one sentence, a paragraph for each effect, and one line on what is undecided.

    For a search, these are its best trials. The last line counts runs of too few steps, where there are any.
    """
    return [*_comparisons(findings), *_few_steps(findings.results)]


def _few_steps(results: Results) -> list[str]:
    """Describe the runs whose evaluation stands on too few steps, by the note that most of them have."""
    done = [run for cell in results.cells for run in cell.done]
    noted = [notes for run in done if (notes := (run.summary or {}).get("few_steps"))]
    if not noted:
        return []
    (usual, _), *_ = Counter(notes[0] for notes in noted).most_common(1)
    verb = "was" if len(noted) == 1 else "were"
    return [f"{len(noted)} of {counted(len(done), 'run')} {verb} evaluated after too few steps ({usual})."]


def _comparisons(findings: Findings) -> list[str]:
    results, table, effects = findings.results, findings.table, findings.effects
    if not any(cell.done for cell in results.cells):
        return ["No run succeeded." if results.cells and is_finished(results) else "No run has finished yet."]
    so_far = "" if is_finished(results) else "So far: "
    if results.kind == "search":
        first, *more = _front(findings) if len(results.objectives) > 1 else _best_trials(findings)
        return [f"{so_far}{first}", *more]
    if not effects:
        return [_only_cell(findings)]
    # all other gains are in the page's table of effects
    gains = [gain for gain in table.gains if gain.key in results.objectives or gain == table.primary]
    lost = "every pair has a failed run" if is_finished(results) else "no complete pair of runs yet"
    paragraphs = [
        paragraph for effect in effects if effect.is_main and (paragraph := _main(effect, gains, table.costs))
    ]
    interactions = [effect for effect in effects if not effect.is_main]
    paragraphs += [sentence for gain in gains for sentence in _interactions(interactions, gain)]
    return [f"{so_far}{answer(findings)}", *paragraphs, *filter(None, [undecided(findings, gains, lost)])]


def _only_cell(findings: Findings) -> str:
    row, of = findings.table.rows[0], findings.table.primary
    reached = enclose(f", with {of.name} ", f"{row.show(of)} {of.unit}".strip() if row.show(of) else "")
    return f"There is nothing to compare: {row.cell.name} is the only cell{reached}."


def _main(effect: Effect, gains: list[Quantity], costs: list[Quantity]) -> str:
    """Describe what a choice brings and what it costs; empty where neither is known."""
    known = {gain: effect.gains[gain.key] for gain in gains}
    brings = [_gain(gain, one) for gain, one in known.items() if not is_undecided(one)]
    sentences = _cost_sentences(effect, costs)
    if not brings and not [sentence for sentence in sentences if not sentence.startswith(_SAME)]:
        return ""
    if not brings and gains:  # which are in the line on what is undecided
        first, *others = sentences
        return " ".join([f"{effect.name}: {first[0].lower()}{first[1:]}", *others])
    return " ".join([f"{effect.name}: {', '.join(brings) or 'only costs were measured'}.", *sentences])


def certainty(estimate: Estimate, unit: str) -> str:
    """Describe how sure a difference is."""
    if estimate.low is None or estimate.high is None or estimate.p_corrected is None:
        if estimate.seeds == 1:
            return f"one {'fold' if estimate.folds else 'seed'}, so no interval"
        return f"identical in all {estimate.over}, so no interval"
    places, corrected = estimate.places, estimate.p_corrected
    interval = f"95 % interval {estimate.low:+z.{places}f} to {estimate.high:+z.{places}f} over {estimate.over}"
    p = "< 0.001" if corrected < 0.001 else f"{corrected:.2g}"
    if estimate.is_significant:
        return f"{interval}, p {p}"
    if estimate.low < 0 < estimate.high:
        return f"{interval}: not significant; {_not_ruled_out(estimate, unit)}"
    return f"{interval}, but p {p} after correction for {estimate.tests} comparisons: not significant"


def _gain(quantity: Quantity, estimate: Estimate) -> str:
    """Describe what a level brings."""
    lacking = estimate.pairs < estimate.planned
    part = f", from {estimate.pairs} of {estimate.planned} pairs" if lacking else ""
    difference = f"{estimate.signed} {quantity.step}".strip()
    return f"{quantity.name} {difference} ({certainty(estimate, quantity.step)}{part})"


def _cost_sentences(effect: Effect, costs: list[Quantity]) -> list[str]:
    """Describe the costs that are significant, then those whose noise is unknown."""
    starts = ("It needs", "It reaches", _SAME, "Noise unknown:")
    parts: dict[str, list[str]] = {start: [] for start in starts}
    for cost in costs:
        ratio = effect.costs.get(cost.key)
        if ratio is None or is_undecided_cost(ratio):
            continue
        times, spread = f"{ratio.times} times the {cost.name}", ""
        if ratio.low is None or ratio.high is None:
            start, spread = "Noise unknown:", "without quartiles" if cost.is_inference else "one seed"
        elif ratio.is_one:
            start, times = _SAME, cost.name
        else:
            start = "It needs" if cost.direction == "min" else "It reaches"
            low, high = (f"{end:.{ratio.places}f}" for end in (ratio.low, ratio.high))
            if low != high:
                spread = f"{'quartiles' if cost.is_inference else '95 % interval'} {low} to {high}"
        parts[start].append(times + enclose(" (", spread, ")"))
    return [f"{start} {listed(texts)}." for start, texts in parts.items() if texts]


def _interactions(interactions: list[Effect], quantity: Quantity) -> list[str]:
    """Describe each significant interaction."""
    sentences, unit = list[str](), quantity.step
    for effect in interactions:
        estimate = effect.gains[quantity.key]
        if not estimate.is_significant:
            continue
        (first, second), places = effect.contrasts, estimate.places
        base, level = (f"{side:+z.{places}f}" for side in effect.sides[quantity.key])
        header, name = second.factor.header, quantity.name
        sentences.append(
            f"The effect of {first.text} depends on {header}: {name} {base} {unit} with {header} {second.base}, "
            f"{level} with {header} {second.level} (difference {estimate.signed}, {certainty(estimate, unit)})."
        )
    return sentences


def _not_ruled_out(estimate: Estimate, unit: str) -> str:
    return f"an effect of up to {estimate.largest:.{estimate.places}f} {unit}".strip() + " can't be ruled out"


def _best_trials(findings: Findings) -> list[str]:
    primary = findings.table.primary
    key, direction = next(iter(findings.results.objectives.items()), (primary.key, "max"))
    objective = quantity(key, direction)
    known = [row for row in findings.table.rows if key in row.values]
    ranked = sorted(known, key=lambda row: rank_of(row.cell.done, key, direction))
    if not ranked:
        return [f"No trial has {objective.name} yet."]
    first, *next_best = [f"{_trial(row)}, {_value(row, objective)}" for row in ranked[:_BEST_TRIALS]]
    value = ranked[0].values[key].mean
    equal = [f"no. {row.number}" for row in ranked[1:] if row.values[key].mean == value]
    tie = enclose("; ", named(equal) if equal else "", f" {'is' if len(equal) == 1 else 'are'} equal")
    best = f"Best of {_trials(findings, len(ranked))} in {objective.name}: {first}{tie}."
    return [best, *([f"Next: {'; '.join(next_best)}.", _LUCK] if next_best else [])]


def _trials(findings: Findings, count: int) -> str:
    """Return the number of trials that are compared, or that they are all points of the space."""
    is_all = findings.results.is_whole_space and count == len(findings.table.rows)
    return f"all {counted(count, 'point')} of the space" if is_all else counted(count, "trial")


def _front(findings: Findings) -> list[str]:
    """Describe the Pareto front of a search for several objectives."""
    plane = findings.plane
    x, y, front = plane.across, plane.up, plane.front
    if not front:
        return [f"No trial has {y.name} and {x.name} yet."]
    ends = [front[0], front[-1]] if len(front) > 1 else front
    shown = "; to ".join(f"{_trial(row)}, {_value(row, y)}, {_value(row, x)} {x.name}" for row in ends)
    count = f"{len(front)} {'is' if len(front) == 1 else 'are'}"
    best = (
        f"Of {_trials(findings, len(plane.rows))}, {count} on the Pareto front of {y.name} and {x.name}: "
        f"{'from ' if len(front) > 1 else ''}{shown}."
    )
    return [best, *([f"Compared: {plane.left_out}."] if plane.left_out else []), _LUCK]


def _trial(row: Row) -> str:
    choices = ", ".join(f"{name} {level}" for name, level in row.levels.items())
    return f"no. {row.number} ({choices or row.cell.name})"


def _value(row: Row, quantity: Quantity) -> str:
    return f"{row.show(quantity)} {quantity.unit}".strip()
