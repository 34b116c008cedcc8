"""What only a GPU can show; skipped where there is none."""

import pytest
import torch

from shvit_pl.cli import main
from shvit_pl.runs import read_summary
from tests.cli.runs import fit

pytestmark = pytest.mark.gpu


def test_in_16_bits_with_everything_on_the_device(tmp_path):
    flags = ["--trainer.accelerator=gpu", "--trainer.devices=1", "--trainer.precision=16-mixed"]
    recipe = ["--model.ema.decay=0.9", "--model.mix.mixup=0.8", "--data.erasing=0.25", "--model.optim.agc=0.02"]
    assert fit(*flags, *recipe, "--monitor=val/acc1_ema") == 0
    metrics = read_summary(tmp_path / "runs" / "tiny" / "version_0")["metrics"]
    assert {"val/acc1", "val/acc1_ema"} <= set(metrics)


def test_a_run_on_the_gpu_in_bf16_validates_on_the_cpu(tmp_path):
    flags = ["--trainer.accelerator=gpu", "--trainer.devices=1", "--trainer.precision=bf16-mixed"]
    assert fit(*flags, "--model.channels_last=true") == 0
    folder = tmp_path / "runs" / "tiny" / "version_0"
    summary = read_summary(folder)
    assert "cpu" not in summary["device"]
    assert summary["peak_memory_of"] == "allocated on the GPU"
    assert 0 < summary["peak_memory_mb"] <= torch.cuda.max_memory_allocated() / 1e6 + 0.1
    assert main(["validate", f"--ckpt_path={folder / 'checkpoints' / 'best.ckpt'}", "--trainer.accelerator=cpu"]) == 0
