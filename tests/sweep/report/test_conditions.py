from shvit_pl.sweep.report.findings import findings_of
from tests.sweep.report.sweeps import cube, nothing_done, with_speed, with_summaries


def told(results, **values):
    """The conditions of a sweep with these values in every summary."""
    return findings_of(with_summaries(results, **values)).conditions


def test_a_whole_training_says_what_was_seen():
    whole = told(cube(), epochs_trained=10, steps_trained=220, global_batch=64)
    assert whole["training"].startswith("10 epochs, 220 steps, 14080 images seen, 1 x cpu (2 threads), batch 64")


def test_images_that_limited_batches_left_out_are_not_claimed():
    limited = told(cube(), epochs_trained=1, steps_trained=2, global_batch=16, device="1 x cpu (1 threads)")
    assert limited["training"] == (
        "1 epoch, 2 steps, 32 images seen, fewer than there are, 1 x cpu (1 thread), batch 16, 32-true"
    )


def test_nobody_knows_how_many_runs_shared_the_machine():
    assert "how many runs shared the machine meanwhile is not known" in told(cube())["training images/s"]


def test_a_setting_is_worded_alike_in_the_list_and_on_the_axis():
    for results, key in ((with_speed(cube()), "inference speed"), (cube(), "training")):
        found = findings_of(results)
        assert found.plane.across.conditions
        assert found.plane.across.conditions in found.conditions[key]


def test_before_a_run_ends_there_are_no_conditions():
    assert findings_of(nothing_done()).conditions == {}
