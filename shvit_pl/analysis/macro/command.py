"""`shvit-pl analyze macro`: its flags; its help and its mistakes in flags wait for no heavy import."""

from __future__ import annotations

from shvit_pl.analysis.measuring import add_flags, checked
from shvit_pl.command_line.parser import OneLineErrors

DEFAULT = ("macro_a", "macro_b")  # of Fig. 2


def run(args: list[str]) -> None:
    """Run the study; `args` begin with its name."""
    asked = checked(_parser().parse_args(args[1:]))
    from shvit_pl.command_line.quiet import quiet

    quiet()
    from shvit_pl.analysis.macro.start import start

    start(asked, ["shvit-pl", "analyze", *args])


def _parser() -> OneLineErrors:
    parser = OneLineErrors(
        prog="shvit-pl analyze macro",
        description="What each stage of a design costs: tokens, MACs, bytes, time and receptive field, and where it "
        "stands below the device's roofline.",
        epilog="The device's peaks are measured: a large matrix product, and a large copy.",
    )
    models = "a design (s1), run folder, checkpoint or Hub repo of ours"
    parser.add_argument("models", type=str, nargs="*", default=list(DEFAULT), metavar="DESIGN", help=models)
    add_flags(parser, "macro")
    return parser
