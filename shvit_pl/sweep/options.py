"""The flags of `shvit-pl sweep`."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from shvit_pl.command_line.parser import own_args, read_options
from shvit_pl.command_line.ranges import FromOne, FromZero, Positive
from shvit_pl.errors import collected, refuse


@dataclass(frozen=True)
class SweepOptions:
    """Flags of `shvit-pl sweep`; all others are flags of `fit`."""

    config: list[str] = field(default_factory=list)
    """The sweep file, which has grid, list or search; other --config are configs of fit, later ones win."""
    folder: str | None = None
    """Folder of the sweep, with its study, runs and report (default: sweeps/NAME of the sweep file)."""
    workers: FromOne | None = None
    """Number of parallel runs (default: one per GPU, or one on a CPU)."""
    gpus: str | None = None
    """GPUs to use, such as 0,1,2; each worker gets one (default: all that are visible)."""
    per_gpu: FromOne = 1
    """Workers per GPU."""
    retries: FromZero = 1
    """Retries of a failed run."""
    storage: str | None = None
    """URL of a database for several machines, such as postgresql://user@host/database (default: a journal file in the
    sweep folder)."""
    study: str | None = None
    """Name of the study in the database (default: the folder's name)."""
    heartbeat: Positive = 10.0
    """Heartbeat interval in seconds; after six missed heartbeats, another worker takes over the run."""
    wait: bool = True
    """At the end, wait for the runs of other machines, and take over lost ones (default: true)."""
    speed: bool = True
    """Measure inference speed when all runs are done (default: true)."""
    dry_run: bool = False
    """Print the cells with their cost and estimated time, without running them."""
    plain: bool = False
    """Plain lines for log files instead of a live table."""

    def __post_init__(self) -> None:
        """Raise `UserError` for empty names, a storage that is no database's URL, and GPUs that are no numbers."""
        mistakes = [*storage_mistakes(self.storage)]
        if self.folder == "":
            mistakes.append("--folder '': give a folder, such as sweeps/macro.")
        if self.study == "":
            mistakes.append("--study '': give a name, such as macro, or leave it out for the folder's name.")
        if not all(map(str.isdecimal, self.gpu_numbers)) or len(set(self.gpu_numbers)) < len(self.gpu_numbers):
            mistakes.append(f"--gpus {self.gpus!r}: allowed are different numbers, such as 0,1,2 (see --per_gpu).")
        refuse(mistakes)

    @property
    def gpu_numbers(self) -> list[str]:
        """The numbers in `gpus`; empty where it is not given."""
        return [number.strip() for number in self.gpus.split(",")] if self.gpus is not None else []


def storage_mistakes(storage: str | None) -> Iterator[str]:
    """Yield a message where a database's URL is wrong, without its password."""
    shown = re.sub(":[^:/@]*@", "@", storage or "")
    if storage is not None and "://" not in storage:
        allowed = "a database's URL, such as postgresql://user@host/database"
        yield f"--storage {shown!r}: allowed is {allowed}; give one, or leave it out."
    elif shown.startswith("sqlite"):
        reason = "SQLite can give one trial to two workers"
        yield f"--storage {shown}: {reason}; leave it out (a journal file), or give postgresql://USER@HOST/DATABASE."
    elif shown.startswith("postgres:"):
        yield f"--storage {shown}: write postgresql{shown.removeprefix('postgres')}."


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
