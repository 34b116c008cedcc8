"""The flags of `sweep` itself; all others are flags of `fit`."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from jsonargparse.typing import NonNegativeInt, PositiveFloat, PositiveInt

from shvit_pl.command_line.parser import read_options
from shvit_pl.errors import refuse


@dataclass(frozen=True)
class Options:
    """Flags of `shvit-pl sweep`."""

    config: list[str] = field(default_factory=list)
    """The sweep file, which has grid, list or search; several --config are configs of fit too, later ones win."""
    folder: str | None = None
    """The sweep folder: study, runs, report (default: sweeps/NAME of the sweep file)."""
    workers: PositiveInt | None = None
    """Runs at a time (default: one per GPU, or one on a CPU)."""
    gpus: str | None = None
    """GPUs to hand out one by one, such as 0,1,2 (default: all that are visible)."""
    per_gpu: PositiveInt = 1
    """Workers on each GPU."""
    retries: NonNegativeInt = 1
    """Number of times that a run which fails is tried again."""
    storage: str | None = None
    """URL of a database for many machines, such as postgresql://user@host/database (default: a journal file in the
    sweep folder)."""
    study: str | None = None
    """Name of the study in that database (default: the folder's name)."""
    heartbeat: PositiveFloat = 10.0
    """Heartbeat interval in seconds; a run is taken over after six missed heartbeats."""
    wait: bool = True
    """Stay until runs of other machines have ended too, to take them over if need be (default: true)."""
    speed: bool = True
    """Measure inference when all runs are done (default: true)."""
    dry_run: bool = False
    """Print the runs with their cost and time, and start nothing."""
    plain: bool = False
    """Plain lines for log files instead of a live table."""

    def __post_init__(self) -> None:
        """Raise `UserError` for an empty folder, and GPUs that are no numbers."""
        mistakes = ["--folder '': give a folder, such as sweeps/macro."] if self.folder == "" else []
        if not all(map(str.isdecimal, self.gpu_numbers)):
            mistakes.append(f"--gpus {self.gpus!r}: allowed are numbers, such as 0,1,2.")
        refuse(mistakes)

    @property
    def gpu_numbers(self) -> list[str]:
        """The numbers in `gpus`; empty where it is not given."""
        return [number.strip() for number in self.gpus.split(",")] if self.gpus is not None else []


def read_sweep_options(args: Sequence[str]) -> tuple[Options, list[str]]:
    """Split the command line of `sweep` into its options and what is left for `fit`."""
    rest: list[str] = []
    options = read_options(
        Options,
        args,
        command="sweep",
        description="Run fit once for every cell and seed of a sweep file (--config my.yaml), and write a page that "
        "compares them.",
        epilog="--wait false and --speed false turn these off. All flags of fit are accepted too, and further --config "
        "for it: shvit-pl fit --help.",
        rest=rest,
    )
    return options, rest
