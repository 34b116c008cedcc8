"""Weights, the balanced sampler and further metrics from the command line: what they leave, and mistakes in them."""

import json
from pathlib import Path

import pytest
import torch

from shvit_pl.cli import main
from shvit_pl.runs.folder import read_summary
from tests.cli.runs import assert_same, content, fit, metrics, only_run, stopped, weights
from tests.data.pictures import rows, saved

MCC = "torchmetrics.classification.MulticlassMatthewsCorrCoef"
TOP2 = '{"class_path": "MulticlassAccuracy", "init_args": {"top_k": 2, "average": "micro"}, "name": "acc2"}'
FBETA = '{"class_path": "MulticlassFBetaScore", "init_args": {"beta": 2.0, "average": "macro"}}'


@pytest.fixture
def uneven(tmp_path_factory):
    """Images of two classes, 60 to 4, and six of each to validate."""
    labels = [0] * 60 + [1] * 4
    return saved(rows(labels), validation=rows([0, 1] * 6))(tmp_path_factory.mktemp("data"))


def test_a_weighted_run_says_the_ratio_and_logs_all_metrics(uneven, tmp_path, capsys):
    flags = [f"--data.path={uneven}", "--model.class_weights=balanced", f'--model.metrics=["{MCC}", {FBETA}, {TOP2}]']
    assert fit(*flags, "--monitor=val/f1_macro", "--model.ema.decay=0.9", "--plain") == 0
    printed = capsys.readouterr().out
    assert "balance: largest to smallest 15 : 1; weighed in the loss (model.class_weights balanced)" in printed
    summary = read_summary(only_run(tmp_path))
    assert summary["dataset"]["images_per_class"] == [60, 4]
    assert summary["metrics"]["val/f1_macro"] == max(
        float(value) for value in metrics(only_run(tmp_path), "val/f1_macro")
    )
    own = ("MulticlassMatthewsCorrCoef", "MulticlassFBetaScore", "acc2")
    assert {f"val/{name}{end}" for name in own for end in ("", "_ema")} < summary["metrics"].keys()
    assert summary["metrics"]["val/acc2"] == 1.0  # of two classes, one of two is right
    (epoch, *_) = [line for line in printed.splitlines() if line.startswith("epoch") and "val/loss" in line]
    assert "val/f1_macro " in epoch  # what is monitored
    best = content(only_run(tmp_path), "best")
    assert best["hyper_parameters"]["class_weights"] == "balanced"
    assert best["hyper_parameters"]["metrics"] == [MCC, json.loads(FBETA), json.loads(TOP2)]
    assert "label_weights" not in best["state_dict"]
    assert main(["validate", f"--ckpt_path={only_run(tmp_path)}", "--plain"]) == 0
    found = json.loads(Path("metrics.json").read_text())
    assert found["metrics"]["val/f1_macro"] == pytest.approx(summary["metrics"]["val/f1_macro"])


def test_the_flags_are_named_above_10_alone(uneven, capsys):
    few = ["--trainer.max_epochs=1", "--plain"]
    assert fit(f"--data.path={uneven}", *few) == 0
    line = (
        "balance: largest to smallest 15 : 1; the small ones may be neglected: try --model.class_weights balanced, or"
    )
    assert line in capsys.readouterr().out
    assert fit(*few) == 0
    assert "balance: largest to smallest 1.05 : 1\n" in capsys.readouterr().out


def test_a_balanced_run_resumes_exactly_within_an_epoch(uneven, tmp_path):
    flags = [f"--data.path={uneven}", "--data.sampler=balanced", "--checkpoint_every_n_steps=1", "--data.num_workers=1"]
    assert fit(*flags, "--run_name=whole") == 0
    stopped(1, 2, *flags, "--run_name=cut")
    whole, cut = (tmp_path / "runs" / name / "version_0" for name in ("whole", "cut"))
    assert main(["fit", f"--ckpt_path={cut}"]) == 0
    assert_same(weights(whole), weights(cut))


def test_without_the_flags_the_loss_is_as_before(tmp_path):
    """Weights that are all 1 change the loss by rounding alone, so they show that nothing else differs."""
    few = ["--trainer.log_every_n_steps=1", "--model.label_smoothing=0.1"]
    assert fit(*few, "--run_name=plain") == 0
    assert fit(*few, "--run_name=ones", f"--model.class_weights={[1.0] * 10}") == 0
    plain, ones = (metrics(tmp_path / "runs" / name / "version_0", "train/loss") for name in ("plain", "ones"))
    torch.testing.assert_close(torch.tensor([*map(float, plain)]), torch.tensor([*map(float, ones)]), rtol=1e-4, atol=0)


UNLIMITED = "--trainer.limit_train_batches=null"
MISTAKES = [
    (["--model.class_weights=[1, 2]"], "model.class_weights: it has 2 numbers, and there are 10 classes (0; 1; 2"),
    (["--model.class_weights={cat: 2}"], "model.class_weights: no class cat; the 10 classes are 0; 1"),
    (["--model.class_weights=even"], "model.class_weights"),
    (["--model.class_weights=[-1, 1]"], "model.class_weights -1: allowed are numbers from 0"),
    (["--model.class_weights=balanced", "--data.sampler=balanced"], "data.sampler balanced draws all classes equally"),
    (["--data.sampler=balanced", "--data.repeats=3"], "data.sampler balanced: impossible with data.repeats 3"),
    (
        ["--model.class_weights=balanced", "--data.streaming=true", "--data.steps_per_epoch=2", UNLIMITED],
        "model.class_weights balanced: the images of a stream's classes aren't known",
    ),
    (["--model.metrics=[MulticlassF2]"], "model.metrics MulticlassF2: no metric MulticlassF2 in torchmetrics.class"),
    (["--model.metrics=[nowhere.Metric]"], "model.metrics nowhere.Metric: nowhere can't be imported"),
    (["--model.metrics=[MulticlassConfusionMatrix]"], "model.metrics MulticlassConfusionMatrix: it makes no single"),
    (["--model.metrics=[torchmetrics.MeanSquaredError]"], "model.metrics torchmetrics.MeanSquaredError: it doesn't"),
    (["--model.metrics=[MulticlassAccuracy, MulticlassAccuracy]"], "MulticlassAccuracy is there twice; give one another name"),
    (['--model.metrics=[{"class_path": "MulticlassAccuracy", "init_args": {"avg": 1}}]'], "MulticlassAccuracy:"),
    (['--model.metrics=[{"path": "MulticlassAccuracy"}]'], "allowed are class paths, and mappings of class_path"),
    (
        ['--model.metrics=[{"class_path": "MulticlassAccuracy", "name": "acc1"}]'],
        "name 'acc1': allowed are letters, dig",
    ),
    (['--model.metrics=[{"class_path": "MulticlassAccuracy", "name": "mine_ema"}]'], "without _ema at the end"),
    (["--monitor=val/f1"], "monitor"),
]


@pytest.mark.parametrize(("flags", "words"), MISTAKES, ids=lambda value: str(value)[:60])
def test_a_mistake_is_one_message_and_leaves_nothing(flags, words, tmp_path, capsys):
    assert fit(*flags) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
    assert words in line
    assert not list(tmp_path.iterdir())
