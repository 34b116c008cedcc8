"""`shvit-pl fit` with a teacher: what it prints and keeps, and that nothing of it needs the teacher afterwards."""

import csv
import shutil
from contextlib import redirect_stdout
from io import StringIO

import pytest
import torch
import yaml

from shvit_pl import create_model, load_weights
from shvit_pl.cli import main
from shvit_pl.runs.folder import read_summary
from tests.cli.runs import EVERYTHING, assert_same, fit, stop_at

DISTILLED = [*EVERYTHING, "--data.num_workers=0", "--trainer.limit_train_batches=3", "--checkpoint_every_n_steps=2"]


def content(folder, name="last.ckpt"):
    return torch.load(folder / "checkpoints" / name, weights_only=True)


def only_run(folder):
    (found,) = (folder / "runs" / "tiny").glob("version_*")
    return found


@pytest.fixture(scope="module")
def distilled(tmp_path_factory, run):
    """A run with EMA, Mixup and all, what it printed, and its teacher's folder, which is gone."""
    root = tmp_path_factory.mktemp("distilled")
    teacher, printed = shutil.copytree(run, root / "teacher"), StringIO()
    flags = [f"--model.distill.teacher={teacher}", f"--trainer.default_root_dir={root}"]
    with redirect_stdout(printed):
        assert fit(*DISTILLED, *flags, "--trainer.log_every_n_steps=1") == 0
    shutil.rmtree(teacher)
    return root / "tiny" / "version_0", " ".join(printed.getvalue().split()), teacher


def test_table_and_summary_say_who_teaches_and_how_well(distilled):
    folder, printed, teacher = distilled
    note = read_summary(folder)["teacher"]
    assert note.startswith(f"{teacher}, 1.0 M parameters, 10 classes matched by name, 64 px, ")
    assert "; top-1 " in note
    assert "on 256 validation images (always predicting the most frequent class: 12.1%)" in note
    assert "".join(f"teacher{note}data".split()) in "".join(printed.split())  # wherever lines are folded


def test_a_run_without_a_teacher_says_nothing_of_one(run):
    assert read_summary(run)["teacher"] is None


def test_both_losses_and_the_agreement_are_logged_at_every_step(distilled):
    rows = [row for row in csv.DictReader((distilled[0] / "metrics.csv").open()) if row["train/loss"]]
    assert len(rows) == 6
    for row in rows:
        loss, task, distill = (float(row[f"train/{name}"]) for name in ("loss", "loss_task", "loss_distill"))
        assert loss == pytest.approx((task + distill) / 2, rel=1e-5)
        assert 0 <= float(row["train/agreement"]) <= 1
    assert len({row["train/loss_distill"] for row in rows}) == 6


def test_a_distilled_checkpoint_is_used_without_its_teacher_and_without_flags(distilled, capsys, tmp_path):
    folder, _, teacher = distilled
    assert not teacher.exists()
    checkpoint = f"--ckpt_path={folder / 'checkpoints' / 'last.ckpt'}"
    for command in ("validate", "test"):
        assert main([command, checkpoint, "--trainer.limit_val_batches=4", "--trainer.limit_test_batches=4"]) == 0
    assert str(read_summary(folder)["last_metrics"]["val/acc1"])[:6] in capsys.readouterr().out
    few = "--trainer.limit_predict_batches=2"
    assert main(["predict", checkpoint, few]) == 0
    assert main(["predict", checkpoint, few, "--model.use_ema=true", "--output=averaged.csv"]) == 0
    assert len((tmp_path / "predictions.csv").read_text().splitlines()) == 1 + 2 * 16
    assert (tmp_path / "predictions.csv").read_text() != (tmp_path / "averaged.csv").read_text()


def test_a_distilled_checkpoint_holds_no_teacher(distilled):
    found = content(distilled[0])
    dual = create_model("tiny", num_classes=10, distilled=True).state_dict()
    assert {key.removeprefix("model.") for key in found["state_dict"] if key.startswith("model.")} == dual.keys()
    assert {key.split(".")[0] for key in found["state_dict"]} == {"model", "ema"}
    assert found["feature_projection"] == {}


