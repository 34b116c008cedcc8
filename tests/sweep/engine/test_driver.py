"""Runs get their share of the machine."""

from shvit_pl.compat import cores_of_process


def test_gpus_go_round_and_cores_are_shared(sweep, monkeypatch):
    sweep.points, sweep.gpus = 4, ["0", "1"]
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert sweep.start(SLURM_PROCID="3", SLURM_NTASKS="4").wait(60) == 0
    seen = [line["environment"] for line in sweep.lines("start")]
    assert {each["CUDA_VISIBLE_DEVICES"] for each in seen} == {"0", "1"}
    assert {each["OMP_NUM_THREADS"] for each in seen} == {str(max(1, cores_of_process() // 2))}
    assert not any(name.startswith("SLURM") for each in seen for name in each)
