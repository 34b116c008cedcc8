"""A sweep of detectors: by val/map, to its page."""

import pytest

from shvit_pl.command_line.config_files import shipped_configs
from shvit_pl.runs.folder import read_summary
from tests.sweep.small import FLAGS, sweep, trials

QUICK = ["--model.detector.width=16", "--model.detector.convs=1", "--data.scenes=8", "--data.batch_size=4"]
QUICK += ["--trainer.limit_val_batches=1", "--trainer.max_epochs=1", "--trainer.check_val_every_n_epoch=1"]


@pytest.mark.slow
def test_the_shipped_sweep_of_detectors_ends_with_its_page(tmp_path):
    text = (shipped_configs() / "sweeps" / "detection_macro.yaml").read_text()
    text = text.replace("model.design.patch_size: [4, 16]", "model.design.patch_size: [8, 16]").replace("[3, 4]", "[3]")
    code, printed = sweep(tmp_path / "swept", text, *QUICK, common=[])
    assert code == 0, printed
    ended = trials(tmp_path / "swept")
    assert len(ended) == 4
    page = (tmp_path / "swept" / "report.html").read_text()
    assert "AP" in page
    summaries = [read_summary(path.parent) for path in (tmp_path / "swept").rglob("summary.json")]
    assert {summary["monitor"] for summary in summaries} == {"val/map"}
    assert {trial.value for trial in ended} == {summary["metrics"]["val/map"] for summary in summaries}


def test_an_objective_of_another_task_is_refused(tmp_path, capsys):
    text = "base: s1.yaml\ngrid: {model.design.patch_size: [16, 8]}\nobjective: val/map\n"
    code, _ = sweep(tmp_path / "swept", text, common=FLAGS)
    assert code == 2
    assert "objective val/map: not logged here; logged are val/acc1" in capsys.readouterr().err
