"""Workers get their share of the machine; those that can't start end the sweep, those that are killed do not."""

from time import monotonic, sleep

import pytest

from shvit_pl.cores import cores_of_process
from shvit_pl.errors import UserError
from shvit_pl.sweep.engine.pool import Pool, slots_for
from shvit_pl.sweep.engine.worker import WorkerSpec
from tests.sweep.engine.launch import STUDY
from tests.sweep.engine.processes import WORKER, kill, processes_of, wait_until


def test_gpus_go_round_and_cores_are_shared(sweep, monkeypatch):
    sweep.points, sweep.workers, sweep.gpus = 4, 2, ["0", "1"]
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert sweep.start(SLURM_PROCID="3", SLURM_NTASKS="4").wait(60) == 0
    seen = [line["environment"] for line in sweep.lines("start")]
    assert {each["CUDA_VISIBLE_DEVICES"] for each in seen} == {"0", "1"}
    assert {each["OMP_NUM_THREADS"] for each in seen} == {str(max(1, cores_of_process() // 2))}
    assert not any(name.startswith("SLURM") for each in seen for name in each)


def test_several_workers_may_share_a_gpu():
    assert slots_for(4, ["0", "1"]) == ["0", "1", "0", "1"]
    assert slots_for(2, []) == [None, None]


def keep_for(pool, seconds):
    """Keep a worker alive, as a driver does."""
    until = monotonic() + seconds
    while monotonic() < until:
        pool.keep(1)
        sleep(0.05)


def test_workers_that_cannot_start_end_the_sweep_with_one_message(tmp_path):
    pool = Pool(WorkerSpec(str(tmp_path), None, "no such study", ()), [None])
    with pool, pytest.raises(UserError, match=r"none stays alive; see .*/logs/worker-\*\.log") as raised:
        keep_for(pool, seconds=30)
    assert "\n" not in str(raised.value)
    assert "KeyError" in (tmp_path / "logs" / "worker-0.log").read_text()


def test_workers_that_are_killed_are_replaced_as_often_as_need_be(sweep):
    sweep.points = 0
    assert sweep.start().wait(60) == 0  # makes the study
    with Pool(WorkerSpec(sweep.folder, None, STUDY, ()), [None]) as pool:
        for _ in range(8):
            pool.keep(1)
            assert wait_until(lambda: processes_of(sweep.folder, WORKER))
            kill(processes_of(sweep.folder, WORKER)[0])
            assert wait_until(lambda: not processes_of(sweep.folder, WORKER))
        pool.keep(1)
