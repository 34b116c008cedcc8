import re
from dataclasses import replace

import pytest

from shvit_pl.sweep.engine.reading import Results
from shvit_pl.sweep.report.findings import findings_of
from shvit_pl.sweep.report.text import conclusions, is_finished, progress
from tests.sweep.report.sweeps import at, cube, listed, nothing_done, search, sweep, unfinished, with_runs, with_speed

TWO = {"val/acc1": "max", "images_per_second": "max"}


def sentences(results):
    return conclusions(findings_of(results))


def test_a_paragraph_has_what_a_choice_brings_and_then_what_it_costs():
    first = sentences(with_speed(cube(effects={"patch_size": -0.02}, noise=0.0005)))[1]
    gain, costs, reaches, *_ = first.split(". ")
    assert gain.startswith("patch_size 16 instead of 4: top-1 -2.0")
    assert "95 % interval -2." in gain
    assert gain.endswith("over 3 seeds, p < 0.001)")
    assert costs.startswith("It needs 12.0 times the parameters")
    assert reaches.startswith("It reaches")
    assert "3.0 times the eager inference images/s" in reaches
    assert "not significant" not in first


def test_a_cost_whose_interval_holds_one_is_not_significant():
    answer, _, second, _, last = sentences(with_speed(cube()))  # stages leave speed and memory as they are
    assert answer == (
        "patch_size 16 instead of 4 lowers top-1 by 1.2 points; stages and stage1 show no significant effect on top-1."
    )
    assert second.startswith("stages 4 instead of 3: it needs 1.20 times the parameters.")
    assert "training images/s" not in second
    assert "It has the same MACs and peak memory." in second
    assert "; in cost: training images/s (stages), eager inference images/s (stage1)." in last


def test_a_speed_whose_quartiles_overlap_is_not_significant():
    results = with_speed(cube())
    assert "3.0 times the eager inference images/s (quartiles 2.9 to 3.2)" in sentences(results)[1]
    for rates in results.speed["cells"].values():
        rates["eager_iqr"] = [0.5 * rates["eager"], 2 * rates["eager"]]
    found = sentences(results)
    assert "eager" not in found[1]
    assert "eager inference images/s (patch_size, stages and stage1)" in found[-1]


def test_one_seed_is_no_ground_for_a_claim():
    results = with_speed(cube(seeds=(0,), effects={"patch_size": -0.3}))
    for rates in results.speed["cells"].values():
        del rates["eager_iqr"]
    found = sentences(results)
    assert found[0].startswith("One seed can't tell an effect on top-1 from noise; best is patch_size 4, ")
    unknown = found[1].partition("Noise unknown: ")[2]
    assert "2.0 times the training images/s (one seed)" in unknown
    assert "3.0 times the eager inference images/s (without quartiles)" in unknown
    assert "parameters" not in unknown
    assert found[-1].startswith(
        "Undecided in top-1: patch_size 16 instead of 4 (-29.8 points), stages 4 instead of 3 ("
    )
    assert found[-1].endswith("A single seed shows no noise: run at least 3.")
    assert sum(sentence.lower().count("undecided") for sentence in found) == 1
    assert not any("interaction" in one or "significant" in one for one in found)


@pytest.mark.parametrize("results", [cube(), search()], ids=["grid", "search"])
def test_runs_of_too_few_steps_are_counted_in_the_last_line(results):
    first, *others = (run for cell in results.cells for run in cell.done)
    notes = {id(run): ["of 8 batches"] for run in others[:2]} | {id(first): ["of 4 batches", "and another"]}
    noted = with_runs(
        results, lambda run: replace(run, summary=run.summary and {**run.summary, "few_steps": notes.get(id(run), [])})
    )
    line = f"3 of {1 + len(others)} runs were evaluated after too few steps (of 8 batches)."
    assert sentences(noted) == [*sentences(results), line]


def test_without_an_effect_the_sentence_bounds_what_can_be_ruled_out():
    first, *_, last = sentences(cube(effects={}, noise=0.01))
    assert first.startswith("No choice has a significant effect on top-1 over 3 seeds; best is patch_size ")
    assert re.search(r"stages 4 instead of 3 \([-+]\d\.\d points, -\d\.\d to \+\d\.\d; (about|over) \d+ seeds\)", last)
    assert re.search(r"; 3 interactions \(up to \d\.\d points can't be ruled out\)", last)
    assert last.endswith("with 80 % power, if difference and noise are as measured.")


