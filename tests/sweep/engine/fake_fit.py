"""The `fit` of these tests: takes its flags and a second, goes on from its last checkpoint, leaves a run folder.

It writes a line to the sweep's ledger when it starts, and when its summary is there. Beside the ledger is what it does:
how many seconds it takes, and for the beginning of a run's name its trouble (raise, usage, hang or die), and how often.
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

STEPS = 10
SHOWN = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "SLURM_PROCID", "SLURM_NTASKS", "NODE_RANK", "MASTER_ADDR")


def main():
    flags = dict(arg.removeprefix("--").split("=", 1) for arg in sys.argv[1:])
    key, runs = flags["run_name"], Path(flags["trainer.default_root_dir"])
    ledger = Path(os.environ["LEDGER"])
    asked = json.loads(ledger.with_suffix(".asked").read_text())
    if (
        flags.get("trainer.num_nodes") and os.environ["NODE_RANK"] != "0"
    ):  # of a run on several nodes, which the first ends
        note(ledger, "joined", key)
        return time.sleep(asked["seconds"])
    folder = runs / key / "version_0"
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        is_alone = any(locks(file) for _ in range(25))  # one that is killed may linger
        note(ledger, "start" if is_alone else "overlap", key)
        notes = [line for line in map(json.loads, ledger.read_text().splitlines()) if line["key"] == key]
        starts = [line for line in notes if line["event"] != "joined"]
        trouble, times = asked["trouble"].get(key.partition("_")[0], ("", 0))
        if len(starts) <= times:
            get_into(trouble)
        seconds = train(folder, asked["seconds"])
        write_summary(folder, summary(flags, seconds))
    note(ledger, "done", key)


def locks(file):
    """Whether no other run is in this folder."""
    with suppress(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    time.sleep(0.02)
    return False


def note(ledger, event, key):
    """Add a line at once: many processes write here."""
    seen = {name: os.environ[name] for name in SHOWN if name in os.environ}
    node = Path(f"/proc/{os.getppid()}/stat").read_text().rpartition(")")[2].split()[1]  # who started who started it
    with ledger.open("ab", buffering=0) as file:
        file.write((json.dumps({"event": event, "key": key, "environment": seen, "node": node}) + "\n").encode())


def get_into(trouble):
    print("about to get into trouble", flush=True)
    if trouble == "raise":
        raise RuntimeError("the loss is not finite")
    if trouble == "usage":
        sys.exit("shvit-pl fit: error: --model.optim.lr -1: allowed are rates above 0.")
    if trouble == "hang":
        time.sleep(600)
    os.kill(os.getpid(), signal.SIGKILL)


def train(folder, seconds):
    """So many steps, each with its checkpoint; returns the seconds that they took."""
    last, since = folder / "checkpoints" / "last.ckpt", time.perf_counter()
    first = int(last.read_text()) if last.exists() else 0
    print(f"resuming from {last}" if first else "fresh weights", flush=True)
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
        "metrics": {"val/acc1": float(flags["model.optim.lr"])}, "monitor": "val/acc1", "teacher": None,
        "design": {"name": "tiny", "embed_dim": [32, 48, 64], "depth": [1, 1, 1], "mixers": ["conv"] * 3},
        "params": 1000, "macs": 10000, "images_per_second": 100.0, "wall_seconds": seconds,
        "dataset": {"image_size": 64}, "seed": int(flags["seed_everything"]), "steps": STEPS, "steps_trained": STEPS,
    }  # fmt: skip


if __name__ == "__main__":
    main()
