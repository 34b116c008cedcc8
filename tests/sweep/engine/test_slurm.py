"""SLURM: a real one of two nodes where it is installed; without, runs that submitit starts here."""

import os
import subprocess
from pathlib import Path

import pytest
import submitit

from shvit_pl.errors import UserError
from shvit_pl.sweep.engine import slurm_engine
from shvit_pl.sweep.engine.engines import Ended, Job
from shvit_pl.sweep.engine.slurm_engine import SlurmEngine
from shvit_pl.sweep.engine.study import ERROR, KEY, PLACED, is_fault
from shvit_pl.sweep.options import SweepOptions
from tests.sweep.engine.launch import RUN, assert_done_once, kill, processes_of, running
from tests.sweep.engine.slurm_cluster import WithoutSlurm

LOSS = "RuntimeError: the loss is not finite"
KILLED = "killed by SIGKILL; about to get into trouble"


def test_without_slurm_the_engine_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="--engine slurm: no sbatch here; run it where SLURM is, or give another"):
        SlurmEngine(SweepOptions(engine="slurm"), tmp_path / "numbers")


def test_a_slurm_that_does_not_answer_is_refused_with_what_it_says(tmp_path, monkeypatch):
    for name in ("sbatch", "srun", "squeue", "scancel", "sinfo"):
        (program := tmp_path / name).write_text("#!/bin/sh\necho sinfo: fatal: no configuration source >&2; exit 1\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    told = r"sinfo fails here \(sinfo: fatal: no configuration source\)\. Run it where SLURM answers, or give another"
    with pytest.raises(UserError, match=f"--engine slurm: {told} --engine"):
        SlurmEngine(SweepOptions(engine="slurm"), tmp_path / "numbers")


@pytest.fixture
def engine(tmp_path):
    """An engine without SLURM, whose answers a test makes up."""
    return WithoutSlurm(SweepOptions(engine="slurm"), tmp_path)


@pytest.mark.parametrize(
    ("state", "results", "code", "lost", "reason"),
    [
        ("COMPLETED", [Ended(0)], 0, False, ""),
        ("FAILED", [Ended(0), Ended(3)], 3, False, ""),
        ("FAILED", [], 1, False, "SLURM ended job 7_1: FAILED; see "),
        ("OUT_OF_MEMORY", [Ended(-9, "n1")], -9, False, "SLURM ended job 7_1: OUT_OF_MEMORY; see "),
        ("TIMEOUT", [], 1, False, "SLURM ended job 7_1: TIMEOUT; see "),
        ("PREEMPTED", [], 1, True, "SLURM ended job 7_1: PREEMPTED; see "),
        ("NODE_FAIL", [Ended(1), Ended(0)], 1, True, "SLURM ended job 7_1: NODE_FAIL; see "),
        ("", [], 1, False, "SLURM ended job 7_1: it is forgotten; see "),
        ("", [Ended(0)], 0, False, ""),
    ],
)
def test_only_what_is_no_fault_of_a_run_is_lost(engine, monkeypatch, state, results, code, lost, reason):
    run = submitit.SlurmJob(engine.folder, "7_1")
    monkeypatch.setattr(engine, "_state", lambda _: state)
    monkeypatch.setattr(engine, "_results", lambda _: results)
    ended = engine.ended(run)
    assert (ended.code, ended.lost, ended.reason.partition(str(engine.folder))[0]) == (code, lost, reason)


def test_a_busy_controller_is_asked_again_and_a_refusal_is_told(engine, monkeypatch):
    told = ["sbatch: error: Batch job submission failed: Socket timed out on send/recv operation"]

    def submit(tasks):
        if told:
            raise submitit.core.utils.FailedJobError(told.pop())
        return [submitit.SlurmJob(engine.folder, f"7_{number}") for number in range(len(tasks))]

    monkeypatch.setattr(engine.executor, "submit_array", submit)
    monkeypatch.setattr(slurm_engine, "_PAUSES", (0,))
    job = Job("lr-0", [], Path("log"), {})
    assert [run.job_id for run in engine.start([job, job])] == ["7_0", "7_1"]
    told = 2 * ["sbatch: error: QOSMaxSubmitJobPerUserLimit"]
    assert engine.start([job]) == []  # two go on
    assert engine.room() == 2
    engine._states.clear()
    with pytest.raises(UserError, match=r"sbatch refuses 1 runs: .*QOSMaxSubmitJobPerUserLimit"):
        engine.start([job])


@pytest.mark.slow
def test_submitit_runs_every_point_once_and_failures_are_recorded(sweep):
    sweep.engine, sweep.points, sweep.retries, sweep.seconds = "slurm-local", 4, 1, 0.3
    sweep.trouble = {"lr-1": ("raise", 1), "lr-2": ("die", 1), "lr-3": ("hang", 1)}
    sweep.timeout = 0.25
    assert sweep.run() == 0
    assert_done_once(sweep)
    found = faults(sweep)
    assert found.pop("lr-3").endswith("minutes (--timeout 0.25)")
    assert [text.partition(" (on ")[0] for _, text in sorted(found.items())] == [LOSS, KILLED]


def faults(sweep):
    """The error of each point that failed."""
    found = [trial.user_attrs for trial in sweep.study().trials() if is_fault(trial)]
    assert len({fault[KEY] for fault in found}) == len(found)
    return {fault[KEY].partition("_")[0]: fault[ERROR] for fault in found}


@pytest.fixture
def slurm(slurm, sweep):
    """A sweep that a real SLURM runs."""
    sweep.engine = "slurm"
    return sweep


def ask(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def job(sweep, number=0):
    """The job of the last trial, or another."""
    return sweep.study().trials()[number].user_attrs[PLACED]


@pytest.mark.slow
class TestReal:
    """A SLURM of two nodes with three cores each, and a partition of GPUs that are switched off."""

    def test_every_point_is_done_once_on_both_nodes(self, slurm):
        slurm.points, slurm.seconds = 7, 0.5
        assert slurm.run() == 0
        assert_done_once(slurm)
        assert len({*ask("squeue", "--noheader", "--states=CD", "--format=%N").split()}) == 2

    def test_a_killed_driver_finds_its_jobs_again(self, slurm):
        slurm.points, slurm.seconds = 8, 6  # two wait
        driver = slurm.start()
        assert running(slurm, 4)
        kill(driver.pid)
        driver.wait()
        assert len(processes_of(slurm.folder, RUN)) >= 4
        assert slurm.run() == 0
        assert_done_once(slurm)
        assert len(slurm.lines("start")) == len(slurm.study().trials()) == slurm.points

    def test_a_job_that_a_killed_driver_could_not_record_is_cancelled(self, slurm):
        (folder := Path(slurm.folder)).mkdir()
        job = Job("lr-0", ["sleep", "600"], folder / "log", {})
        (lost,) = SlurmEngine(SweepOptions(engine="slurm"), folder).start([job])
        engine = SlurmEngine(SweepOptions(engine="slurm"), folder)
        (own,) = engine.start([job])
        assert (engine._state(lost), engine._state(own)) == ("CANCELLED", "PENDING")
        engine.stop([own])
        assert engine._state(own) == "CANCELLED"

    def test_a_requeued_job_goes_on_from_its_checkpoint(self, slurm):
        slurm.points, slurm.seconds, slurm.retries = 1, 8, 0
        driver = slurm.start()
        assert running(slurm, 1)
        ask("scontrol", "requeue", job(slurm))
        assert driver.wait(90) == 0
        assert_done_once(slurm)
        assert "resuming from" in slurm.log(0)
        assert len(slurm.study().trials()) == 1

    @pytest.mark.full
    def test_a_job_at_its_time_limit_is_requeued(self, slurm):
        slurm.points, slurm.seconds, slurm.retries, slurm.time = 1, 60, 0, "1"
        assert slurm.run() == 0
        assert_done_once(slurm)
        assert "resuming from" in slurm.log(0)

    def test_a_cancelled_job_counts_as_failed(self, slurm):
        slurm.points, slurm.seconds, slurm.retries = 1, 60, 0
        driver = slurm.start()
        assert running(slurm, 1)
        name = job(slurm)
        ask("scancel", name)
        assert driver.wait(60) == 1
        assert faults(slurm)["lr-0"].startswith(f"SLURM ended job {name}: CANCELLED; see {slurm.folder}/slurm/{name}_0")
        assert not processes_of(slurm.folder)

    def test_a_run_has_two_nodes_and_ends_on_both(self, slurm):
        slurm.points, slurm.seconds, slurm.nodes, slurm.retries = 2, 1, 2, 1
        slurm.trouble = {"lr-1": ("raise", 1)}
        assert slurm.run() == 0
        assert_done_once(slurm)
        assert faults(slurm)["lr-1"].startswith(LOSS)
        (first,), (other,) = ([line["environment"] for line in slurm.lines(event) if line["key"] == "lr-0_seed-0"]
                              for event in ("start", "joined"))  # fmt: skip
        assert (first["NODE_RANK"], other["NODE_RANK"]) == ("0", "1")
        assert first["MASTER_ADDR"] == other["MASTER_ADDR"]

    @pytest.mark.parametrize(
        ("demand", "message"),
        [
            ({"partition": "night"}, "--partition night: SLURM has both, gpus."),
            ({"nodes_per_run": 3}, "a run needs 3 nodes with 1 CPUs and 0 GPUs"),
            ({"cpus_per_run": 9}, "there are partition both: 3 CPUs and 0 GPUs a node, 2 of them. Ask for less"),
            ({"gpus_per_run": 5.0, "partition": "gpus"}, "there are partition gpus: 8 CPUs and 4 GPUs a node, 1 of"),
            ({"time": "2-01"}, "--time 2-01: the partition allows at most 2880 minutes"),
            ({"sbatch": ["constraint=a100"]}, "sbatch refuses the runs: .*Invalid feature specification"),
            ({"sbatch": ["nonsense"]}, "sbatch refuses the runs: .*unrecognized option '--nonsense'"),
        ],
        ids=str,
    )
    def test_what_slurm_can_not_give_is_refused(self, slurm, demand, message):
        with pytest.raises(UserError, match=message):
            SlurmEngine(SweepOptions(engine="slurm", **demand), Path(slurm.folder))
        assert not Path(slurm.folder).exists()

    def test_a_run_gets_a_gpu_and_its_share_of_the_cores_and_as_much_time_as_there_is(self, slurm):
        options = SweepOptions(
            engine="slurm", partition="gpus", sbatch=["account=vision", "exclusive", "job-name=macro", "no-requeue"]
        )
        script = SlurmEngine(options, Path(slurm.folder)).executor._make_submission_file_text("true", "")
        asked = [
            "gpus-per-node=1",
            "cpus-per-task=2",
            "time=60",
            "account=vision",
            "exclusive",
            "job-name=macro",
            "no-requeue",
        ]
        assert [line for line in asked if f"#SBATCH --{line}\n" not in script] == []
        assert "--requeue" not in script
