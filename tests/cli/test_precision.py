"""Precisions and compilation."""

import pytest
import torch

from shvit_pl.cli import main
from shvit_pl.runs.folder import read_summary
from tests.cli.runs import fit


def checkpoint_of(tmp_path):
    return tmp_path / "runs" / "tiny" / "version_0" / "checkpoints" / "best.ckpt"


def test_bf16_mixed_keeps_weights_and_average_in_32_bits(tmp_path):
    assert fit("--trainer.precision=bf16-mixed", "--model.ema.decay=0.9", "--model.mix.mixup=0.8") == 0
    assert read_summary(tmp_path / "runs" / "tiny" / "version_0")["precision"] == "bf16-mixed"
    state = torch.load(checkpoint_of(tmp_path), weights_only=True)["state_dict"]
    assert {tensor.dtype for tensor in state.values() if tensor.is_floating_point()} == {torch.float32}


@pytest.mark.slow
def test_a_compiled_run_leaves_a_checkpoint_with_clean_keys_that_needs_no_compiler(tmp_path, capsys):
    assert fit("--model.compile=true", "--model.ema.decay=0.9", "--model.mix.mixup=0.8") == 0
    assert "CUDA" not in capsys.readouterr().err
    state = torch.load(checkpoint_of(tmp_path), weights_only=True)["state_dict"]
    assert not [key for key in state if "_orig_mod" in key]
    flags = [f"--ckpt_path={checkpoint_of(tmp_path)}", "--model.compile=false", "--trainer.limit_val_batches=4"]
    assert main(["validate", *flags]) == 0
    printed = capsys.readouterr().out
    for name, value in read_summary(tmp_path / "runs" / "tiny" / "version_0")["metrics"].items():
        if "loss" not in name:
            assert str(value)[:6] in printed
