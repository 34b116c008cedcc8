"""The command `shvit-pl`: a table of commands, each imported when it is called."""

import os
import sys
import traceback
from importlib import import_module
from io import TextIOWrapper
from typing import NamedTuple

from shvit_pl import __version__
from shvit_pl.errors import UserError, did_you_mean, visible
from shvit_pl.files import as_text


class Command(NamedTuple):
    """A command."""

    function: str
    """`module:name` in this package; called with the command's name and all that follows."""
    help: str
    writes: str = "--trainer.default_root_dir"
    """The flag for the folder or file that it writes."""
    parts: tuple[str, ...] = ()
    """Commands of its own, the second word."""


_FIT = "fit.command:run"
COMMANDS = {
    "fit": Command(_FIT, "train a SHViT, or resume with --ckpt_path"),
    "validate": Command(_FIT, "measure a checkpoint on the validation images"),
    "test": Command(_FIT, "measure a checkpoint on the test images"),
    "predict": Command(_FIT, "write predictions.csv for a dataset or a folder of images", "--output"),
    "cache-teacher": Command(_FIT, "run a teacher once, and store its logits for fit", "--model.distill.cache"),
    "sweep": Command(
        "sweep.command:run", "run fit for every cell and seed of a sweep file, and compare them", "--folder"
    ),
    "report": Command("sweep.command:report", "write the page of a sweep, also while it runs", "--folder"),
    "soup": Command("fit.soup.command:run", "average the weights of several runs, and measure the average", "--output"),
    "push": Command("push:run", "push a run, or the best of a sweep, to the Hugging Face Hub", "--output"),
    "benchmark": Command("deploy.command:benchmark", "measure how fast networks are, side by side", "--output"),
    "export": Command(
        "deploy.command:export",
        "write a network as ONNX, torch.export, CoreML or ExecuTorch, and verify it",
        "--output",
    ),
    "analyze": Command(
        "analysis.command:run",
        "analyze networks: attention heads, time by operation, cost by stage",
        "--output",
        ("heads", "runtime", "macro"),
    ),
    "designs": Command("designs.command:run", "print the named designs with parameters, MACs and token grids"),
}


def main(args: list[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, or 2 for a user's mistake."""
    args = sys.argv[1:] if args is None else args
    if isinstance(sys.stdout, TextIOWrapper):  # a name may have what the terminal's encoding lacks
        sys.stdout.reconfigure(errors="backslashreplace")
    if not args or args[0] in ("-h", "--help"):
        width = max(map(len, COMMANDS)) + 2
        rows = "\n".join(f"  {name:<{width}}{command.help}" for name, command in COMMANDS.items())
        print(f"usage: shvit-pl COMMAND [options]\n\n{rows}\n\nshvit-pl COMMAND --help shows a command's options.")
        return 0 if args else 2
    if args[0] == "--version":
        print(f"shvit-pl {__version__}")
        return 0
    if args[0] not in COMMANDS:
        hint = did_you_mean(args[0], COMMANDS)
        print(f"shvit-pl: error: no command {args[0]!r}{hint}; see shvit-pl --help", file=sys.stderr)
        return 2
    odd = [f"argument {arg!r}: not UTF-8. Rename the file or folder." for arg in args if as_text(arg) != arg]
    return _refuse(args[0], "\n".join(odd)) if odd else _run(args)


def _run(args: list[str]) -> int:
    command = COMMANDS[args[0]]
    name = " ".join(args[: 1 + any(part in args[1:2] for part in command.parts)])
    try:
        module, function = command.function.split(":")
        getattr(import_module(f"shvit_pl.{module}"), function)(args)
        sys.stdout.flush()
    except UserError as error:
        if os.environ.get("SHVIT_PL_TRACEBACK"):
            traceback.print_exception(error)
        message = str(error).rsplit("UserError: ", 1)[-1]  # from a worker process it comes with the traceback
        return _refuse(name, message.strip())
    except BrokenPipeError:  # the reader has left, as in `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except ConnectionError:
        raise
    except OSError as error:
        if error.errno is None:  # a library's own, not the system's
            raise
        where = f"{error.filename}: " if error.filename else ""
        return _refuse(name, f"{where}{error.strerror}; make room or get access, or give another {command.writes}.")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except SystemExit as stop:
        if isinstance(stop.__context__, KeyboardInterrupt):  # Lightning's answer to it
            return 130
        return stop.code if isinstance(stop.code, int) else int(bool(stop.code))
    return 0


def _refuse(name: str, message: str) -> int:
    for line in message.splitlines():  # a line for each mistake
        print(f"shvit-pl {name}: error: {visible(line)}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