def test_an_interval_without_zero_is_no_claim_before_all_comparisons_are_counted():
    found = (sentences(cube(effects={"stage1": 0.002}, noise=0.002, draw=draw)) for draw in range(30))
    first, *_, last = next(each for each in found if re.search(r"stage1 .*but p 0\.\d+ after correction", each[-1]))
    assert "after correction for 6 comparisons; about " in last
    assert "raises" not in first


def test_an_interaction_names_both_choices():
    found = sentences(cube(effects={}, noise=0.0003, interaction=0.02))
    assert "; the effect of patch_size depends on stages; stage1 shows no significant effect on top-1." in found[0]
    (one,) = [sentence for sentence in found[1:] if "depends on" in sentence]
    assert one.startswith("The effect of patch_size 16 instead of 4 depends on stages: top-1 ")
    assert "top-1 +0.00 points with stages 3, +1.99 with stages 4" in one
    assert "(difference +1.99, 95 % interval" in one


def test_a_search_names_its_best_trials_and_claims_no_effect():
    found = sentences(search())
    assert found[0].startswith("Best of 16 trials in top-1: no. ")
    assert "repeat it with other seeds" in found[-1]
    assert not any("instead of" in one for one in found)


def test_an_exhausted_search_says_so_unless_a_point_is_lost():
    assert sentences(replace(search(), is_whole_space=True))[0].startswith("Best of 16 trials")  # 4 are pruned
    all_done = with_runs(search(trials=6), lambda run: replace(run, state="done"))
    assert sentences(replace(all_done, is_whole_space=True))[0].startswith("Best of all 6 points of the space in top-1")

    both = replace(all_done, objectives=TWO, is_whole_space=True)
    assert sentences(both)[0].startswith("Of all 6 points of the space, ")


def test_a_search_of_one_trial_was_no_luck_and_one_that_runs_is_best_so_far():
    assert len(sentences(search(trials=1))) == 1
    (best, *_) = search(trials=3).cells
    running = replace(search(), cells=(best, *with_runs(search(trials=2), lambda run: at(run, "running")).cells))
    assert sentences(running)[0].startswith("So far: Best of 1 trial in top-1: no. 1 (")


def test_a_search_for_two_objectives_names_its_front_and_counts_what_cannot_be_compared():
    results = search(objectives=TWO)
    assert "on the Pareto front of top-1 and training images/s: from no. " in sentences(results)[0]
    results.cells[0].runs[0].summary["images_per_second"] = None
    found = sentences(results)
    assert found[0].startswith("Of 15 trials,")
    assert found[1].startswith("Compared: 15 of 16 cells with a finished run")


def test_a_list_goes_by_the_names_of_its_rows():
    assert sentences(listed())[0] == (
        "Mixup instead of base lowers top-1 by 1.4 points; averaged shows no significant effect on top-1."
    )
    assert sentences(listed())[1].startswith("Mixup instead of base: top-1 -1.")
    sizes = zip(listed().cells, ("small", "middle", "large"), strict=True)
    cells = [replace(cell, name=name, choices={"model.design.name": f"a_{name}"}) for cell, name in sizes]
    found = sentences(replace(listed(), cells=tuple(cells)))
    assert found[1].startswith("middle instead of small: ")
    assert found[2].startswith("Undecided in top-1: large instead of small (")


def test_failed_and_missing_runs_are_named_and_without_a_comparison_there_is_a_reason():
    failed = with_runs(cube(), lambda run: at(run, "failed"))
    half = replace(cube(), cells=(*cube().cells[:4], *failed.cells[4:]))
    assert sentences(failed) == ["No run succeeded."]
    assert sentences(half)[0].endswith("; patch_size can't be compared.")
    assert "patch_size 16 instead of 4 (every pair has a failed run)" in sentences(half)[-1]
    assert sentences(unfinished())[0].startswith("So far: No choice has a significant effect on top-1 over 3 seeds; ")
    assert "patch_size 16 instead of 4 (no complete pair" in sentences(with_one_level_waiting())[-1]
    for empty in (nothing_done(), Results("none", "grid", {}, ())):
        assert sentences(empty) == ["No run has finished yet."]
    single = replace(cube(), cells=cube().cells[:1])
    reached = "top-1 0.9401 ± 0.0029"
    assert sentences(single) == [
        f"There is nothing to compare: patch_size 4, stages 3, stage1 conv is the only cell, with {reached}."
    ]


def with_one_level_waiting():
    waiting = with_runs(cube(), lambda run: at(run, "waiting"))
    return replace(cube(), cells=(*cube().cells[:4], *waiting.cells[4:]))


