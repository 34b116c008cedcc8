"""The command `shvit-pl`: a table of commands, each imported when it is called."""

from __future__ import annotations

import os
import sys
from importlib import import_module

from shvit_pl import __version__
from shvit_pl.errors import UserError, did_you_mean, system_error

LIGHTNING = "shvit_pl.fit.command:run"
CACHE_TEACHER = "shvit_pl.fit.cache_teacher:run"
SWEEP = "shvit_pl.sweep.command:run"
PUSH = "shvit_pl.push:run"
BENCHMARK = "shvit_pl.deploy.benchmark.command:run"
EXPORT = "shvit_pl.deploy.export.command:run"
ANALYZE = "shvit_pl.analysis.command:run"

COMMANDS = {
    "fit": (LIGHTNING, "train a SHViT, or go on with --ckpt_path"),
    "validate": (LIGHTNING, "measure a checkpoint on the validation images"),
    "test": (LIGHTNING, "measure a checkpoint on the test images"),
    "predict": (LIGHTNING, "write predictions.csv for a dataset or a folder of images"),
    "cache-teacher": (CACHE_TEACHER, "run a teacher once, and keep its answers for fit"),
    "sweep": (SWEEP, "run fit for every cell and seed of a sweep file, and compare them"),
    "report": ("shvit_pl.sweep.command:report", "write the page of a sweep, also while it runs"),
    "push": (PUSH, "push a run, or the best of a sweep, to the Hugging Face Hub"),
    "benchmark": (BENCHMARK, "measure how fast networks are, side by side"),
    "export": (EXPORT, "write a network as ONNX, torch.export, CoreML, ExecuTorch or TorchScript, and verify it"),
    "analyze": (ANALYZE, "look into networks: what their heads, their time and their stages are worth"),
    "designs": ("shvit_pl.designs.table:designs", "print the named designs with parameters, MACs and token grids"),
}

_RAW = (LIGHTNING, CACHE_TEACHER, SWEEP, PUSH, BENCHMARK, EXPORT, ANALYZE)  # take their arguments as they are
_WRITTEN = {  # else in runs
    "predict": "--output",
    "cache-teacher": "--model.distill.cache",
    "sweep": "--folder",
    "report": "--folder",
    "push": "--output",
    "benchmark": "--output",
    "export": "--output",
    "analyze": "--output",
}


def main(args: list[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, or 2 for a user's mistake."""
    args = sys.argv[1:] if args is None else args
    if not args or args[0] in ("-h", "--help"):
        print(_help())
        return 0 if args else 2
    if args[0] == "--version":
        print(f"shvit-pl {__version__}")
        return 0
    if args[0] not in COMMANDS:
        hint = did_you_mean(args[0], COMMANDS)
        print(f"shvit-pl: error: no command {args[0]!r}{hint}; see shvit-pl --help", file=sys.stderr)
        return 2
    return _run(args[0], args)


def _run(command: str, args: list[str]) -> int:
    module, function = COMMANDS[command][0].split(":")
    try:
        if COMMANDS[command][0] in _RAW:
            getattr(import_module(module), function)(args)
        else:
            from shvit_pl.command_line.parser import run_function

            run_function(getattr(import_module(module), function), command, args[1:])
        sys.stdout.flush()
    except UserError as error:
        message = str(error).rsplit("UserError: ", 1)[-1].strip()  # a loader's worker wraps it in a traceback
        print(f"shvit-pl {command}: error: {message}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader has left, as in `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except ConnectionError:
        raise
    except OSError as error:
        if error.errno is None:  # a library's own, not the system's
            raise
        flag = _WRITTEN.get(command, "--trainer.default_root_dir")
        print(f"shvit-pl {command}: error: {system_error(error, flag)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except SystemExit as stop:
        if isinstance(stop.__context__, KeyboardInterrupt):  # Lightning's answer to it
            return 130
        return stop.code if isinstance(stop.code, int) else int(bool(stop.code))
    return 0


def _help() -> str:
    width = max(map(len, COMMANDS)) + 2
    rows = "\n".join(f"  {name:<{width}}{help_}" for name, (_, help_) in COMMANDS.items())
    return f"usage: shvit-pl COMMAND [options]\n\n{rows}\n\nshvit-pl COMMAND --help shows a command's options."


if __name__ == "__main__":
    sys.exit(main())
