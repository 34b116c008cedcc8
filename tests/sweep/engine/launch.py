"""The driver of a sweep, in this process or one of its own, on points whose `fit` is the one of these tests.

A sweep's processes are found as a system's administrator would: by its folder in their command lines.

`report` runs all of it, as the command does; without, what is above the engine (the report, torch) is left out.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from optuna.trial import TrialState

from shvit_pl.sweep.definition import Definition, write_record
from shvit_pl.sweep.engine.driver import Driver, Launch
from shvit_pl.sweep.engine.local import LocalEngine
from shvit_pl.sweep.engine.study import open_study
from shvit_pl.sweep.options import SweepOptions
from shvit_pl.sweep.processes import kill_on_parent_exit, only_driver
from shvit_pl.sweep.watch import LiveTable

ROOT = Path(__file__).parents[3]
FAKE = (sys.executable, str(Path(__file__).with_name("fake_fit.py")))
RUN = "--run_name="  # in the command line of a run


@dataclass
class Sweep:
    """What is swept, where and how."""

    folder: str
    points: int = 10
    workers: int = 4
    gpus: list[str] = field(default_factory=list)
    retries: int = 1000
    timeout: float | None = None  # minutes
    engine: str = "local"
    address: str | None = None  # of a Ray cluster
    handover: float = 60.0  # seconds between two deliveries of a node that does not share the folder
    nodes: int = 1  # of each run
    time: str | None = None  # of a SLURM job
    report: bool = False
    seconds: float = 1.0
    trouble: dict[str, tuple[str, int]] = field(default_factory=dict)
    choices: list[float] = field(default_factory=list)  # of a search

    @property
    def definition(self):
        if self.choices:
            search = {"sampler": "random", "pruner": "none", "space": {"model.optim.lr": self.choices}}
            cells = {f"lr {number}": {} for number in range(self.points)}
            return Definition("search", cells, (0,), {"val/acc1": "max"}, {}, search)
        cells = {f"lr {number}": {"model.optim.lr": number / 100} for number in range(self.points)}
        return Definition("grid", cells, (0,), {"val/acc1": "max"}, {})

    @property
    def ledger(self):
        """Beside the folder, so that a name of it in a command line is a process of the sweep."""
        return Path(f"{self.folder}.ledger")

    @property
    def output(self):
        return Path(f"{self.folder}.out")

    def lines(self, event):
        """What the runs wrote into the ledger about one kind of event."""
        text = self.ledger.read_text() if self.ledger.exists() else ""
        return [line for line in map(json.loads, text.splitlines()) if line["event"] == event]

    def log(self, number):
        return (Path(self.folder) / "logs" / f"lr-{number}_seed-0.log").read_text()

    def study(self):
        return open_study(Path(self.folder), self.definition)

    def start(self):
        """Start a driver; what it prints is added to `output`."""
        self.ask()
        with self.output.open("a") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "tests.sweep.engine.launch", json.dumps(asdict(self))],
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=kill_on_parent_exit(),  # should the tests be killed
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )

    def run(self):
        """Run a driver in this process; returns its exit code."""
        self.ask()
        try:
            return main(self)
        except SystemExit as stop:
            return stop.code

    def ask(self):
        """Tell the runs what to do."""
        self.ledger.with_suffix(".asked").write_text(json.dumps({"seconds": self.seconds, "trouble": self.trouble}))


def processes_of(folder, kind=""):
    """Ids of the living processes of a sweep, of one kind or all."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        with suppress(OSError):
            command = (entry / "cmdline").read_bytes().decode(errors="replace")
            is_dead = (entry / "stat").read_text().rpartition(")")[2].split()[0] in "ZX"
            if f"{folder}" in command and kind in command and not is_dead:
                found.append(int(entry.name))
    return found


def kill(process):
    """Kill a process if it is there."""
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)


def wait_until(condition, seconds=20.0):
    """Whether it came to be so in that time."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


def running(sweep, count):
    """Whether so many runs have begun to train."""
    return wait_until(lambda: len(list(Path(sweep.folder).glob("runs/*/*/checkpoints/last.ckpt"))) >= count, 120)


def assert_done_once(sweep):
    """Every point is done exactly once, says the study, the folders and the ledger; nothing runs, nothing is torn."""
    points = sweep.definition.points
    trials = sweep.study().trials()
    complete = Counter(trial.user_attrs["key"] for trial in trials if trial.state == TrialState.COMPLETE)
    assert complete == dict.fromkeys(points, 1)
    assert not [trial for trial in trials if not trial.state.is_finished()]
    summaries = [path.parts[-3] for path in Path(sweep.folder).glob("runs/*/version_*/summary.json")]
    assert sorted(summaries) == sorted(points)
    assert set(Counter(line["key"] for line in sweep.lines("done")).values()) == {1}
    assert sweep.lines("overlap") == []
    assert wait_until(lambda: not processes_of(sweep.folder), 5), "orphans"
    journal = (Path(sweep.folder) / "study.journal").read_bytes()
    assert journal.endswith(b"\n")
    assert all(json.loads(line) for line in journal.splitlines())


def main(sweep):
    folder = Path(sweep.folder)
    folder.mkdir(parents=True, exist_ok=True)
    where = {"engine": sweep.engine.removesuffix("-local"), "address": sweep.address, "nodes_per_run": sweep.nodes}
    ending = {"retries": sweep.retries, "timeout": sweep.timeout, "time": sweep.time}
    options = SweepOptions(**where, **ending, workers=sweep.workers or None, speed=False, plain=True)
    program = ("env", f"PYTHONPATH={ROOT}", f"LEDGER={sweep.ledger}", *FAKE)
    base = [f"--trainer.num_nodes={sweep.nodes}"] if sweep.nodes > 1 else []
    launch, engine = Launch(folder, base, program), engine_of(sweep, options)
    if sweep.report:
        from shvit_pl.sweep.start import run_sweep

        return run_sweep(sweep.definition, launch, engine, options, ["shvit-pl", "sweep"])
    with closing(engine), only_driver(folder):
        write_record(folder, sweep.definition, [])
        study = sweep.study()
        study.reset_faults()
        with LiveTable(folder, plain=True) as table:
            status = Driver(study, sweep.definition, launch, engine, options).drive(table.show)
    return 1 if status.failed else 0


def engine_of(sweep, options):
    if sweep.engine == "local":
        return LocalEngine([sweep.gpus[slot % 2] if sweep.gpus else None for slot in range(sweep.workers)])
    if sweep.engine == "slurm":
        from shvit_pl.sweep.engine.slurm_engine import SlurmEngine

        return SlurmEngine(options, Path(sweep.folder))
    if sweep.engine == "slurm-local":
        from tests.sweep.engine.slurm_cluster import WithoutSlurm

        return WithoutSlurm(options, Path(sweep.folder))
    from shvit_pl.sweep.engine import ray_engine

    ray_engine._HANDOVER = sweep.handover
    return ray_engine.RayEngine(options, Path(sweep.folder), [])


if __name__ == "__main__":
    sys.exit(main(Sweep(**json.loads(sys.argv[1]))))
