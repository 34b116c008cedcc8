"""`shvit-pl sweep`: `fit` for every point of a sweep file, each exactly once, and a page that compares them."""

from __future__ import annotations

from shvit_pl.command_line.checks import check_extra
from shvit_pl.sweep.options import read_options


def run(args: list[str]) -> None:
    """Run the command; its help, and mistakes in its flags, need no heavy import."""
    options, configs, flags = read_options(args[1:])
    check_extra("sweep", "sweep")
    from shvit_pl.command_line.quiet import quiet

    quiet()
    from shvit_pl.sweep.start import start

    start(options, configs, flags, ["shvit-pl", *args])


def report(folder: str, storage: str | None = None) -> None:
    """Write the report of a sweep, also while it runs: report.html, results.csv, results.md and figures in its folder.

    Args:
        folder: The sweep folder.
        storage: URL of the study's database, to be used instead of the one in sweep.yaml.

    Raises:
        UserError: for a folder without a sweep, or a study that can't be reached.
    """
    check_extra("report", "sweep")
    from shvit_pl.sweep.finish import report_on

    report_on(folder, storage)
