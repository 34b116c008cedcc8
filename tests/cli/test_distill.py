"""`shvit-pl fit` with a teacher: what it prints and keeps, and that nothing of it needs the teacher afterwards."""

import shutil
from contextlib import redirect_stdout
from io import StringIO

import pytest
import torch

from shvit_pl.cli import main
from shvit_pl.runs.folder import read_summary
from tests.cli.runs import EVERYTHING, assert_same, content, fit, metrics, only_run, stopped

DISTILLED = [*EVERYTHING, "--data.num_workers=0", "--trainer.limit_train_batches=3", "--checkpoint_every_n_steps=2"]
ONE_STEP = ["--trainer.max_epochs=1", "--trainer.limit_train_batches=1"]


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
    assert "on 256 validation images (always predicting the most frequent class: 0.1211)" in note
    assert "".join(f"teacher{note}data".split()) in "".join(printed.split())  # wherever lines are folded


def test_both_losses_and_the_agreement_are_logged_at_every_step(distilled):
    names = ("loss", "loss_task", "loss_distill", "agreement")
    rows = list(zip(*(map(float, metrics(distilled[0], f"train/{name}")) for name in names), strict=True))
    assert len(rows) == 6
    for loss, task, distill, agreement in rows:
        assert loss == pytest.approx((task + distill) / 2, rel=1e-5)
        assert 0 <= agreement <= 1
    assert len({distill for _, _, distill, _ in rows}) == 6


def test_a_distilled_checkpoint_is_used_without_its_teacher_and_without_flags(distilled, capsys, tmp_path):
    folder, _, teacher = distilled
    assert not teacher.exists()
    checkpoint = f"--ckpt_path={folder / 'checkpoints' / 'last.ckpt'}"
    assert main(["validate", checkpoint, "--trainer.limit_val_batches=4"]) == 0
    assert f"{read_summary(folder)['last_metrics']['val/acc1']:.4f}" in capsys.readouterr().out
    few = "--trainer.limit_predict_batches=2"
    assert main(["predict", checkpoint, few]) == 0
    assert main(["predict", checkpoint, few, "--model.use_ema=true", "--output=averaged.csv"]) == 0
    assert len((tmp_path / "predictions.csv").read_text().splitlines()) == 1 + 2 * 16
    assert (tmp_path / "predictions.csv").read_text() != (tmp_path / "averaged.csv").read_text()


def test_a_distillation_may_begin_with_trained_weights(distilled, run, tmp_path):
    best, last = run / "checkpoints" / "best.ckpt", distilled[0] / "checkpoints" / "last.ckpt"
    flags = [f"--model.distill.teacher={run}", *ONE_STEP]
    assert fit(*flags, f"--model.init_from={last}", "--run_name=of_two_heads") == 0
    assert fit(*flags, f"--model.init_from={best}", "--model.distill.heads=single") == 0
    assert "re-initialized" not in read_summary(tmp_path / "runs" / "of_two_heads" / "version_0")["init"]
    summary = read_summary(only_run(tmp_path))
    assert summary["init"].endswith(f"tensors from {best}")
    assert summary["metrics"]["val/acc1"] > 0.2  # by its first weights: it has hardly trained


@pytest.mark.parametrize("objective", ["hard", pytest.param("feature", marks=pytest.mark.slow)])
def test_a_distillation_that_was_stopped_resumes_exactly_and_with_no_other_settings(
    objective, distilled, run, tmp_path, refused
):
    flags = [*DISTILLED, f"--model.distill.teacher={run}", f"--model.distill.objective={objective}"]
    whole = distilled[0]
    if objective == "feature":
        flags.append("--model.design.embed_dim=[80,112,96]")  # another width than the teacher's
        assert fit(*flags, "--trainer.default_root_dir=whole") == 0
        whole = tmp_path / "whole" / "tiny" / "version_0"
    stopped(1, 1, *flags)
    assert not (only_run(tmp_path) / "summary.json").exists()
    for change, words in (
        ("alpha=0.9", "model.distill.alpha 0.5 -> 0.9"),
        ("objective=soft", f"model.distill.objective {objective} -> soft"),
        (f"teacher={run / 'checkpoints' / 'last.ckpt'}", f"model.distill.teacher {run} -> {run}/"),
    ):
        refused([*flags, f"--model.distill.{change}", "--ckpt_path=last"], words)
    refused([*DISTILLED, "--ckpt_path=last"], f"model.distill.teacher {run} -> None")
    assert fit(*flags, "--ckpt_path=last") == 0
    whole, cut = content(whole), content(only_run(tmp_path))
    assert_same(whole["state_dict"], cut["state_dict"])
    assert_same(whole["feature_projection"], cut["feature_projection"])
    assert len(cut["feature_projection"]) == (2 if objective == "feature" else 0)
    whole, cut = (state["optimizer_states"][0]["state"] for state in (whole, cut))
    assert all(torch.equal(state["exp_avg_sq"], cut[key]["exp_avg_sq"]) for key, state in whole.items())