@pytest.mark.parametrize(
    ("accuracies", "expected"),
    [
        ({"a": (90, 90), "b": (90, 90)}, "The 2 cells have the same top-1, 0.9000."),
        ({"a": (90,), "b": (90,)}, "The 2 cells have the same top-1, 0.9000."),
        ({"a": (90, 91), "b": (91, 92)}, "x b instead of a raises top-1 by 1.0 points."),
        ({"a": (90, 91, 92), "b": (92, 91, 90)},
         "No choice has a significant effect on top-1 over 3 seeds; best are a and b, with 0.9100."),
        ({"a": (90,), "b": (91,), "c": (91,)},
         "One seed can't tell an effect on top-1 from noise; best are b and c, with 0.9100."),
        ({"a": (90, 90.1, 90.2), "b": (95, 95.2, 95.1), "c": (90, 90.3, 90.1), "d": (85, 85.2, 85.2)},
         "x b instead of a raises top-1 by 5.0 points; x d instead of a lowers top-1 by 5.0 points; "
         "x c shows no significant effect on top-1."),
        ({"a": (90, 90.06), **{name: (91 + i, 91.08 + i) for i, name in enumerate("bcdefg")}},
         "x g instead of a raises top-1 by 6.0 points; x f instead of a raises top-1 by 5.0 points; "
         "x e instead of a raises top-1 by 4.0 points; x d instead of a raises top-1 by 3.0 points; "
         "2 more choices matter."),
    ],
    ids=["equal", "equal and one seed", "the same in each seed", "tie", "tie of one seed", "levels", "many"],
)  # fmt: skip
def test_the_answer_is_one_sentence(accuracies, expected):
    results = sweep({(level,): dict(enumerate(points)) for level, points in accuracies.items()})
    assert sentences(results)[0] == expected


def test_the_answer_is_about_the_objectives_in_their_directions():
    objectives = {"val/loss": "min", "images_per_second": "max"}
    assert sentences(replace(cube(effects={"patch_size": -0.02}), objectives=objectives))[0] == (
        "patch_size 16 instead of 4 raises val/loss by 0.051 and reaches 2.0 times the training images/s; "
        "stage1 attention instead of conv reaches 0.81 times the training images/s; "
        "stages shows no significant effect on val/loss and training images/s."
    )
    same = with_runs(cube(), lambda run: replace(run, summary={**run.summary, "params": 500}))
    assert (
        sentences(replace(same, objectives={"params": "min"}))[0] == "The 8 cells have the same parameters, 0.000500 M."
    )


def test_the_line_on_what_is_undecided_stays_short_with_many_cells():
    points = {name: (90 + 0.01 * i, 90.1 - 0.02 * i, 90.3) for i, name in enumerate("abcdefghijkl")}
    first, *rest = sentences(sweep({(level,): dict(enumerate(each)) for level, each in points.items()}))
    assert first.startswith("No choice has a significant effect")
    assert len(rest) == 1
    assert "and 7 more in the table of effects." in rest[0]


def test_equal_best_trials_of_a_search_are_named():
    results = search(trials=6)
    best = findings_of(results).table.rows
    tied = with_runs(results, lambda run: replace(run, summary={**run.summary, "metrics": {"val/acc1": 0.9}}))
    assert len(best) == 6
    assert sentences(tied)[0].endswith("0.9000; no. 2, no. 3, no. 4 and no. 6 are equal.")


def test_progress_counts_every_state():
    assert progress(unfinished()) == "12 of 24 runs done, 1 failed, 2 running, 9 waiting"
    assert [is_finished(results) for results in (unfinished(), cube())] == [False, True]
    assert progress(replace(cube(), cells=cube(seeds=(0,)).cells[:1])) == "1 of 1 run done"


def test_a_cell_that_failed_is_named():
    first, second = sweep({("plain",): {0: 21.88}, ("bad",): {0: 1}}).cells
    lost = replace(second, runs=tuple(at(run, "failed") for run in second.runs))
    two = replace(sweep({}), cells=(first, lost))
    assert sentences(two)[0] == "No two cells can be compared, as bad failed; best is plain, with 0.2188."
    known = sweep({("plain",): {0: 21, 1: 22, 2: 23}, ("other",): {0: 21, 1: 22, 2: 24}}).cells
    assert sentences(replace(two, cells=(*known, lost)))[0].endswith("; bad failed; x bad can't be compared.")
