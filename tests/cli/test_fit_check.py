"""The flags of `fit`: their help, and a check of them that rests on the settings that a run would have."""

import pytest

from shvit_pl.cli import main
from shvit_pl.command_line.parser import option_names
from shvit_pl.designs import config
from shvit_pl.designs.cube import macro_cell
from shvit_pl.errors import UserError
from shvit_pl.fit.check import FitCheck
from shvit_pl.fit.command import help_parser
from shvit_pl.fit.options import FitOptions
from shvit_pl.fit.tasks import TASKS


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
    options = check.cli.options
    assert (options.allow_changes, options.plain, options.run_name) == (True, True, "a")


@pytest.mark.parametrize("push", [["--push_to=user/name"], ["--push_public"]])
def test_runs_of_a_sweep_are_not_pushed_one_by_one(push, check):
    with pytest.raises(UserError, match="push"):
        check.settings(push)


OUT_OF_RANGE = {
    "model.optim.lr 0": "numbers above 0",
    "model.optim.min_lr .nan": "a number",
    "model.optim.agc -1.0": "from 0",
    "model.optim.layer_decay 2.0": "above 0 and at most 1",
    "model.optim.warmup_lr inf": "from 0",
    "model.mix.prob 2.0": "from 0 to 1",
    "model.ema.decay 1.0": "below 1",
    "model.label_smoothing 1.5": "below 1",
    "data.batch_size 1": "from 2",
    "data.steps_per_epoch None": "a whole number",
    "seed_everything -1": "from 0",
    "trainer.max_epochs 0": "from 1, or -1 together with max_steps",
    "trainer.max_steps 0": "from 1",
    "trainer.limit_train_batches 0": "from 1",
    "trainer.val_check_interval 0": "from 1",
    "trainer.max_time 5": "DD:HH:MM:SS",
    "trainer.precision 16-true": "16-mixed",
    "trainer.overfit_batches 2": "--data.train_fraction",
    "trainer.strategy dpp": "there are auto, ddp",
    "trainer.profiler foo": "there are simple, advanced",
    "trainer.devices 99999": "allowed are 1 to",
    "run_name '..'": "a folder's name",
    "push_public True": "--push_to user/name",
    "model.optim.options {'weight_decay': 1}": "--model.optim.weight_decay",
    "model.optim.name 'adamww'": "did you mean 'adamw'",
    "model.design.patch_size 5": "4, 8, 16",
    "model.design.stages 0": "from 1",
}


def test_mistakes_of_all_sections_are_listed_at_once(check):
    flags = ["--" + shown.replace(" ", "=", 1).replace("'", '"') for shown in OUT_OF_RANGE]
    flags = [flag.replace('=".."', "=..").replace('"adamww"', "adamww") for flag in flags]
    with pytest.raises(UserError) as refused:
        check.settings([*flags, "--trainer.accelerator=cpu"])
    for line, (shown, allowed) in zip(str(refused.value).splitlines(), OUT_OF_RANGE.items(), strict=True):
        assert line.startswith(f"{shown}: ")
        assert allowed in line


def test_settings_are_compared_with_each_other_even_if_a_third_is_impossible(check):
    with pytest.raises(UserError) as refused:
        check.settings(["--model.optim.lr=0", "--data.batch_size=33", "--model.mix.mixup=0.8", "--data.image_size=8"])
    lines = [line.split(":")[0] for line in str(refused.value).splitlines()]
    assert lines == ["model.optim.lr 0", "data.batch_size 33", "data.image_size 8"]


def test_the_design_is_resolved_once_from_the_flags_to_the_network(check, monkeypatch):
    resolved = []
    monkeypatch.setattr(config, "macro_cell", lambda *args: resolved.append(macro_cell(*args)) or resolved[-1])
    check.open(["--model.design.name=tiny", "--model.design.depth=[1,1,1]", "--data.image_size=auto"])
    assert [design.depth for design in resolved] == [(1, 1, 1)]
    check.cli.model.configure_model()
    assert check.cli.model.model.design is check.cli.model_config.design.resolved


def test_a_wrong_type_is_listed_with_impossible_values_but_not_with_what_follows_from_it(check):
    with pytest.raises(UserError) as refused:
        check.settings(["--model.ema.decay=high", "--monitor=val/acc1_ema", "--data.batch_size=1", "--run_nme=a"])
    lines = [line.split(":")[0] for line in str(refused.value).splitlines()]
    assert lines == ["model.ema.decay high", "data.batch_size 1", "--run_nme"]


@pytest.mark.parametrize("name", ["", "../elsewhere", 300 * "x", "a\0b"])
def test_a_run_name_is_the_name_of_a_folder(name):
    with pytest.raises(UserError, match=r"run_name '.*folder's name, up to 200 characters"):
        FitOptions(run_name=name)


def test_the_help_lists_the_flags_that_there_are(check):
    """The help is made without Lightning, and so could miss what its parser has."""
    listed, there = option_names(help_parser("fit", TASKS["classification"])), check.flags()
    extra = {name for name in listed ^ there if not name.endswith((".help", "+"))}  # of classes, and of lists
    assert extra <= {"trainer", "print_config", "print_shtab"}
    assert len(listed) > 100


@pytest.mark.parametrize("output", ["results", "", "..", "nowhere/a.csv"])
def test_an_output_that_can_be_no_file_is_refused_and_a_folder_beside_disturbs_none(output, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").mkdir()
    with pytest.raises(UserError, match=f"output {output!r}: allowed is a file's name, such as results.csv"):
        FitOptions(output=output)
    assert FitOptions().output is None
    assert FitOptions(output="results.csv").output == "results.csv"
