"""`shvit-pl designs`: the named designs, or the macro cube around one, with their costs."""

from dataclasses import dataclass

from rich import box
from rich.table import Table

from shvit_pl.command_line.parser import read_options
from shvit_pl.command_line.ranges import FromOne
from shvit_pl.designs.config import resolve_design
from shvit_pl.designs.cost import cost
from shvit_pl.designs.cube import CELLS
from shvit_pl.designs.design import NAMED, field_mistakes
from shvit_pl.display import write_table
from shvit_pl.errors import refuse

_SHORT = {"single_head": "single", "multi_head": "multi"}


@dataclass(frozen=True)
class DesignsOptions:
    """The flags of `shvit-pl designs`."""

    cube: str | None = None
    """Print the macro cube around this design (patch size x stages x stage-1 mixer) instead of all names."""
    image_size: FromOne | None = None
    """Side in pixels at which MACs and grids are stated (default: each design's own)."""
    num_classes: FromOne = 1000
    """Classes of the classifier that is counted."""

    def __post_init__(self) -> None:
        if self.cube is not None:
            refuse(f"--{line}" for line in field_mistakes({"cube": self.cube}, cube=NAMED).values())


def run(args: list[str]) -> None:
    """Print designs with their parameters, multiply-accumulates and token grids; `args` begin with the command."""
    options = read_options(
        DesignsOptions,
        args[1:],
        command="designs",
        description="Print the named designs with their parameters, multiply-accumulates and token grids.",
    )
    cube, image_size, num_classes = options.cube, options.image_size, options.num_classes
    title, rows = "named designs (see also: shvit-pl designs --cube s1)", NAMED
    if cube:
        title = (
            f"macro cube around {cube}: patch_size x stages x stage1\n"
            "held equal: MACs, where stage1 is conv; attention changes the mixer alone, and adds its own cost"
        )
        rows = {" x ".join(map(str, cell.values())): resolve_design(cube, **cell) for cell in CELLS}
    columns = ("design", "patch", "widths", "blocks", "mixers", "px", "tokens")
    table = Table(*columns, box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold")
    for column in ("M params", "MMACs"):
        table.add_column(column, justify="right")
    for name, design in rows.items():
        side = design.image_size if image_size is None else image_size
        total = cost(design, num_classes, side)
        table.add_row(
            name,
            str(design.patch_size),
            "-".join(map(str, design.embed_dim)),
            "-".join(map(str, design.depth)),
            "-".join(_SHORT.get(mixer, mixer) for mixer in design.mixers),
            str(side),
            " ".join(f"{grid}x{grid}" for grid in design.grids(side)),
            f"{total.params / 1e6:.2f}",
            f"{total.macs / 1e6:.1f}",
        )
    write_table(table)
