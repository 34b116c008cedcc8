"""An earlier benchmark is compared with, or replaced, only under the same conditions."""

import json
import shutil
from pathlib import Path

import pytest

from tests.deploy.benchmark.small import TINY, benchmark, rows


@pytest.fixture
def earlier():
    assert benchmark("--mode=eager", "--output=earlier") == 0
    return Path("earlier")


def change(folder, **conditions):
    path = folder / "environment.json"
    content = json.loads(path.read_text())
    content["conditions"].update(conditions)
    path.write_text(json.dumps(content))


def test_ratios_to_an_earlier_benchmark_are_given_row_by_row(earlier, capsys):
    text = (earlier / "benchmark.csv").read_text()
    rate = rows("earlier")[0]["images_per_second"]
    (earlier / "benchmark.csv").write_text(text.replace(f",{rate},", ",1.0,"))
    capsys.readouterr()
    assert benchmark("--mode=eager,official", "--compare=earlier") == 0
    printed = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip().startswith("tiny")]
    now = float(rows()[0]["images_per_second"])
    assert float(printed[0][-1]) == pytest.approx(now, rel=0.01)  # over 1 image/s
    assert printed[1][-1] == f"{float(rows()[1]['ratio']):.2f}"  # official was not measured then


@pytest.mark.parametrize("conditions", [{"device": "another"}, {"threads": 99}, {"torch": "1.0"}, {"task": "train"}])
def test_other_conditions_are_refused_with_the_difference(earlier, conditions, capsys):
    change(earlier, **conditions)
    ((name, value),) = conditions.items()
    for flag in ("--compare=earlier", "--output=earlier"):
        before = (earlier / "benchmark.csv").read_bytes()
        assert benchmark("--mode=eager", flag) == 2
        message = capsys.readouterr().err
        assert f"{name} is {value} there" in message
        assert "other conditions" in message
        assert (earlier / "benchmark.csv").read_bytes() == before
    assert not Path("benchmark").exists()


def test_other_rows_are_refused_before_anything_is_measured(earlier, capsys):
    assert benchmark("--mode=eager", "--batch-size=3", "--compare=earlier", models=[*TINY[:2], TINY[3]]) == 2
    assert "it has none of these rows" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["", "{", '{"conditions": 3}'])
def test_a_damaged_benchmark_is_refused(earlier, content, capsys):
    (earlier / "environment.json").write_text(content)
    assert benchmark("--mode=eager", "--compare=earlier") == 2
    assert "--compare 'earlier'" in capsys.readouterr().err


def test_an_earlier_benchmark_alike_is_replaced_and_other_files_are_not(earlier, capsys):
    assert benchmark("--mode=eager,official", "--output=earlier") == 0
    assert len(rows("earlier")) == 2
    shutil.copy(earlier / "benchmark.csv", earlier / "mine.csv")
    assert benchmark("--mode=eager", "--output=earlier") == 2
    assert "it holds other files" in capsys.readouterr().err
    assert sorted(path.name for path in Path().iterdir()) == ["earlier"]


def test_ctrl_c_leaves_nothing_behind(monkeypatch):
    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("shvit_pl.deploy.timing.seconds_per_call", stop)
    assert benchmark("--mode=eager") == 130
    assert list(Path().iterdir()) == []
