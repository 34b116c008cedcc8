"""`shvit-pl analyze runtime`: its flags; its help and its mistakes in flags wait for no heavy import."""

from __future__ import annotations

from shvit_pl.analysis.measuring import add_flags, checked
from shvit_pl.analysis.runtime.scope import SCOPES
from shvit_pl.command_line.parser import OneLineErrors
from shvit_pl.deploy.flags import one_of

DEFAULT = ("timm:swin_tiny_patch4_window7_224", "timm:deit_tiny_patch16_224", "s2")  # the attention of Fig. 7


def run(args: list[str]) -> None:
    """Run the study; `args` begin with its name."""
    given = _parser().parse_args(args[1:])
    asked, scope = checked(given), one_of("--scope", given.scope, SCOPES)
    from shvit_pl.command_line.quiet import quiet

    quiet()
    from shvit_pl.analysis.runtime.start import start

    start(asked, scope, ["shvit-pl", "analyze", *args])


def _parser() -> OneLineErrors:
    parser = OneLineErrors(
        prog="shvit-pl analyze runtime",
        description="Where the time of attention goes: matrix products, elementwise operations, normalisation, copies "
        "and reshapes, beside the paper's Fig. 7.",
        epilog="From torch.profiler: on a CPU the time in each operator, on a GPU that of its kernels. Fused attention "
        "is switched off, for it is one operator.",
    )
    models = "a design (s1), run folder, checkpoint, Hub repo or timm:NAME"
    parser.add_argument("models", type=str, nargs="*", default=list(DEFAULT), metavar="MODEL", help=models)
    parser.add_argument(
        "--scope",
        type=str,
        default="attention",
        help="attention (what its blocks do but for their FFNs) or network",
    )
    add_flags(parser, "runtime")
    return parser
