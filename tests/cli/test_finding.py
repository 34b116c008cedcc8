"""A learning rate range test and a search of the batch size: what they find, and that they keep nothing."""

import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from shvit_pl.cli import main
from shvit_pl.fit.finding import RangeTest, Size, choose, smoothed, steepest
from tests.cli.runs import QUICK, SCENES, fit

SMALL = [flag for flag in QUICK if "batch_size" not in flag] + ["--threads=1"]


def test_a_smoothed_loss_is_the_weighted_mean_of_those_before():
    # weights 0.8 for the past: (0.8 * 0.2 * 1 + 0.2 * 2) / (1 - 0.8**2), and so on
    assert smoothed([1.0, 2.0, 4.0]) == pytest.approx([1.0, 0.56 / 0.36, (0.8 * 0.56 + 0.8) / 0.488])


def test_the_steepest_fall_is_by_the_logarithm_of_the_rate_and_before_the_least_loss():
    rates = [10.0**step for step in range(12)]
    curve = [9.0, 9.0, 9.0, 9.0, 9.0, 9.0, 8.5, 7.0, 4.0, 3.5, 3.6, 1000.0]
    assert steepest(rates, curve) == 7  # from 8.5 to 4.0 over two decades
    assert steepest(rates, [1.0] * 12) is None
    assert steepest(rates[:4], curve[:4]) is None
    assert steepest([*rates, 1e12], [*curve[:11], 3.0, -500.0]) == 11  # the least may be the last but one


def test_the_smallest_size_that_is_about_as_fast_as_the_fastest_is_chosen():
    sizes = [Size(8, 100.0, None), Size(16, 182.0, None), Size(32, 200.0, None), Size(64, 195.0, None)]
    assert choose(sizes).batch == 16  # 182 * 1.1 = 200.2


@pytest.mark.slow
@pytest.mark.parametrize("what", ["lr", "batch_size"])
def test_what_is_found_is_printed_and_drawn_and_nothing_else_is_left(what, tmp_path, capsys):
    few = ["--data.train_fraction=0.05"] if what == "batch_size" else ["--data.batch_size=16"]
    assert main(["fit", *SMALL, f"--find={what}", *few]) == 0
    printed = capsys.readouterr().out
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [f"find_{what}.png"]
    assert f"drawn in find_{what}.png; no weights and no settings are kept" in printed
    if what == "batch_size":
        assert "--data.batch_size " in printed
        assert int(printed.partition("--data.batch_size ")[2].split(":")[0]) in (8, 16, 32, 64)  # of 72 images
        return
    found = float(printed.partition("--model.optim.lr ")[2].split()[0])
    assert 1e-4 < found < 1
    assert main(["fit", *SMALL, "--find=lr", *few, "--output=again.png"]) == 0
    assert f"--model.optim.lr {printed.partition('--model.optim.lr ')[2].split()[0]} " in capsys.readouterr().out
    assert Path("again.png").read_bytes() == Path("find_lr.png").read_bytes()


@pytest.mark.slow
def test_a_detector_and_a_student_are_tried_too(capsys, short_run):
    assert main(["fit", *SCENES, "--find=lr", "--threads=1"]) == 0
    assert fit("--find=lr", "--threads=1", f"--model.distill.teacher={short_run}") == 0
    assert capsys.readouterr().out.count("drawn in find_lr.png") == 2


def test_the_rates_of_the_test_are_those_of_the_optimizer():
    optimizer = torch.optim.SGD([{"params": [torch.zeros(1)], "lr": 0.2, "initial_lr": 0.2}], lr=0.2)
    optimizer.add_param_group({"params": [torch.zeros(1)], "lr": 0.1, "initial_lr": 0.1})  # as with layer decay
    trainer = SimpleNamespace(optimizers=[optimizer], global_step=0)
    module = SimpleNamespace(schedule=SimpleNamespace(peak=0.2))
    test, rates = RangeTest(), []
    for step in (0, 33, 66, 99):
        trainer.global_step = step
        test.on_train_batch_start(trainer, module, None, 0)
        rates.append([group["lr"] for group in optimizer.param_groups])
    assert [rate[0] for rate in rates] == pytest.approx([1e-6, 1e-4, 1e-2, 1.0])
    assert all(math.isclose(last, first / 2) for first, last in rates)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--find=rate"], "find"),
        (["--find=lr", "--push_to=a/b"], "find lr: it begins a run and keeps nothing of it, so push_to has no use"),
        (["--find=lr", "--ckpt_path=a.ckpt"], "find lr: it begins a run and keeps nothing of it, so ckpt_path has no"),
        (["--find=lr", "--patience=3"], "find lr: it begins a run and keeps nothing of it, so patience has no use"),
        (["--find=lr", "--trainer.num_nodes=2"], "find lr: it uses one device, and trainer.num_nodes is 2; leave out"),
        (["--find=batch_size"], "find batch_size: data.batch_size 16 is what it looks for"),
    ],
)
def test_what_can_not_be_found_is_refused(flags, words, tmp_path, capsys):
    given = ["--data.batch_size=16"] if "batch_size" in flags[0] else []
    assert main(["fit", "--model.design.name=tiny", *flags, *given]) == 2
    assert words in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.iterdir())


def test_other_commands_find_nothing(capsys):
    for command in ("validate", "predict", "cache-teacher"):
        assert main([command, "--ckpt_path=a.ckpt", "--find=lr"]) == 2
        assert "find lr: for fit alone; leave it out." in capsys.readouterr().err
