"""`shvit-pl export`: a run, a repo of the Hub or a design becomes a file that other programs run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shvit_pl.command_line.checks import check_extra
from shvit_pl.command_line.parser import read_options
from shvit_pl.deploy.export.options import ExportOptions
from shvit_pl.errors import UserError

if TYPE_CHECKING:
    from shvit_pl.models.open_network import OpenedNetwork


def run(args: list[str]) -> None:
    """Run the command; its help and mistakes in flags need no heavy import."""
    options = read_options(
        ExportOptions,
        args[1:],
        command="export",
        description="Write a network for other programs: fused, verified by running the file on real images.",
        positional=["network"],
    )
    if options.spec.extra is not None:
        check_extra(f"--format {options.format}", options.spec.extra)
    from shvit_pl.command_line.quiet import quiet

    quiet()
    from shvit_pl.deploy.export.export import export

    export(_open(options), options)


def _open(options: ExportOptions) -> OpenedNetwork:
    from shvit_pl.deploy.passes import check_size
    from shvit_pl.models.open_network import open_network

    opened = open_network(options.network, options.averaged, options.pretrained)
    if options.image_size is not None:
        check_size(opened, options.image_size)
    if options.int8 and opened.fresh:
        raise UserError(
            f"--int8: the weights of {opened.name!r} are fresh, so its accuracy means nothing; give a run folder, a "
            "checkpoint or a Hub repo."
        )
    return opened
