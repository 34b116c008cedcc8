from dataclasses import replace

from shvit_pl.sweep.engine.reading import Results
from shvit_pl.sweep.report.findings import findings_of
from shvit_pl.sweep.report.text import conclusions, is_finished, progress
from tests.sweep.report.sweeps import at, cube, listed, nothing_done, search, unfinished, with_runs, with_speed

TWO = {"val/acc1": "max", "images_per_second": "max"}


def sentences(results):
    return conclusions(findings_of(results))


def test_a_paragraph_has_what_a_choice_brings_and_then_what_it_costs():
    first = sentences(with_speed(cube(effects={"patch_size": -0.02}, noise=0.0005)))[0]
    gain, costs, reaches, *_ = first.split(". ")
    assert gain.startswith("patch_size 16 instead of 4: top-1 -2.0")
    assert "95 % interval -2." in gain
    assert gain.endswith("over 3 seeds, p < 0.001)")
    assert costs.startswith("It needs 12.0 times the parameters")
    assert reaches.startswith("It reaches")
    assert "3.0 times the eager inference images/s" in reaches
    assert "not significant" not in first


def test_a_cost_whose_interval_holds_one_is_not_significant():
    second = sentences(with_speed(cube()))[1]  # stages leave speed as it is, and memory to the megabyte
    noisy = second.partition("Not significant: ")[2]
    assert "times the training images/s (95 % interval 0." in noisy
    assert "It has the same MACs and peak memory." in second


def test_a_speed_whose_quartiles_overlap_is_not_significant():
    results = with_speed(cube())
    assert "3.0 times the eager inference images/s (quartiles 2.9 to 3.2)" in sentences(results)[0]
    for rates in results.speed["cells"].values():
        rates["eager_iqr"] = [0.5 * rates["eager"], 2 * rates["eager"]]
    noisy = sentences(results)[0].partition("Not significant: ")[2]
    assert noisy == "3.0 times the eager inference images/s (quartiles 0.8 to 12.1)."


def test_one_seed_is_no_ground_for_a_claim():
    results = with_speed(cube(seeds=(0,), effects={"patch_size": -0.3}))
    for rates in results.speed["cells"].values():
        del rates["eager_iqr"]
    found = sentences(results)
    unknown = found[0].partition("Noise unknown: ")[2]
    assert "2.0 times the training images/s (one seed)" in unknown
    assert "3.0 times the eager inference images/s (without quartiles)" in unknown
    assert "parameters" not in unknown
    assert all("one seed, so no interval" in one for one in found)
    assert not any("interaction" in one for one in found)


def test_without_an_effect_the_sentence_bounds_what_can_be_ruled_out():
    first, *_, last = sentences(cube(effects={}, noise=0.01))
    assert "not significant; an effect of up to" in first
    assert "points can't be ruled out" in first
    assert last.startswith("No interaction is significant in top-1; an effect of up to")


def test_an_interval_without_zero_is_no_claim_before_all_comparisons_are_counted():
    found = (sentences(cube(effects={"stage1": 0.002}, noise=0.002, draw=draw))[2] for draw in range(30))
    assert "after correction for 6 comparisons" in next(one for one in found if "comparisons: not significant" in one)


def test_an_interaction_names_both_choices():
    found = sentences(cube(effects={}, noise=0.0003, interaction=0.02))
    (one,) = [sentence for sentence in found if "depends on" in sentence]
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


def test_a_search_for_two_objectives_names_its_front_and_counts_what_cannot_be_compared():
    results = search(objectives=TWO)
    assert "on the Pareto front of top-1 and training images/s: from no. " in sentences(results)[0]
    results.cells[0].runs[0].summary["images_per_second"] = None
    found = sentences(results)
    assert found[0].startswith("Of 15 trials,")
    assert found[1].startswith("Compared: 15 of 16 cells with a finished run")


def test_a_list_goes_by_the_names_of_its_rows():
    assert sentences(listed())[0].startswith("Mixup instead of base: top-1 -1.")
    sizes = zip(listed().cells, ("small", "middle", "large"), strict=True)
    cells = [replace(cell, name=name, choices={"model.design.name": f"a_{name}"}) for cell, name in sizes]
    found = sentences(replace(listed(), cells=tuple(cells)))
    assert [one.partition(":")[0] for one in found] == ["middle instead of small", "large instead of small"]


def test_failed_and_missing_runs_are_named_and_without_a_comparison_there_is_a_reason():
    failed = with_runs(cube(), lambda run: at(run, "failed"))
    half = replace(cube(), cells=(*cube().cells[:4], *failed.cells[4:]))
    assert sentences(failed) == ["No run succeeded."]
    assert sentences(half)[0] == "patch_size 16 instead of 4: top-1 unknown (every pair has a failed run)."
    assert "from 5 of 12 pairs" in sentences(unfinished())[1]
    for empty in (nothing_done(), Results("none", "grid", {}, ())):
        assert sentences(empty) == ["No run has finished yet."]
    single = replace(cube(), cells=cube().cells[:1])
    assert sentences(single) == ["There is nothing to compare: no two cells differ."]


def test_progress_counts_every_state():
    assert progress(unfinished()) == "12 of 24 runs done, 1 failed, 2 running, 9 waiting"
    assert [is_finished(results) for results in (unfinished(), cube())] == [False, True]
    assert progress(replace(cube(), cells=cube(seeds=(0,)).cells[:1])) == "1 of 1 run done"
