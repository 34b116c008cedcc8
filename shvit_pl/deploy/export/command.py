"""`shvit-pl export`: a run, a repo of the Hub or a design becomes a file that other programs run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shvit_pl.command_line.checks import check_extra
from shvit_pl.command_line.parser import OneLineErrors
from shvit_pl.deploy.export.formats import FORMATS
from shvit_pl.deploy.export.request import OPSETS, read_request
from shvit_pl.deploy.flags import AVERAGED
from shvit_pl.errors import UserError

if TYPE_CHECKING:
    from shvit_pl.models.open_network import OpenedNetwork


def run(args: list[str]) -> None:
    """Run the command; its help and its mistakes in flags wait for no heavy import."""
    request = read_request(_parser().parse_args(args[1:]))
    if request.format.extra is not None:
        check_extra(f"--format {request.name}", request.format.extra)
    from shvit_pl.command_line.quiet import quiet

    quiet()
    from shvit_pl.deploy.export.export import export

    opened = _open(request.options)
    if request.options.int8:
        _check_trained(opened)
    export(opened, request)


def _open(options: Any) -> OpenedNetwork:
    from shvit_pl.deploy.passes import check_size
    from shvit_pl.models.open_network import open_network

    opened = open_network(options.network, AVERAGED[options.weights], options.pretrained)
    if options.image_size is not None:
        check_size(opened, options.image_size)
    return opened


def _check_trained(opened: OpenedNetwork) -> None:
    if opened.fresh:
        raise UserError(
            f"--int8: the weights of {opened.name!r} are fresh, so int8 has nothing to be measured by; give a run "
            "folder, a checkpoint or a Hub repo."
        )


def _parser() -> OneLineErrors:
    parser = OneLineErrors(
        prog="shvit-pl export",
        description="Write a network for other programs: fused, verified by running the file on real images.",
    )
    add = parser.add_argument
    add("network", type=str, help="a run folder, a checkpoint, a Hub repo (hf-hub:user/name), a design, or timm:NAME")
    add("--format", choices=list(FORMATS), required=True, help="what to write")
    add("--output", type=str, help="the file (default: model in a run folder, else the network's name here)")
    add("--weights", choices=["raw", "ema"], help="of a run (default: those that its --monitor watched)")
    add("--pretrained", action="store_true", help="timm:NAME with timm's weights")
    add("--image_size", "--image-size", type=int, help="side in pixels (default: the network's own)")
    add(
        "--normalise", "--normalize", action="store_true", help="the graph takes pixels from 0 to 1 and normalises them"
    )
    add("--softmax", action="store_true", help="the graph gives probabilities instead of logits")
    add("--dtype", choices=["fp32", "fp16"], help="what the graph computes in (default: fp32; coreml fp16)")
    add("--batch_size", "--batch-size", type=int, help="a fixed batch (default: any; coreml and executorch: 1)")
    add("--opset", type=int, help=f"of onnx: {OPSETS[0]} (default) to {OPSETS[-1]}")
    add("--tolerance", type=float, help="greatest difference, as a share of the largest output (1e-4; fp16 2e-2)")
    add("--int8", action="store_true", help="of onnx: convolutions in int8, with top-1 and speed beside those of float")
    add("--int8_tolerance", "--int8-tolerance", type=float, help="points of top-1 that int8 may cost (default: 1)")
    add("--data", type=str, help="images for --int8 (default: the run's own dataset, else the digits)")
    return parser
