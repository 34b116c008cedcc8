"""The command line of `sweep`: its own flags, the configs, what is left for `fit`, and the extra that it needs."""

import subprocess
import sys

import pytest

from shvit_pl.errors import UserError
from shvit_pl.sweep.options import SweepOptions, read_sweep_options, slurm_minutes
from tests.sweep.engine.launch import ROOT

WITHOUT = "import sys; sys.modules |= dict.fromkeys({}); from shvit_pl.cli import main; sys.exit(main(sys.argv[1:]))"


def test_what_is_not_the_sweeps_own_is_left_for_fit_in_its_order():
    args = ["--config", "my.yaml", "--data.batch_size", "8", "--workers", "2", "--model.optim.lr=0.1", "-c=s2.yaml"]
    options, of_fit, _ = read_sweep_options([*args, "--trainer.max_epochs", "-1", "--config=s3.yaml"])
    assert options == SweepOptions(["my.yaml", "s2.yaml", "s3.yaml"], workers=2)
    assert of_fit == ["--data.batch_size", "8", "--model.optim.lr=0.1", "--trainer.max_epochs", "-1"]


@pytest.mark.parametrize(
    ("args", "options"),
    [
        ([], SweepOptions()),
        (["--dry_run", "--plain", "true", "--speed=false"], SweepOptions(dry_run=True, plain=True, speed=False)),
        (["--gpus-per-run", "0.5", "--gpus=0,2"], SweepOptions(gpus_per_run=0.5, gpus="0,2")),
        (["--folder", "a b", "--engine=ray"], SweepOptions(folder="a b", engine="ray")),
        (
            ["--engine=slurm", "--time", "1-0", "--sbatch=account=vision", "--sbatch", "exclusive"],
            SweepOptions(engine="slurm", time="1-0", sbatch=["account=vision", "exclusive"]),
        ),
        (["--timeout", "0.5", "--retries=0"], SweepOptions(timeout=0.5, retries=0)),
    ],
    ids=str,
)
def test_an_option_may_be_written_in_any_usual_way(args, options):
    assert read_sweep_options(args) == (options, [], [])


@pytest.mark.parametrize(
    ("text", "minutes"),
    [("90", 90), ("90:01", 91), ("2:30:00", 150), ("1-2", 1560), ("1-2:30", 1590), ("1-02:30:30", 1591)],
)
def test_a_time_is_read_as_slurm_writes_it(text, minutes):
    assert slurm_minutes(text) == minutes


@pytest.mark.parametrize(
    ("args", "part"),
    [
        (["--workers", "0"], "--workers 0: allowed are whole numbers from 1"),
        (["--cpus_per_run=0"], "--cpus_per_run 0: allowed are whole numbers from 1"),
        (["--gpus_per_run=0"], "--gpus_per_run 0: allowed are numbers above 0"),
        (["--gpus_per_run=1.5"], "--gpus_per_run 1.5: allowed are whole numbers, and fractions below 1"),
        (["--nodes_per_run=2"], "--nodes_per_run 2: --engine local runs on this computer only; give --engine ray"),
        (["--engine=kubernetes"], "--engine kubernetes: allowed are local, ray, slurm"),
        (["--engine=ray", "--gpus=0"], "--gpus 0: --engine ray hands out GPUs itself"),
        (["--partition=gpus"], "--partition gpus: only for --engine slurm; give that, or leave it out"),
        (["--engine=ray", "--time=90"], "--time 90: only for --engine slurm"),
        (["--sbatch=account=vision"], "--sbatch account=vision: only for --engine slurm"),
        (["--engine=slurm", "--address=auto"], "--address auto: only for --engine ray"),
        (["--engine=slurm", "--gpus_per_run=0.5"], "--gpus_per_run 0.5: SLURM gives whole GPUs; give a whole number"),
        (["--engine=slurm", "--time=1h"], "--time 1h: allowed are minutes above 0, HOURS:MM:SS and DAYS-HOURS"),
        (["--engine=slurm", "--time=0"], "--time 0: allowed are minutes above 0"),
        (["--engine=slurm", "--sbatch=cpus_per_task=4"], "--sbatch cpus_per_task=4: give --cpus_per_run instead"),
        (["--engine=slurm", "--sbatch=output=log"], "--sbatch output=log: the sweep sets it itself"),
        (["--engine=slurm", "--sbatch=--mem=4G"], "--sbatch --mem=4G: allowed is NAME=VALUE, such as account=vision"),
        (["--retries=-1"], "--retries -1: allowed are whole numbers from 0"),
        (["--timeout=0"], "--timeout 0: allowed are numbers above 0"),
        (["--folder="], "--folder ''"),
        (["--run_name", "", "--folder", ""], "--folder ''"),  # where a flag of fit has the same value
        (["--gpus="], "--gpus '': allowed are different numbers"),
        (["--gpus=0,,1"], "--gpus '0,,1'"),
        (["--gpus=0,0"], "--gpus '0,0': allowed are different numbers, such as 0,1,2"),
        (["--folder", "--dry-run"], "--folder: expected one argument"),
        (["--config", "--dry-run"], "--config: expected one argument"),
        (["-c"], "--config: expected one argument"),
        (["--plain", "maybe"], "--plain maybe: allowed is true or false"),
    ],
    ids=str,
)
def test_an_impossible_missing_or_wrong_value_is_refused(args, part):
    (mistake,) = read_sweep_options(args)[2]
    assert part in mistake


def test_all_impossible_values_are_listed_and_what_is_left_can_be_checked():
    args = ["--workers=0", "--config", "my.yaml", "--retries=-1", "--data.batch_size", "8"]
    options, of_fit, mistakes = read_sweep_options(args)
    assert (options, of_fit, len(mistakes)) == (SweepOptions(["my.yaml"]), ["--data.batch_size", "8"], 2)
    with pytest.raises(UserError, match=r"--folder '': .*\n--gpus 'x': "):
        SweepOptions(folder="", gpus="x")


@pytest.mark.parametrize(
    ("packages", "args"),
    [
        (["scipy"], ["sweep", "--config=my.yaml"]),
        (["optuna", "scipy"], ["report", "--folder=."]),
        (["optuna"], ["sweep", "--help"]),
    ],
    ids=str,
)
def test_without_the_extra_a_command_names_what_to_install_and_the_help_is_there(packages, args, tmp_path):
    command = [sys.executable, "-c", WITHOUT.format(packages), *args]
    done = subprocess.run(command, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)})
    if "--help" in args:
        assert done.returncode == 0
        for flag in ("--folder", "--engine", "--workers", "--gpus_per_run", "--retries", "--address", "--dry_run"):
            assert flag in done.stdout
    else:
        assert done.returncode == 2
        message = f"{args[0]} needs {', '.join(packages)}, of an extra: pip install 'shvit-pl[sweep]'."
        assert done.stderr == f"shvit-pl {args[0]}: error: {message}\n"
        assert not any(tmp_path.iterdir())
