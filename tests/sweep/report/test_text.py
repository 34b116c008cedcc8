from dataclasses import replace

from shvit_pl.sweep.report.findings import findings_of
from shvit_pl.sweep.report.text import answer, is_finished, progress
from shvit_pl.sweep.results import Results
from tests.sweep.report.sweeps import at, cube, listed, nothing_done, search, unfinished, with_speed


def test_a_sentence_says_what_a_choice_brings_and_what_it_costs():
    first = answer(findings_of(with_speed(cube(effects={"patch_size": -0.02}, noise=0.0005))))[0]
    assert first.startswith("patch_size 16 instead of 4: top-1 -2.0")
    assert "95 % interval -2." in first
    assert "over 3 seeds, p < 0.001)" in first
    assert "12.0 times the parameters" in first
    assert "3.0 times the eager inference images/s" in first
    assert "not significant" not in first


def test_costs_have_sentences_of_their_own():
    first, *_ = answer(findings_of(with_speed(cube())))
    gain, costs, reaches, *_ = first.split(". ")
    assert "top-1" in gain
    assert "times" not in gain
    assert costs.startswith("It costs 12.0 times the parameters")
    assert reaches.startswith("It reaches")


def test_a_cost_whose_interval_holds_one_is_not_beyond_the_noise():
    second = answer(findings_of(with_speed(cube())))[1]  # stages leave speed as it is, and memory to the megabyte
    noisy = second.partition("Not significant: ")[2]
    assert "times the training images/s (95 % interval 0." in noisy
    assert "It has the same MACs and peak memory." in second


def test_a_speed_whose_quartiles_overlap_is_not_beyond_the_noise():
    results = with_speed(cube())
    assert "3.0 times the eager inference images/s (quartiles 2.9 to 3.2)" in answer(findings_of(results))[0]
    for rates in results.speed["cells"].values():
        rates["eager_iqr"] = [0.5 * rates["eager"], 2 * rates["eager"]]
    _, _, noisy = answer(findings_of(results))[0].partition("Not significant: ")
    assert noisy == "3.0 times the eager inference images/s (quartiles 0.8 to 12.1)."


def test_the_cost_of_one_seed_or_without_quartiles_has_noise_that_is_not_known():
    results = with_speed(cube(seeds=(0,)))
    for rates in results.speed["cells"].values():
        del rates["eager_iqr"]
    _, _, unknown = answer(findings_of(results))[0].partition("With unknown noise: ")
    assert "2.0 times the training images/s (one seed)" in unknown
    assert "3.0 times the eager inference images/s (without quartiles)" in unknown
    assert "parameters" not in unknown


def test_where_nothing_shows_the_sentence_says_what_could_hide():
    first, *_, last = answer(findings_of(cube(effects={}, noise=0.01)))
    assert "not significant; up to" in first
    assert "points can't be ruled out" in first
    assert last.startswith("No interaction is significant in top-1; up to")


def test_an_interval_without_zero_is_no_claim_before_all_comparisons_are_counted():
    found = [answer(findings_of(cube(effects={"stage1": 0.002}, noise=0.002, draw=draw)))[2] for draw in range(30)]
    some = [one for one in found if "comparisons: not significant" in one]
    assert some
    assert all("as one of 6" in one for one in some)


def test_one_seed_is_no_ground_for_a_claim():
    found = answer(findings_of(cube(seeds=(0,), effects={"patch_size": -0.3})))
    assert all("one seed, so no interval" in one for one in found)
    assert not any("interaction" in one for one in found)


def test_an_interaction_says_what_depends_on_what():
    found = answer(findings_of(cube(effects={}, noise=0.0003, interaction=0.02)))
    (one,) = [sentence for sentence in found if "depends on" in sentence]
    assert one.startswith("The gain of patch_size 16 instead of 4 depends on stages: top-1 ")
    assert "top-1 +0.00 points with stages 3, +1.99 with stages 4" in one
    assert "(difference +1.99, 95 % interval" in one


def test_missing_pairs_are_counted():
    assert "from 5 of 12 pairs" in answer(findings_of(unfinished()))[1]


def test_a_search_names_its_best_trials_and_claims_no_effect():
    found = answer(findings_of(search()))
    assert found[0].startswith("Best of 16 trials in top-1: no. ")
    assert "repeat it with other seeds" in found[-1]
    assert not any("instead of" in one for one in found)


def test_a_search_for_two_objectives_names_its_front():
    found = answer(findings_of(search(objectives={"val/acc1": "max", "images_per_second": "max"})))
    assert "not beaten in top-1 and training images/s at once: from no. " in found[0]


def test_trials_that_cannot_be_compared_in_both_objectives_are_counted():
    results = search(objectives={"val/acc1": "max", "images_per_second": "max"})
    results.cells[0].runs[0].summary["images_per_second"] = None
    found = answer(findings_of(results))
    assert found[0].startswith("Of 15 trials,")
    assert found[1].startswith("Compared are 15 of 16 cells with a run that is done")


def test_a_list_says_what_each_row_changes():
    assert answer(findings_of(listed()))[0].startswith("Mixup instead of base: top-1 -1.")


def test_a_list_with_one_choice_goes_by_the_names_of_its_rows():
    cells = tuple(
        replace(cell, name=name, choices={"model.design.name": size})
        for cell, name, size in zip(listed().cells, ("small", "middle", "large"), ("s1", "s2", "s3"), strict=True)
    )
    found = answer(findings_of(replace(listed(), cells=cells)))
    assert [one.partition(":")[0] for one in found] == ["middle instead of small", "large instead of small"]


def all_failed(cells):
    return tuple(replace(cell, runs=tuple(at(run, "failed") for run in cell.runs)) for cell in cells)


def test_once_all_has_failed_nothing_is_expected_any_more():
    cells = cube().cells
    assert answer(findings_of(replace(cube(), cells=all_failed(cells)))) == ["No run succeeded."]
    first, *_ = answer(findings_of(replace(cube(), cells=(*cells[:4], *all_failed(cells[4:])))))
    assert first == "patch_size 16 instead of 4: top-1 unknown (every pair has a failed run)."


def test_one_is_not_counted_as_many():
    cell = cube(seeds=(0,)).cells[0]
    assert progress(replace(cube(), cells=(cell,))) == "1 of 1 run done"
    assert answer(findings_of(search(trials=1)))[0].startswith("Best of 1 trial in")


def test_progress_counts_every_state():
    assert progress(unfinished()) == "12 of 24 runs done, 1 failed, 2 running, 9 waiting"
    assert not is_finished(unfinished())
    assert is_finished(cube())


def test_without_a_finished_run_it_says_so():
    assert answer(findings_of(nothing_done())) == ["No run has finished yet."]
    assert answer(findings_of(Results("none", "grid", {}, ()))) == ["No run has finished yet."]


def test_a_single_cell_has_nothing_to_be_compared_with():
    single = replace(cube(), cells=cube().cells[:1])
    assert answer(findings_of(single)) == ["There is nothing to compare: no two cells differ."]
