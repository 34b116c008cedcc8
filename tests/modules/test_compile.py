"""A compiled run compiles its network once to train and once to evaluate."""

from functools import partialmethod

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

from shvit_pl import ClassificationModule
from shvit_pl.cli import main
from shvit_pl.runs.folder import read_summary
from tests.cli.runs import fit, only_run, weights
from tests.modules.students import batch_of

MIXED = [
    "--model.compile=true",
    "--model.design.depth=[1,1,1]",
    "--model.design.drop_path=0.2",
    "--model.ema.decay=0.9",
    "--model.mix.mixup=0.8",
    "--model.mix.cutmix=1.0",
    "--model.optim.agc=0.02",
    "--data.erasing=0.5",
    "--data.batch_size=26",
    "--trainer.max_epochs=1",
    "--trainer.limit_train_batches=6",
    "--trainer.limit_val_batches=1.0",  # 360 images: the last batch holds 22
]


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


def test_mixing_drop_path_average_and_a_short_last_batch_compile_nothing_anew_and_metrics_stay(graphs, tmp_path):
    assert fit(*MIXED) == 0
    assert sorted(graphs) == [(False, 26), (True, 26)]
    assert fit(*MIXED, "--model.compile=false") == 0
    compiled, plain = (read_summary(tmp_path / "runs" / "tiny" / f"version_{number}")["metrics"] for number in (0, 1))
    assert compiled == pytest.approx(plain, rel=1e-3)


def test_a_filled_up_batch_has_the_answers_of_its_own_images(graphs):
    settings = {"design": {"name": "tiny"}, "class_names": [str(number) for number in range(10)]}
    compiled = ClassificationModule(**settings, compile=True).eval()
    plain = ClassificationModule(**settings).eval()
    plain.load_state_dict(compiled.state_dict())
    with torch.no_grad():
        for size in (8, 3, 1):
            images = batch_of(size)["image"]
            torch.testing.assert_close(compiled(images), plain(images), rtol=1e-4, atol=1e-5)
    assert graphs == [(False, 8)]


@pytest.mark.slow
def test_the_default_backend_compiles_two_graphs_too_and_the_checkpoint_needs_no_compiler(tmp_path, capsys):
    torch._dynamo.reset()
    counters.clear()
    assert fit(*MIXED) == 0
    assert counters["stats"]["unique_graphs"] == 2
    assert not counters["graph_break"]
    assert "CUDA" not in capsys.readouterr().err
    run = only_run(tmp_path)
    assert not [key for key in weights(run, "best") if "_orig_mod" in key]
    assert main(["validate", f"--ckpt_path={run / 'checkpoints' / 'best.ckpt'}", "--model.compile=false"]) == 0
    printed = capsys.readouterr().out
    for name, value in read_summary(run)["metrics"].items():
        assert "loss" in name or str(value)[:6] in printed
