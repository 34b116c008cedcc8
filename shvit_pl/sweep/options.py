"""The flags of `sweep` itself; all others are flags of `fit`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from shvit_pl.command_line.parser import OneLineErrors
from shvit_pl.errors import UserError

_CONFIG = ("--config", "-c")


@dataclass(frozen=True)
class Options:
    """How a sweep is run.

    Attributes:
        folder: The sweep folder: study, runs, report (default: sweeps/NAME of the sweep file).
        workers: Runs at a time (default: one per GPU, or one on a CPU).
        gpus: GPUs to hand out one by one, such as 0,1,2 (default: all that are visible).
        per_gpu: Workers on each GPU.
        retries: How often a run that fails is tried again.
        storage: URL of a database for many machines, such as postgresql://user@host/database (default: a journal
            file in the sweep folder).
        study: Name of the study in that database (default: the folder's name).
        heartbeat: Seconds between a worker's signs of life; after six without one, others take its run over.
        wait: Stay until runs of other machines have ended too, to take them over if need be.
        speed: Measure inference when all runs are done.
        dry_run: Print the runs with their cost and time, and start nothing.
        plain: Plain lines for log files instead of a live table.
    """

    folder: str | None = None
    workers: int | None = None
    gpus: str | None = None
    per_gpu: int = 1
    retries: int = 1
    storage: str | None = None
    study: str | None = None
    heartbeat: float = 10.0
    wait: bool = True
    speed: bool = True
    dry_run: bool = False
    plain: bool = False

    @property
    def gpu_numbers(self) -> list[str]:
        """The numbers in `gpus`; empty where it is not given."""
        return [number.strip() for number in self.gpus.split(",")] if self.gpus is not None else []


def read_options(args: Sequence[str]) -> tuple[Options, list[str], list[str]]:
    """Split the command line of `sweep`.

    Returns:
        The options; the values of `--config`; what is left for `fit`.
    """
    own, configs, of_fit = _split(args)
    parser = OneLineErrors(
        prog="shvit-pl sweep",
        description="Run fit once for every cell and seed of a sweep file, and write a page that compares them.",
        epilog="A switch needs no value: --dry-run. Any flag of fit may follow, and further --config for it: "
        "shvit-pl fit --help.",
    )
    parser.add_argument("-c", "--config", help="a sweep file (grid, list or search); further ones are configs of fit")
    parser.add_class_arguments(Options)
    options = parser.instantiate_classes(parser.parse_args(own))
    chosen = Options(**{field.name: options[field.name] for field in fields(Options)})
    _check(chosen)
    return chosen, configs, of_fit


def own_flags() -> set[str]:
    """The names of sweep's own flags."""
    return {field.name for field in fields(Options)} | {"config"}


def _split(args: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    switches = {field.name for field in fields(Options) if field.type == "bool"}
    own: list[str] = []
    configs: list[str] = []
    of_fit: list[str] = []
    rest = list(args)
    while rest:
        arg = rest.pop(0)
        flag, equals, value = arg.partition("=")
        name = flag.removeprefix("--").replace("-", "_")
        if arg in ("-h", "--help"):
            own.append(arg)
        elif flag not in _CONFIG and (not flag.startswith("--") or name not in own_flags()):
            of_fit.append(arg)
        elif not equals and not _is_value(rest):
            own.append(f"--{name}=true" if name in switches else flag)
        elif flag in _CONFIG:
            configs.append(value if equals else rest.pop(0))
        else:
            own.append(f"--{name}={value if equals else rest.pop(0)}")
    return own, configs, of_fit


def _is_value(rest: Sequence[str]) -> bool:
    """Whether the next argument is no flag; a number below 0 is none."""
    return bool(rest) and (not rest[0].startswith("-") or rest[0][1:2].isdecimal())


def _check(options: Options) -> None:
    for name, value, least in (
        ("workers", options.workers, 1),
        ("per_gpu", options.per_gpu, 1),
        ("retries", options.retries, 0),
    ):
        if value is not None and value < least:
            raise UserError(f"--{name} {value}: allowed are whole numbers from {least}.")
    if not options.heartbeat > 0:
        raise UserError(f"--heartbeat {options.heartbeat}: allowed are seconds above 0.")
    if options.folder == "":
        raise UserError("--folder '': give a folder, such as sweeps/macro.")
    if not all(map(str.isdecimal, options.gpu_numbers)):
        raise UserError(f"--gpus {options.gpus!r}: allowed are numbers, such as 0,1,2.")
