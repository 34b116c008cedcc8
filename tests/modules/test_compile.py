"""A compiled run compiles its network once to train and once to evaluate."""

from functools import partialmethod

import lightning as L
import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

from shvit_pl import ClassificationModule
from shvit_pl.cli import main
from shvit_pl.modules.config import EmaConfig, MixConfig, OptimConfig
from shvit_pl.runs.folder import read_summary
from tests.cli.runs import fit, only_run, weights
from tests.modules.conftest import CLASSES, TINY, batch_of, digits, train

SMALL = {"stages": 2, "embed_dim": [16, 32], "depth": [1, 1], "mixers": ["conv", "single_head"], "drop_path": 0.2}
SMALLEST = {"patch_size": 4, "stages": 1, "embed_dim": [16], "depth": [1], "mixers": ["single_head"]}


class Graphs:
    """A backend that compiles nothing, and keeps whether each graph is of training, and the batch that it is for."""

    def __init__(self):
        self.compiled = []

    def __call__(self, graph, inputs):
        sizes = [each.shape for each in inputs if isinstance(each, torch.Tensor) and each.ndim == 4]
        batch = next(shape[0] for shape in sizes if shape[1] == 3 and shape[2] > 3)
        self.compiled.append((torch.is_grad_enabled(), batch))
        return graph.forward


@pytest.fixture
def graphs(monkeypatch):
    torch._dynamo.reset()
    backend = Graphs()
    monkeypatch.setattr(nn.Module, "compile", partialmethod(nn.Module.compile, backend=backend))
    yield backend.compiled
    torch._dynamo.reset()


@pytest.mark.slow
def test_mixing_drop_path_average_and_a_short_last_batch_compile_nothing_anew_and_metrics_stay(graphs):
    settings = {"ema": EmaConfig(decay=0.9), "mix": MixConfig(mixup=0.8, cutmix=1.0), "optim": OptimConfig(agc=0.02)}
    metrics = []
    for compiled in (True, False):
        L.seed_everything(0, verbose=False)
        module = ClassificationModule(design={**TINY, **SMALL}, compile=compiled, **settings)
        train(module, 6, digits(batch_size=26, erasing=0.5), limit_train_batches=6, limit_val_batches=1.0)
        metrics.append({name: float(value) for name, value in module.trainer.callback_metrics.items()})
    assert sorted(graphs) == [(False, 26), (True, 26)]  # the last batch of 360 images holds 22
    assert {"val/loss", "val/loss_ema"} <= metrics[0].keys()
    assert metrics[0] == pytest.approx(metrics[1], rel=1e-3)


def test_a_filled_up_batch_has_the_answers_of_its_own_images(graphs):
    compiled, plain = (ClassificationModule(design=TINY, class_names=CLASSES, compile=each) for each in (True, False))
    plain.load_state_dict(compiled.eval().state_dict())
    with torch.no_grad():
        for size in (8, 3, 1):
            images = batch_of(size)["image"]
            torch.testing.assert_close(compiled(images), plain.eval()(images), rtol=1e-4, atol=1e-5)
    assert graphs == [(False, 8)]


@pytest.mark.slow
def test_the_default_backend_compiles_two_graphs_too_and_the_checkpoint_needs_no_compiler(tmp_path, capsys):
    torch._dynamo.reset()
    counters.clear()
    flags = [f"--model.design.{name}={value}" for name, value in SMALLEST.items()]
    flags += ["--model.compile=true", "--model.ema.decay=0.9", "--model.mix.mixup=0.8", "--data.batch_size=26"]
    assert fit(*flags, "--trainer.max_epochs=1", "--trainer.limit_val_batches=1.0") == 0
    assert counters["stats"]["unique_graphs"] == 2
    assert not counters["graph_break"]
    assert "CUDA" not in capsys.readouterr().err
    run = only_run(tmp_path)
    assert not [key for key in weights(run, "best") if "_orig_mod" in key]
    assert main(["validate", f"--ckpt_path={run / 'checkpoints' / 'best.ckpt'}", "--model.compile=false"]) == 0
    printed = capsys.readouterr().out
    for name, value in read_summary(run)["metrics"].items():
        assert "loss" in name or f"{value:.4f}" in printed
