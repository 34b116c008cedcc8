"""The flags of `shvit-pl sweep`."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import mul
from typing import Literal

from shvit_pl.command_line.parser import own_args, read_options
from shvit_pl.command_line.ranges import FromOne, FromZero, Positive
from shvit_pl.errors import UserError, collected, refuse

_OF_ENGINE = {"address": "ray", "partition": "slurm", "time": "slurm", "sbatch": "slurm"}  # flags of one engine only
_TIME = r"\d+-\d+(:\d+){0,2}|\d+(:\d+){0,2}"  # as SLURM has it
_OF_SBATCH = {  # options that have a flag, and those that the sweep sets
    "cpus-per-task": "cpus_per_run", "gpus-per-node": "gpus_per_run", "nodes": "nodes_per_run",
    "partition": "partition", "time": "time",
    **dict.fromkeys(("array", "error", "ntasks-per-node", "open-mode", "output", "signal"), ""),
}  # fmt: skip


@dataclass(frozen=True)
class SweepOptions:
    """Flags of `shvit-pl sweep`; all others are flags of `fit`."""

    config: list[str] = field(default_factory=list)
    """The sweep file, which has grid, list or search; other --config are configs of fit, later ones win."""
    folder: str | None = None
    """Folder of the sweep, with its study, runs and report (default: sweeps/NAME of the sweep file)."""
    engine: Literal["local", "ray", "slurm"] = "local"
    """Where runs go: on this computer, on a Ray cluster (extra `ray`), or to SLURM (extra `slurm`)."""
    workers: FromOne | None = None
    """Number of parallel runs (default: as many as there is room for, or one on a CPU; 64 jobs of SLURM)."""
    cpus_per_run: FromOne | None = None
    """CPU cores of a run (default: an equal share of this computer's; one on a cluster without GPUs)."""
    gpus_per_run: Positive | None = None
    """GPUs of a run; a fraction, such as 0.5, for several runs on a GPU (default: 1 where there is one)."""
    nodes_per_run: FromOne = 1
    """Computers of a run, for `ray` and `slurm`."""
    address: str | None = None
    """Ray cluster: auto (of this computer), HOST:PORT, or ray://HOST:PORT (default: start Ray on this computer)."""
    partition: str | None = None
    """SLURM partition (default: SLURM's own)."""
    time: str | None = None
    """Time limit of a SLURM job, as 90 (minutes), 12:00:00 or 2-00 (default: a day, or what the partition allows)."""
    sbatch: list[str] = field(default_factory=list)
    """Further options of sbatch, such as account=vision; the flag may be repeated."""
    gpus: str | None = None
    """GPUs of this computer to use, such as 0,1,2 (default: all that are visible)."""
    timeout: Positive | None = None
    """Minutes after which a run is stopped, and counts as failed."""
    retries: FromZero = 1
    """Retries of a failed run."""
    speed: bool = True
    """Measure inference speed when all runs are done (default: true)."""
    dry_run: bool = False
    """Print the cells with their cost and estimated time, without running them."""
    plain: bool = False
    """Plain lines for log files instead of a live table."""

    def __post_init__(self) -> None:
        """Raise `UserError` for an empty folder, GPUs that are no numbers, and demands that no engine can meet."""
        mistakes = []
        if self.folder == "":
            mistakes.append("--folder '': give a folder, such as sweeps/macro.")
        if not all(map(str.isdecimal, self.gpu_numbers)) or len(set(self.gpu_numbers)) < len(self.gpu_numbers):
            mistakes.append(f"--gpus {self.gpus!r}: allowed are different numbers, such as 0,1,2.")
        share = self.gpus_per_run or 1.0
        if share != int(share) and share > 1:
            mistakes.append(f"--gpus_per_run {share:g}: allowed are whole numbers, and fractions below 1.")
        if self.engine == "local" and self.nodes_per_run > 1:
            reason = "--engine local runs on this computer only"
            mistakes.append(f"--nodes_per_run {self.nodes_per_run}: {reason}; give --engine ray or slurm.")
        if self.engine == "slurm" and share < 1:
            mistakes.append(f"--gpus_per_run {share:g}: SLURM gives whole GPUs; give a whole number.")
        for name, engine in _OF_ENGINE.items():
            if (value := getattr(self, name)) and engine != self.engine:
                text = value if isinstance(value, str) else value[0]
                mistakes.append(f"--{name} {text}: only for --engine {engine}; give that, or leave it out.")
        if self.time is not None and (not re.fullmatch(_TIME, self.time) or slurm_minutes(self.time) == 0):
            mistakes.append(f"--time {self.time}: allowed are minutes above 0, HOURS:MM:SS and DAYS-HOURS.")
        for option in self.sbatch:
            flag = _OF_SBATCH.get(option.partition("=")[0].replace("_", "-"))
            if flag:
                mistakes.append(f"--sbatch {option}: give --{flag} instead.")
            elif flag is not None or not option[:1].isalpha():
                reason = "the sweep sets it itself" if flag == "" else "allowed is NAME=VALUE, such as account=vision"
                mistakes.append(f"--sbatch {option}: {reason}.")
        if self.engine != "local" and self.gpus is not None:
            mistakes.append(f"--gpus {self.gpus}: --engine {self.engine} hands out GPUs itself; leave it out.")
        refuse(mistakes)

    def gpus_of_run(self, devices: object) -> float:
        """Return the GPUs of a run, where there are some; raises `UserError` for another --trainer.devices."""
        asked = str(devices)
        share = self.gpus_per_run or (float(asked) if asked.isdecimal() else 1.0)
        if asked not in ("auto", "-1", f"{max(1.0, share):g}"):
            allowed = f"allowed is {max(1.0, share):g}" if asked.isdecimal() else "allowed is a number"
            raise UserError(
                f"--trainer.devices {asked}: --gpus_per_run gives a run its GPUs; {allowed}, or leave it out."
            )
        return share

    @property
    def gpu_numbers(self) -> list[str]:
        """The numbers in `gpus`; empty where it is not given."""
        return [number.strip() for number in self.gpus.split(",")] if self.gpus is not None else []


def slurm_minutes(text: str) -> int:
    """Return minutes, rounded up, of a time as SLURM writes it: M, M:S, H:M:S, D-H, D-H:M or D-H:M:S."""
    days, _, clock = text.rpartition("-")
    parts = list(map(int, clock.split(":")))
    sizes = (3600, 60, 1) if days or len(parts) == 3 else (60, 1)
    return math.ceil((int(days or 0) * 86400 + sum(map(mul, parts, sizes))) / 60)


def read_sweep_options(args: Sequence[str]) -> tuple[SweepOptions, list[str], list[str]]:
    """Return the options of `sweep`, what is left for `fit`, and all mistakes; with any, only `config` is read."""
    rest, mistakes, options = list[str](), list[str](), SweepOptions()
    with collected(mistakes):
        options = read_options(
            SweepOptions,
            args,
            command="sweep",
            description="Run fit for every cell and seed of a sweep file (--config my.yaml), and write a report that "
            "compares the cells.",
            epilog="All flags of fit are accepted too, and apply to every run: shvit-pl fit --help.",
            rest=rest,
        )
    if mistakes:
        own = [(name, text) for name, text in own_args(SweepOptions, args) if text is not None]
        options = SweepOptions([text for name, text in own if name == "config"])
        rest = [text for name, text in own if not name]
    return options, rest, mistakes
