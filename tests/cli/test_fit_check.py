"""The flags of `fit`: their help, and a check of them that rests on the settings that a run would have."""

import pytest

from shvit_pl.cli import main
from shvit_pl.command_line.parser import option_names
from shvit_pl.errors import UserError
from shvit_pl.fit.check import FitCheck
from shvit_pl.fit.command import help_parser


@pytest.fixture(scope="module")
def check():
    return FitCheck()


def test_it_is_of_fit_after_another_command_of_the_same_process():
    assert main(["validate", "--unknown=1"]) == 2
    assert FitCheck().settings(["--model.design.name=tiny"])["model.design.name"] == "tiny"


@pytest.mark.parametrize(
    ("changes", "side"),
    [
        (["--model.design.name=tiny"], 128),
        (["--model.design.name=s4"], 256),
        (["--model.design.name=s1"], 224),
        (["--model.design.name=s1", "--model.design.stages=5"], 256),  # 224 pixels are below the fifth stage's stride
        (["--model.design.name=s1", "--model.design.stages=5", "--model.design.patch_size=8"], 224),
    ],
)
def test_an_image_size_of_auto_is_that_of_the_design_with_all_its_changes(changes, side, check):
    assert check.settings([*changes, "--data.image_size=auto"])["data.image_size"] == side


def test_switches_of_fit_need_no_value_and_take_a_hyphen(check):
    check.settings(["--allow-changes", "--plain", "--run-name", "a"])
    options = check.options
    assert (options.allow_changes, options.plain, options.run_name) == (True, True, "a")


@pytest.mark.parametrize("push", [["--push_to=user/name"], ["--push_public"]])
def test_runs_of_a_sweep_are_not_pushed_one_by_one(push, check):
    with pytest.raises(UserError, match="push"):
        check.settings(push)


def test_mistakes_of_all_sections_are_listed_at_once(check):
    flags = ["--trainer.max_epochs=0", "--trainer.precision=16-true", "--run_name=..", "--data.batch_size=1"]
    flags += ["--model.ema.decay=2", "--model.mix.prob=2", "--data.repeats=0"]
    with pytest.raises(UserError) as refused:
        check.settings(flags)
    named = [line.split()[0] for line in str(refused.value).splitlines()]
    model = ["model.mix.prob", "model.ema.decay"]
    assert named == ["trainer.max_epochs", "trainer.precision", "run_name", *model, "data.batch_size", "data.repeats"]


def test_the_help_lists_the_flags_that_there_are(check):
    """The help is made without Lightning, and so could miss what its parser has."""
    listed, there = option_names(help_parser("fit")), check.flags()
    extra = {name for name in listed ^ there if not name.endswith((".help", "+"))}  # of classes, and of lists
    assert extra <= {"trainer", "print_config", "print_shtab"}
    assert len(listed) > 100
