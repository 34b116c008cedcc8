"""The task of a command line: by its flag, its config, or the weights of its run."""

import pytest

from shvit_pl.fit import tasks
from shvit_pl.fit.options import read_flags


@pytest.mark.parametrize("equals", [True, False])
@pytest.mark.parametrize(
    ("flag", "value", "task"),
    [
        ("task", "detection", "detection"),
        ("config", "detection/retinanet_tiny.yaml", "detection"),
        ("config", "tiny.yaml", "classification"),
        ("ckpt_path", "run", "detection"),
        ("data.path", "run", "classification"),
    ],
)
def test_a_value_may_stand_behind_a_space(flag, value, task, equals, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    monkeypatch.setattr(tasks, "_task_of", lambda name: "detection" if name == "run" else None)
    given = [f"--{flag}={value}"] if equals else [f"--{flag}", value]
    assert tasks.find_task("validate", read_flags(["--run_name=x", *given, "--seed_everything=1"])).name == task
