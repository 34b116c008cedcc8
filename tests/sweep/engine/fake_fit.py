"""The `fit` of these tests: takes its flags and a second, goes on from its last checkpoint, leaves a run folder.

It writes a line to the ledger when it starts, and when its summary is there. FAKE_FIT in the environment is JSON:

    ledger: the file
    seconds: how long a run takes
    trouble: raise, usage or die: what happens to runs
    of: ... whose name contains this
    times: ... so many times
"""

import fcntl
import json
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

from shvit_pl.runs.folder import write_summary
from tests.sweep.engine.processes import wait_until

STEPS = 10
SHOWN = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "SLURM_PROCID", "SLURM_NTASKS")


def main():
    flags = dict(arg.removeprefix("--").split("=", 1) for arg in sys.argv[1:])
    asked = {"seconds": 1.0, "trouble": None, "of": "", "times": 1000, **json.loads(os.environ["FAKE_FIT"])}
    ledger, key = Path(asked["ledger"]), flags["run_name"]
    folder = Path(flags["trainer.default_root_dir"]) / key / "version_0"
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        note(
            ledger, "start" if wait_until(lambda: locks(file), 0.5) else "overlap", key
        )  # one that is killed may linger
        starts = [line for line in map(json.loads, ledger.read_text().splitlines()) if line["key"] == key]
        if asked["trouble"] and asked["of"] in key and len(starts) <= asked["times"]:
            get_into(asked["trouble"])
        seconds = train(folder, asked["seconds"])
        write_summary(folder, summary(flags, seconds))
    note(ledger, "done", key)


def locks(file):
    """Whether no other run is in this folder."""
    with suppress(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def note(ledger, event, key):
    """Add a line at once: many processes write here."""
    seen = {name: os.environ[name] for name in SHOWN if name in os.environ}
    line = {"event": event, "key": key, "environment": seen}
    with ledger.open("ab", buffering=0) as file:
        file.write((json.dumps(line) + "\n").encode())


def get_into(trouble):
    print("about to get into trouble", flush=True)
    if trouble == "raise":
        raise RuntimeError("the loss is not finite")
    if trouble == "usage":
        sys.exit("shvit-pl fit: error: --model.optim.lr -1: allowed are rates above 0.")
    os.kill(os.getpid(), signal.SIGKILL)


def train(folder, seconds):
    """So many steps, each with its checkpoint; returns the seconds that they took."""
    last, since = folder / "checkpoints" / "last.ckpt", time.perf_counter()
    first = int(last.read_text()) if last.exists() else 0
    print(f"going on from {last}" if first else "fresh weights", flush=True)
    for step in range(first, STEPS):
        time.sleep(seconds / STEPS)
        with (folder / "metrics.csv").open("a") as file:
            file.write("epoch,step,val/acc1\n" if step == 0 else "")
            file.write(f"{step},{step},{step / STEPS}\n")
        partial = last.with_name(f".last.ckpt.{os.getpid()}")
        partial.write_text(str(step + 1))
        partial.replace(last)
    return time.perf_counter() - since


def summary(flags, seconds):
    return {
        "metrics": {"val/acc1": float(flags["model.optim.lr"]), "val/loss": 1.0}, "monitor": "val/acc1",
        "design": {"name": "tiny", "embed_dim": [32, 48, 64], "depth": [1, 1, 1], "mixers": ["conv"] * 3},
        "teacher": None, "params": 1000, "macs": 10000, "classes": ["a", "b"],
        "dataset": {"path": "digits", "image_size": 64, "train_images": 10, "validation_images": 10},
        "seed": int(flags["seed_everything"]), "wall_seconds": seconds, "images_per_second": 100.0,
        "peak_memory_mb": 1.0, "device": "1 x cpu (1 thread)", "precision": "32-true",
        **dict.fromkeys(("epochs", "epochs_trained", "steps", "steps_trained"), STEPS),
    }  # fmt: skip


if __name__ == "__main__":
    main()
