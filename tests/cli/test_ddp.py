"""Several processes train one model: the run ends, and leaves one folder."""

import subprocess
import sys

from shvit_pl.runs import read_summary
from tests.cli.runs import QUICK


def test_two_processes_share_a_run(tmp_path):
    flags = ["--trainer.accelerator=cpu", "--trainer.devices=2", "--trainer.strategy=ddp"]
    command = [sys.executable, "-m", "shvit_pl.cli", "fit", *QUICK, *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "runs" / "tiny").iterdir()
    summary = read_summary(folder)
    assert (summary["global_batch"], summary["steps_trained"]) == (32, 8)
    assert {path.name for path in (folder / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
