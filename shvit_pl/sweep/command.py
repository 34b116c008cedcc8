"""`shvit-pl sweep`: `fit` for every point of a sweep file, each exactly once; and `shvit-pl report`."""

from dataclasses import dataclass

from shvit_pl.command_line.parser import check_extra, read_options
from shvit_pl.errors import refuse
from shvit_pl.sweep.options import read_sweep_options


def run(args: list[str]) -> None:
    """Run `sweep`; its help needs no heavy import."""
    options, flags, mistakes = read_sweep_options(args[1:])
    check_extra("sweep", "sweep")
    from shvit_pl.command_line.quiet import quiet

    quiet()
    from shvit_pl.sweep.start import start

    start(options, flags, ["shvit-pl", *args], mistakes)


@dataclass(frozen=True)
class ReportOptions:
    """The flags of `shvit-pl report`."""

    folder: str
    """The sweep folder, such as sweeps/macro."""

    def __post_init__(self) -> None:
        refuse(["--folder '': give the folder of a sweep, such as sweeps/macro."] if self.folder == "" else [])


def report(args: list[str]) -> None:
    """Run `report`; raises `UserError` for a folder that is no sweep's, or has no study."""
    description = "Write the report of a sweep (report.html, results.csv, results.md, figures), also while it runs."
    options = read_options(ReportOptions, args[1:], command="report", description=description)
    check_extra("report", "sweep")
    from shvit_pl.sweep.finish import report_on

    report_on(options.folder)
