"""`shvit-pl soup`: its help and mistakes in flags need no heavy import."""

import shlex

from shvit_pl.command_line.parser import read_options
from shvit_pl.fit.soup.options import SoupOptions


def run(args: list[str]) -> None:
    """Run the command; its help waits for no heavy import."""
    options = read_options(
        SoupOptions,
        args[1:],
        command="soup",
        description="Average the weights of several runs (Wortsman et al. 2022), and validate the average.",
        epilog="For runs that began with the same weights (--model.init_from); others seldom have a good average.",
        positional=("runs",),
    )
    from shvit_pl.command_line.quiet import hide_bars, quiet

    quiet()
    if options.plain:
        hide_bars()
    from shvit_pl.deploy.measuring import num_threads
    from shvit_pl.fit.soup.making import make_soup

    with num_threads(options.threads):
        make_soup(options, shlex.join(["shvit-pl", *args]))
