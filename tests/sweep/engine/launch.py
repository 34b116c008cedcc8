"""The driver of a sweep as a process of its own, on points whose `fit` is the one of these tests.

`report` runs all of it, as the command does; without, what is above the engine (the report, torch) is left out.
"""

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

from shvit_pl.sweep.engine.driver import Driver, Launch
from shvit_pl.sweep.engine.reading import Place
from shvit_pl.sweep.engine.storage import open_storage
from shvit_pl.sweep.engine.sweep_study import SweepStudy
from shvit_pl.sweep.options import Options
from shvit_pl.sweep.plan.definition import Definition
from shvit_pl.sweep.processes import kill_on_parent_exit
from shvit_pl.sweep.watch import LiveTable

ROOT = Path(__file__).parents[3]
FAKE = (sys.executable, str(Path(__file__).with_name("fake_fit.py")))
STUDY = "numbers"


@dataclass
class Sweep:
    """What is swept, where and how."""

    folder: str
    storage: str | None = None
    points: int = 10
    workers: int = 4
    gpus: list[str] = field(default_factory=list)
    retries: int = 1000
    heartbeat: float = 0.5
    wait: bool = True
    report: bool = False
    trouble: dict[str, object] = field(default_factory=dict)

    @property
    def definition(self):
        cells = {f"lr {number}": {"model.optim.lr": number / 100} for number in range(self.points)}
        return Definition("grid", cells, (0,), {"val/acc1": "max"}, {})

    @property
    def ledger(self):
        """Beside the folder, so that a name of it in a command line is a process of the sweep."""
        return Path(f"{self.folder}.ledger")

    @property
    def output(self):
        return Path(f"{self.folder}.out")

    def lines(self, event=None):
        """What the runs wrote into the ledger."""
        lines = [json.loads(line) for line in self.ledger.read_text().splitlines()] if self.ledger.exists() else []
        return [line for line in lines if event in (None, line["event"])]

    def study(self):
        return SweepStudy(open_storage(Path(self.folder), self.storage), STUDY)

    def start(self, **environment):
        """Start a driver; what it prints is added to `output`."""
        trouble = json.dumps({"ledger": str(self.ledger), **self.trouble})
        with self.output.open("a") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "tests.sweep.engine.launch", json.dumps(asdict(self))],
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=kill_on_parent_exit(),  # should the tests be killed
                env={**os.environ, "PYTHONPATH": str(ROOT), "FAKE_FIT": trouble, **environment},
            )


def main(sweep):
    place = Place(Path(sweep.folder), sweep.storage, STUDY)
    slots = [sweep.gpus[slot % 2] if sweep.gpus else None for slot in range(sweep.workers)]
    launch = Launch(place, (), slots, FAKE)
    options = Options(retries=sweep.retries, heartbeat=sweep.heartbeat, wait=sweep.wait, speed=False, plain=True)
    if sweep.report:
        from shvit_pl.sweep.start import run_sweep

        return run_sweep(sweep.definition, launch, options, ["shvit-pl", "sweep"])
    place.folder.mkdir(parents=True, exist_ok=True)
    study = SweepStudy(open_storage(place.folder, place.storage), STUDY, ["max"])
    study.record(sweep.definition, "--folder")
    study.forgive()
    with LiveTable(place.folder, plain=True) as table:
        status = Driver(study, launch, options).drive(sweep.definition, table.show)
    return 1 if status.failed else 0


if __name__ == "__main__":
    sys.exit(main(Sweep(**json.loads(sys.argv[1]))))
