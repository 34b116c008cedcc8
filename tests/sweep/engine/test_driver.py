"""The driver: shares of the machine, runs that fail, what is stopped or killed; every point is done exactly once."""

import signal
from contextlib import suppress
from pathlib import Path

import pytest

from shvit_pl.compat import cores_of_process
from shvit_pl.errors import UserError
from shvit_pl.sweep.engine.study import PLACED, REPEATED, is_fault
from shvit_pl.sweep.watch import LiveTable
from tests.sweep.engine.launch import assert_done_once


def test_gpus_go_round_and_cores_are_shared(sweep, monkeypatch):
    sweep.points, sweep.gpus, sweep.seconds = 4, ["0", "1"], 0.2
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setenv("SLURM_PROCID", "3")
    monkeypatch.setenv("SLURM_NTASKS", "4")
    assert sweep.run() == 0
    seen = [line["environment"] for line in sweep.lines("start")]
    assert {each["CUDA_VISIBLE_DEVICES"] for each in seen} == {"0", "1"}
    assert {each["OMP_NUM_THREADS"] for each in seen} == {str(max(1, cores_of_process() // 4))}
    assert not any(name.startswith("SLURM") for each in seen for name in each)


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_that_is_swallowed_on_its_way_stops_the_sweep_all_the_same(sweep, sent, code, monkeypatch, capsys):
    def show(self, status):
        with suppress(BaseException):  # as a destructor would that runs just then
            signal.raise_signal(sent)

    monkeypatch.setattr(LiveTable, "show", show)
    sweep.workers, sweep.report = 0, True
    before = signal.getsignal(sent)
    assert sweep.run() == code
    assert capsys.readouterr().out.endswith("stopped: 10 of 10 runs left; repeat the command to continue\n")
    assert signal.getsignal(sent) == before


def test_a_job_of_another_engine_is_named(sweep):
    Path(sweep.folder).mkdir()
    study = sweep.study()
    study.enqueue_missing(sweep.definition.points.values(), 0)
    study.begin(study.waiting()[0].number)
    study.set_attrs(0, {PLACED: "7_1"})
    with pytest.raises(UserError, match="its job 7_1 may still run; go on with --engine slurm"):
        sweep.run()


def test_a_small_space_is_searched_point_by_point(sweep):
    sweep.points, sweep.workers, sweep.seconds = 8, 3, 0.1
    sweep.choices = [number / 100 for number in range(1, 9)]
    assert sweep.run() == 0
    assert_done_once(sweep)
    found = [trial.params["model.optim.lr"] for trial in sweep.study().trials() if trial.state.name == "COMPLETE"]
    assert sorted(found) == sweep.choices
    assert [trial for trial in sweep.study().trials() if REPEATED in trial.user_attrs]
    assert not any(map(is_fault, sweep.study().trials()))
