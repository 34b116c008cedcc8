"""`shvit-pl benchmark`: networks measured side by side in one process."""

from __future__ import annotations

from typing import Any

from shvit_pl.command_line.parser import OneLineErrors
from shvit_pl.deploy.benchmark.options import MODES, checked


def run(args: list[str]) -> None:
    """Run the command; its help and its mistakes in flags wait for no heavy import."""
    options = checked(_parser().parse_args(args[1:]))
    from shvit_pl.command_line.quiet import quiet

    quiet()
    from shvit_pl.deploy.benchmark.start import start

    start(options, ["shvit-pl", *args])


def _parser() -> OneLineErrors:
    parser = OneLineErrors(
        prog="shvit-pl benchmark",
        description="Measure networks side by side: milliseconds, images per second, memory, and ratios to the first.",
        epilog="Lists have commas. Modes: official (traced, as speed_test.py of the official code), eager (fused, "
        "channels-last), compiled (the same by torch.compile; reduce-overhead and max-autotune are its modes), "
        "optimized (shvit_pl.deploy.optimize).",
    )
    add = parser.add_argument
    models = "a design (s1), run folder, checkpoint, Hub repo (user/name) or timm:NAME"
    add("models", type=str, nargs="+", metavar="MODEL", help=models)
    add("--device", type=str, default="auto", help="auto, cpu, cuda, cuda:1 or mps")
    add("--batch_size", "--batch-size", type=str, help="images, such as 1,32 (default: 256 on a GPU, 16 on a CPU)")
    add("--image_size", "--image-size", type=str, help="pixels, such as 224,512 (default: each network's own)")
    add("--mode", type=str, help=f"of {','.join(MODES)} (default: eager,optimized; --train: eager)")
    add("--optimize", action="store_true", help="take optimized among the modes")
    add("--dtype", type=str, help="of fp32,bf16,fp16 (default: fp32; official has its own)")
    add("--runtime", type=str, help="of torch,onnx (default: torch)")
    add("--train", action="store_true", help="steps of training: mixing, forward, backward, clipping, AdamW, average")
    _add_timing(parser)
    add("--weights", choices=["raw", "ema"], help="of checkpoints (default: those that their run watched)")
    add("--output", type=str, default="benchmark", help="folder of the results; an earlier one alike is replaced")
    add("--compare", type=str, help="folder of an earlier benchmark, under the same conditions, to compare with")
    return parser


def _add_timing(parser: Any) -> None:
    add = parser.add_argument
    add(
        "--protocol",
        choices=["interleaved", "official"],
        default="interleaved",
        help="how to time; official does all that the official speed_test.py does",
    )
    add("--threads", type=int, help="of a CPU (default: torch's; official: 1)")
    add("--blocks", type=int, help="measurements of each, from 5 (default: 7)")
    add("--seconds", type=float, help="of one block (default: 0.5), or of the official timing (60)")
    add("--warm_up", "--warm-up", type=float, help="seconds of the official warm-up (default: 10)")
