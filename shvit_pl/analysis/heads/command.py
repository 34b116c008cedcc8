"""`shvit-pl analyze heads`: how alike a network's heads of attention are, and what each one is worth."""

from __future__ import annotations

from shvit_pl.analysis.heads.request import read_request
from shvit_pl.command_line.parser import OneLineErrors


def run(args: list[str]) -> None:
    """Run the command; its help and its mistakes in flags wait for no heavy import."""
    request = read_request(_parser().parse_args(args[1:]))
    from shvit_pl.command_line.quiet import quiet

    quiet()
    from shvit_pl.analysis.heads.study import study
    from shvit_pl.analysis.heads.subject import open_subject

    study(open_subject(request), request, ["shvit-pl", "analyze", *args])


def _parser() -> OneLineErrors:
    parser = OneLineErrors(
        prog="shvit-pl analyze heads",
        description="Look into the heads of attention, as the paper's Figures 3 and 4 do: how similar the attention "
        "maps of a layer's heads are, what top-1 is without one head and with one alone, and what they attend to.",
        epilog="The same command goes on where it was stopped.",
    )
    add = parser.add_argument
    add("network", metavar="NETWORK", type=str, help="timm:NAME, a run folder, checkpoint, Hub repo or design")
    add("--pretrained", action="store_true", help="timm:NAME with timm's weights (default: fresh ones)")
    add("--checkpoint", type=str, help="timm:NAME with the weights of this file")
    add("--model_kwargs", "--model-kwargs", type=dict, default={}, help="of timm:NAME, such as '{num_heads: 6}'")
    add("--weights", choices=["raw", "ema"], help="of a run (default: those that its --monitor watched)")
    add("--image_size", "--image-size", type=int, help="side in pixels (default: the network's own)")
    add("--data", type=str, help="the dataset (default: the run's own, else the digits)")
    add("--images", type=int, default=128, help="validation images for similarity and maps (default: the paper's 128)")
    add("--output", type=str, default="heads", help="folder of the results (default: heads)")
    add("--overwrite", action="store_true", help="replace what an earlier study with other settings left in --output")
    add("--device", type=str, default="auto", help="auto, cpu, cuda, cuda:1 or mps")
    add("--batch_size", "--batch-size", type=int, default=32, help="images at once (default: 32)")
    _add_choices(parser)
    return parser


def _add_choices(parser: OneLineErrors) -> None:
    add = parser.add_argument
    add(
        "--vectorise",
        choices=["map", "query"],
        default="map",
        help="cosine of whole maps (default), or the mean cosine of their rows, one per query",
    )
    add(
        "--class_token",
        "--class-token",
        choices=["keep", "drop"],
        default="keep",
        help="whether the maps keep the class token's row and column (default: keep)",
    )
    add("--ablation_images", "--ablation-images", type=int, help="validation images for top-1 (default: all)")
    add(
        "--labels",
        choices=["dataset", "network"],
        help="what top-1 is measured against: the dataset's labels, or what the intact network says (default: the "
        "dataset's where its classes are the network's)",
    )
    add("--query", type=str, help="ROW,COL from 0, in the first layer's grid, whose maps are drawn (default: central)")
    add("--image", type=int, help="draw the maps on this one of --images, from 0 (default: their mean over all)")
