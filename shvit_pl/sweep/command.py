"""`shvit-pl sweep`: every point of a sweep file, each exactly once, and a page that compares them."""

from __future__ import annotations

from shvit_pl.command_line.checks import check_extra
from shvit_pl.sweep.options import read_options


def run(args: list[str]) -> None:
    """Run the command; its help and its mistakes in flags wait for no heavy import."""
    options, configs, flags = read_options(args[1:])
    check_extra("sweep", "sweep")
    from shvit_pl.command_line.quiet import quiet

    quiet()
    from shvit_pl.sweep.start import start

    start(options, configs, flags, ["shvit-pl", *args])


def report(folder: str, storage: str | None = None) -> None:
    """Write a sweep's report: report.html, results.csv, results.md and figures, in its folder; also while it runs.

    Args:
        folder: The sweep folder.
        storage: URL of the study's database, if the one in sweep.yaml is not to be used.

    Raises:
        UserError: for a folder that is no sweep's, or a study that can't be reached.
    """
    check_extra("report", "sweep")
    from shvit_pl.sweep.finish import report_on

    report_on(folder, storage)
