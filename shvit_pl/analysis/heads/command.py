"""`shvit-pl analyze heads`: how alike a network's heads of attention are, and what each one is worth."""

from __future__ import annotations

from shvit_pl.analysis.options import HeadsOptions
from shvit_pl.command_line.parser import read_options


def run(args: list[str]) -> None:
    """Run the command; its help and its mistakes in flags wait for no heavy import."""
    options = read_options(
        HeadsOptions,
        args[1:],
        command="analyze heads",
        description="Look into the heads of attention, as the paper's Figures 3 and 4 do: how similar the attention "
        "maps of a layer's heads are, what top-1 is without one head and with one alone, and what they attend to.",
        positional=["network"],
    )
    from shvit_pl.command_line.quiet import quiet

    quiet()
    from shvit_pl.analysis.heads.study import study
    from shvit_pl.analysis.heads.subject import open_subject

    study(open_subject(options), ["shvit-pl", "analyze", *args])