@pytest.mark.parametrize("averaged", [False, True])
def test_a_distilled_checkpoint_loads_into_a_model_of_one_head(distilled, averaged):
    checkpoint = distilled[0] / "checkpoints" / "last.ckpt"
    two, one = create_model("tiny", num_classes=10, distilled=True), create_model("tiny", num_classes=10)
    for model in (two, one):
        report = load_weights(model, checkpoint, averaged=averaged)
        assert not report.reinitialized
        assert not {key for key in report.unexpected if not key.startswith("head_dist")}
    images = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(one.eval()(images), two.eval()(images))


def test_a_teacher_may_be_said_in_layered_configs(run, tmp_path):
    (tmp_path / "teacher.yaml").write_text(yaml.safe_dump({"model": {"distill": {"teacher": str(run), "tau": 3.0}}}))
    soft = {"objective": "soft", "tau": 2.0}
    (tmp_path / "soft.yaml").write_text(yaml.safe_dump({"model": {"distill": soft}}))
    assert fit("--config=teacher.yaml", "--config=soft.yaml", "--model.distill.alpha=0.7") == 0
    expected = {"teacher": str(run), "alpha": 0.7, **soft, "heads": None}
    saved = yaml.safe_load((only_run(tmp_path) / "config.yaml").read_text())["model"]["distill"]
    for settings in (saved, content(only_run(tmp_path))["hyper_parameters"]["distill"]):
        assert settings.items() >= expected.items()


def test_a_distillation_may_begin_with_trained_weights(run, tmp_path):
    best = run / "checkpoints" / "best.ckpt"
    assert fit(f"--model.distill.teacher={run}", f"--model.init_from={best}", "--model.distill.heads=single") == 0
    summary = read_summary(only_run(tmp_path))
    assert summary["init"].endswith(f"tensors from {best}")
    assert summary["metrics"]["val/acc1"] > 0.2  # by its first weights: it has hardly trained


def test_a_distillation_may_go_on_from_another_ones_weights(distilled, run, tmp_path):
    last = distilled[0] / "checkpoints" / "last.ckpt"
    assert fit(f"--model.distill.teacher={run}", f"--model.init_from={last}") == 0
    assert "re-initialized" not in read_summary(only_run(tmp_path))["init"]


@pytest.mark.parametrize("objective", ["hard", pytest.param("feature", marks=pytest.mark.slow)])
def test_a_distillation_that_was_stopped_resumes_exactly(objective, run, tmp_path, monkeypatch):
    flags = [*DISTILLED, f"--model.distill.teacher={run}", f"--model.distill.objective={objective}"]
    if objective == "feature":
        flags.append("--model.design.embed_dim=[80,112,96]")  # another width than the teacher's
    assert fit(*flags, "--trainer.default_root_dir=whole") == 0
    with monkeypatch.context() as patch:
        stop_at(patch, epoch=1, batch=1)
        assert fit(*flags) == 130
    assert not (only_run(tmp_path) / "summary.json").exists()
    assert fit(*flags, "--ckpt_path=last") == 0
    whole, cut = content(tmp_path / "whole" / "tiny" / "version_0"), content(only_run(tmp_path))
    assert_same(whole["state_dict"], cut["state_dict"])
    assert_same(whole["feature_projection"], cut["feature_projection"])
    assert len(cut["feature_projection"]) == (2 if objective == "feature" else 0)
    whole, cut = (state["optimizer_states"][0]["state"] for state in (whole, cut))
    assert all(torch.equal(state["exp_avg_sq"], cut[key]["exp_avg_sq"]) for key, state in whole.items())


def test_a_run_does_not_go_on_with_another_teacher_or_objective(run, tmp_path, monkeypatch, capsys):
    flags = [*DISTILLED, f"--model.distill.teacher={run}"]
    with monkeypatch.context() as patch:
        stop_at(patch, epoch=1, batch=1)
        assert fit(*flags) == 130
    capsys.readouterr()
    for change, said in (
        ("--model.distill.alpha=0.9", "model.distill.alpha 0.5 -> 0.9"),
        ("--model.distill.objective=soft", "model.distill.objective hard -> soft"),
        (f"--model.distill.teacher={run / 'checkpoints' / 'last.ckpt'}", f"model.distill.teacher {run} -> {run}/"),
    ):
        assert fit(*flags, change, "--ckpt_path=last") == 2
        assert said in capsys.readouterr().err
    assert fit(*DISTILLED, "--ckpt_path=last") == 2
    assert f"model.distill.teacher {run} -> None" in capsys.readouterr().err
