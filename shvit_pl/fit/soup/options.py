"""The flags of `shvit-pl soup`, read without torch."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from shvit_pl.command_line.ranges import FromOne, Threads
from shvit_pl.deploy.options import CheckedOptions, mistakes_here

Method = Literal["greedy", "uniform"]


@dataclass(frozen=True, kw_only=True)
class SoupOptions(CheckedOptions):
    """The flags of `shvit-pl soup`."""

    runs: tuple[str, ...]
    """Run folders of one design and dataset, such as runs/s1/version_0."""
    method: Method = "greedy"
    """greedy (the best run, then each that does not make the average worse) or uniform (all of them)."""
    bn_batches: FromOne = 200
    """Training batches, at most, on which BatchNorm's statistics of an average are measured anew."""
    output: str | None = None
    """The soup's run folder (default: soup/version_<k> beside the first run's folder of runs)."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps."""
    threads: Threads | None = None
    """CPU threads, at most one per core (default: torch's)."""
    plain: bool = False
    """Print plain lines, without bars and rules."""

    def mistakes(self) -> Iterator[str]:
        """Yield a message for each mistake."""
        if self.output == "":
            yield "--output '': give a folder, or leave it out."
        places: dict[Path, str] = {}
        for run in self.runs:
            place = Path(run).expanduser().resolve()
            if place in places:
                yield f"runs {run!r}: given twice, and it would count double in the average; give each run once."
            places.setdefault(place, run)
        if len(self.runs) == 1:
            yield f"runs {self.runs[0]!r}: one run alone has no average; give two run folders or more."
        if self.output and Path(self.output).expanduser().resolve() in places:
            yield f"--output {self.output!r}: it is one of the runs, which would be replaced; give a new folder."
        yield from mistakes_here(self.device)
