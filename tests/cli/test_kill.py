"""A run that is killed (SIGKILL) again and again while it writes checkpoints ends as the run that nothing stopped."""

import multiprocessing
import random
import time

import pytest

from shvit_pl.cli import main
from shvit_pl.runs.folder import read_summary
from tests.cli.runs import EVERYTHING, QUICK, assert_same, content, weights

FLAGS = [*QUICK, *EVERYTHING, "--data.num_workers=0", "--trainer.max_epochs=3", "--trainer.limit_train_batches=8"]
FLAGS += ["--trainer.limit_val_batches=1", "--checkpoint_every_n_steps=1", "--trainer.enable_progress_bar=false"]
KILLS = 3


def start(root):
    """The run, or its continuation, in a process that has imported everything already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["shvit_pl.fit.lightning_cli"])
    flags = [*FLAGS, "--ckpt_path=last", f"--trainer.default_root_dir={root}"]
    process = context.Process(target=main, args=(["fit", *flags],))
    process.start()
    return process


def kill_while_it_writes(root, after, delay):
    """Let a run make `after` more checkpoints, and kill it `delay` seconds later; False when it ended before."""
    process, seen, last = start(root), set(), root / "tiny" / "version_0" / "checkpoints" / "last.ckpt"
    while len(seen) <= after and process.is_alive():
        if last.exists():
            seen.add(last.stat().st_mtime_ns)
        time.sleep(0.001)
    time.sleep(delay)
    process.kill()
    process.join()
    return process.exitcode != 0


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_ends_exactly(tmp_path):
    assert main(["fit", *FLAGS, f"--trainer.default_root_dir={tmp_path / 'whole'}"]) == 0
    draw, cut = random.Random(0), tmp_path / "cut"
    folder, steps = cut / "tiny" / "version_0", []
    for _ in range(KILLS):
        assert kill_while_it_writes(cut, after=draw.randint(1, 3), delay=draw.uniform(0, 0.05))
        steps.append(content(folder)["global_step"])
    assert steps == sorted(steps)
    assert steps[0] < steps[-1] < 24
    (folder / "checkpoints" / ".best.ckpt.partial").write_bytes(b"of a process that was killed")
    last = start(cut)
    last.join()
    assert last.exitcode == 0
    assert [path.name for path in (cut / "tiny").iterdir()] == ["version_0"]
    assert list(folder.rglob(".*")) == []
    whole = tmp_path / "whole" / "tiny" / "version_0"
    assert_same(weights(whole), weights(folder))
    assert read_summary(folder)["metrics"] == read_summary(whole)["metrics"]
