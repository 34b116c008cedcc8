"""Starting a sweep, or joining one: check its flags and cells, run what is missing, and report."""

import json
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import fields, replace
from functools import reduce
from pathlib import Path
from signal import SIGINT, SIGTERM
from textwrap import shorten
from typing import NamedTuple

from rich import box

from shvit_pl.command_line.parser import SECTIONS, check_extra, nearest_option, without_flag
from shvit_pl.display import TextTable, new_progress, plain_console, say, write_table
from shvit_pl.errors import UserError, collected, did_you_mean, refuse
from shvit_pl.fit.check import FitCheck, Planned
from shvit_pl.runs.folder import AT_END, EMA, MONITORS, finished_run, read_summary
from shvit_pl.sweep import processes, watch
from shvit_pl.sweep.definition import LOGS, Definition, as_flags, refuse_other, short_names, write_record
from shvit_pl.sweep.engine.driver import Driver, Launch, Terminated
from shvit_pl.sweep.engine.engines import Engine
from shvit_pl.sweep.engine.local import local_engine
from shvit_pl.sweep.engine.reading import read_status, recorded
from shvit_pl.sweep.engine.study import open_study
from shvit_pl.sweep.finish import finish
from shvit_pl.sweep.options import SweepOptions
from shvit_pl.sweep.sweep_file import IN_FILE, SweepFile, examples, pick_sweep_file, read_sweep_file

# flags that the sweep sets for each run, and the reason or what to set instead
_SET_BY_SWEEP = {
    "seed_everything": "set by seeds in the sweep file",
    "monitor": "set by objective in the sweep file",
    "run_name": "each run is named after its cell and seed",
    "trainer.default_root_dir": "set by --folder",
    "ckpt_path": "interrupted runs are resumed automatically",
    "extend_to": "a longer training is another sweep, with trainer.max_epochs in its file",
    "find": "find the value first by fit, and give it here",
    "plain": "runs write to log files",
    "push_to": "shvit-pl push SWEEP_FOLDER pushes the best run",
    "trainer.fast_dev_run": "the sweep needs the run folder",
    "trainer.num_nodes": "set by --nodes_per_run",
}
_NAME_LENGTH = 80  # characters of a cell's name in a message
_STEPS = 6  # training steps of each cell in a dry run
_VALIDATION = 1 / 3  # time of an image, if a training image takes 1: forward, without backward


def start(
    options: SweepOptions, flags: Sequence[str], command: Sequence[str], own_mistakes: Sequence[str] = ()
) -> None:
    """Start the sweep that the one sweep file among the configs describes; `flags` are for `fit`.

    Raises `UserError` for all mistakes, also `own_mistakes` in other options, before anything is started or written.
    """
    file, layers, mistakes = SweepFile(), list[str](), [*own_mistakes]
    with collected(mistakes):
        path, layers = pick_sweep_file(options.config)
        file, of_file = read_sweep_file(path)
        mistakes += of_file
    fit = FitCheck([*(f"--config={config}" for config in (*file.base, *layers)), *flags])
    if file.folds and "data.fold" not in fit.flags():
        mistakes.append(f"--config {str(file.path)!r}: folds {file.folds}: for classification alone; leave it out.")
        file = replace(file, folds=0)
    wrong = dict(flag_mistakes(file, flags, fit))
    mistakes += wrong.values()
    folder = Path(options.folder or f"sweeps/{file.path.stem}").expanduser()
    if not own_mistakes:
        with collected(mistakes):
            before = recorded(folder)
    base = reduce(without_flag, wrong, [*(f"--config={config}" for config in (*file.base, *layers)), *flags])
    if options.nodes_per_run > 1:
        base.append(f"--trainer.num_nodes={options.nodes_per_run}")
    with collected(of_base := list[str]()):
        definition = define(file, base, fit)
    with collected(mistakes):
        engine = open_engine(options, folder, base, fit.cli.config.trainer.devices)
    mistakes += of_base
    are_new, opened = True, list[OpenedCell]()
    if not mistakes:
        are_new = before is None or before.cells != definition.cells
        with collected(mistakes):
            if before is not None:
                refuse_other(before, definition, folder)
    if are_new or options.dry_run:
        with collected(mistakes):
            opened = open_cells(file, base, fit, wrong, of_base)
    refuse(mistakes)
    launch = Launch(folder, base)
    if len(definition.cells) < (file.n_trials or 0):
        say(f"n_trials {file.n_trials}: the space has only {len(definition.cells)} points; each is run once")
    if options.dry_run:
        dry_run(definition, opened, launch, engine.room(), options.plain)
    else:
        run_sweep(definition, launch, engine, options, command)


def flag_mistakes(file: SweepFile, flags: Sequence[str], fit: FitCheck) -> Iterator[tuple[str, str]]:
    """Yield the flags that neither `sweep` nor `fit` has, or that the sweep itself sets or varies, and the messages."""
    names = [arg.partition("=")[0].removeprefix("--").rstrip("+") for arg in flags if arg.startswith("--")]
    config, known = f"--config {str(file.path)!r}: ", fit.flags()
    groups = known - SECTIONS.keys()  # such as trainer.callbacks, whose settings are flags too
    for prefix, name in [*(("--", name) for name in names), *((config, name) for name in file.varied)]:
        reason = _SET_BY_SWEEP.get(name) or ("set in the sweep file" if name in IN_FILE else None)
        if name == "data.fold" and file.folds:
            reason = f"set by folds {file.folds} in the sweep file"
        if name == "trainer.logger" and prefix == config:
            reason = "give it as a flag or in a config of fit, so that all runs have it"
        if reason is not None:
            yield name, f"{prefix}{name}: can't be set here; {reason}."
        elif name not in known and not any(name.startswith(f"{flag}.") for flag in groups):
            own = [f"--{flag.name}" for flag in fields(SweepOptions)] if prefix == "--" else []
            hint = did_you_mean(f"--{name}", own) or nearest_option(name, known, "--" if own else "")
            which = f"sweep or fit{hint}; see shvit-pl sweep" if own else f"fit{hint}; see shvit-pl fit"
            yield name, f"{prefix}{name}: no such flag of {which} --help."
        elif prefix == "--" and file.kind != "list" and name in file.varied:
            yield name, f"--{name}: {file.path} varies it too; remove one of the two."


def define(file: SweepFile, base: Sequence[str], fit: FitCheck) -> Definition:
    """Return the definition of a sweep; raises `UserError` for flags that `fit` refuses, and runs without a folder."""
    settings, trainer = fit.settings(base), fit.cli.config.trainer
    refused = ["fast_dev_run"] * bool(trainer.fast_dev_run) + ["logger"] * (trainer.logger is False)
    refuse(f"trainer.{name} {trainer[name]}: the sweep needs the run folder; leave it out." for name in refused)
    by_sweep = ("seed_everything", "monitor", *["data.fold"] * bool(file.folds))
    varied = tuple(f"{flag}." for flag in (*by_sweep, *file.varied))
    fixed = {name: value for name, value in settings.items() if not f"{name}.".startswith(varied)}
    # values as they come back from the record
    cells, fixed, search = json.loads(json.dumps([file.cells, fixed, file.search], default=str))
    return Definition(file.kind, cells, file.seeds, file.objectives, fixed, search, file.folds)


class OpenedCell(NamedTuple):
    """A cell that `fit` accepts; its name (for a search, the values that are tried), and the flags of its runs."""

    name: str
    flags: Sequence[str]
    planned: Planned


def open_cells(
    file: SweepFile, base: Sequence[str], fit: FitCheck, wrong: Iterable[str] = (), known: Sequence[str] = ()
) -> list[OpenedCell]:
    """Open data, weights and teacher of every cell as its runs would; raises one `UserError` for all that fail.

    For a search, each choice and the ends of each range are opened, and all whole numbers of a short one. Flags that
    are `wrong` are left out, and the mistakes that are `known`.
    """
    cells = file.cells
    if file.search is not None:
        names, tried = short_names(file.search["space"]), examples(file.search["space"])
        cells = {", ".join(f"{names[flag]} {value}" for flag, value in row.items()): row for row in tried}
    opened: list[OpenedCell] = []
    mistakes: dict[str, list[str]] = {}  # names of the cells that have it, by mistake
    for name, choices in cells.items():
        flags = reduce(without_flag, wrong, [*base, *as_flags(choices)])
        flags += [f"--data.fold=1/{file.folds}"] * bool(file.folds)
        try:
            planned = fit.open(flags)
            if missing := ", ".join(sorted({*file.objectives} & {*MONITORS, *AT_END} - {*planned.metrics})):
                if missing in AT_END and not any(name in AT_END for name in planned.metrics):
                    raise UserError(f"objective {missing}: not measured here; give --corruptions all too.")
                logged = f"logged are {', '.join(planned.metrics)}" if planned.metrics else "there is no validation"
                average = "; an average is kept with --model.ema.decay" if EMA in missing else ""
                raise UserError(f"objective {missing}: not logged here; {logged}{average}.")
            opened.append(OpenedCell(name, flags, planned))
        except UserError as error:
            for line in str(error).splitlines():
                mistakes.setdefault(line, []).append(name)
    refuse(_with_cells(line, names, len(cells), file) for line, names in mistakes.items() if line not in known)
    return opened


def _with_cells(mistake: str, names: Sequence[str], count: int, file: SweepFile) -> str:
    """Return a mistake with the number of its cells and the name of the first; with the file where all have it."""
    if file.folds and mistake.startswith(("data.fold", "data.validation_split")):
        mistake = f"folds {file.folds}: {mistake}"
    if len(names) == count:
        return f"--config {str(file.path)!r}: {mistake}" if mistake.startswith(tuple(file.varied)) else mistake
    first = shorten(names[0], _NAME_LENGTH, placeholder=" ...")
    return f"{len(names)} of {count} cells can't run{', such as' if len(names) > 1 else ':'} {first}: {mistake}"


def open_engine(options: SweepOptions, folder: Path, base: Sequence[str], devices: object) -> Engine:
    """Return the engine that places runs with the flags `base`; `devices` is the value of --trainer.devices.

    Raises `UserError` for demands that it can't meet, and a cluster that can't be reached.
    """
    if options.engine == "local":
        return local_engine(options, devices)
    check_extra(f"sweep --engine {options.engine}", options.engine)
    if options.engine == "slurm":
        from shvit_pl.sweep.engine.slurm_engine import SlurmEngine

        return SlurmEngine(options, folder, devices)
    from shvit_pl.sweep.engine.ray_engine import RayEngine

    configs = [flag.removeprefix("--config=") for flag in base if flag.startswith("--config=")]
    return RayEngine(options, folder, configs, devices)


def run_sweep(
    definition: Definition, launch: Launch, engine: Engine, options: SweepOptions, command: Sequence[str]
) -> None:
    """Record a sweep, run what is missing, and report.

    Raises:
        UserError: where another driver is at work in the folder.
        SystemExit: with 1 where runs failed; with 130 on Ctrl-C and 143 on SIGTERM, when all runs have ended.
    """
    launch.folder.mkdir(parents=True, exist_ok=True)
    with closing(engine), processes.only_driver(launch.folder):
        before = recorded(launch.folder)
        write_record(launch.folder, definition, command)
        study = open_study(launch.folder, definition)
        again = study.reset_faults()
        status = read_status(study, definition, options.retries)
        say(f"sweep: {definition.counted} in {launch.folder}, {engine.room()} at a time")
        if before is not None and len(before.points) < status.total:
            say(f"{status.total - len(before.points)} of them are new")
        if again:
            say(f"retrying {again} failed runs")
        if status.left == 0:
            say("all runs are done")
        try:
            with watch.LiveTable(launch.folder, options.plain) as table:
                status = Driver(study, definition, launch, engine, options).drive(table.show)
        except (KeyboardInterrupt, Terminated) as stop:
            left = read_status(study, definition, options.retries).left
            say(f"stopped: {left} of {status.total} runs left; repeat the command to continue")
            raise SystemExit(128 + (SIGTERM if isinstance(stop, Terminated) else SIGINT)) from stop
        engine.close()  # nothing of it is at work while speed is measured
        finish(study, definition, launch.folder, options.speed, next(iter(options.gpu_numbers), None), options.plain)
    if status.failed:
        failed = status.failed[0]
        say(f"{len(status.failed)} of {status.total} runs failed, for example {failed.point.key}: {failed.error}")
        say(f"see {launch.folder / LOGS}; repeat the command to retry them")
        raise SystemExit(1)


def dry_run(
    definition: Definition, cells: Sequence[OpenedCell], launch: Launch, workers: int, plain: bool = False
) -> None:
    """Print the cells of a sweep (of a search, the ends of its ranges), their costs, and the time that runs will take.

    Raises `UserError` with its last line, for a cell whose first steps fail.
    """
    table = TextTable(box=box.SIMPLE_HEAD)
    for column in ("cell", "M params", "MMACs", "px", "images/s", "time per run"):
        table.add_column(column, justify="left" if column == "cell" else "right")
    total = 0.0
    with new_progress(plain_console(quiet=plain)) as bars:
        for cell in bars.track(cells, description=f"measuring {_STEPS} steps of each cell"):
            begin, rate = _measure([*launch.program, *cell.flags], cell.name)
            plan = cell.planned
            seconds = begin + (plan.trained + _VALIDATION * plan.validated) / rate
            total += seconds
            costs = [f"{plan.params / 1e6:.2f}", f"{plan.macs / 1e6:.1f}", str(plan.image_size)]
            table.add_row(cell.name, *costs, f"{rate:.0f}", watch.duration(seconds))
    write_table(table, plain)
    whole = total / len(cells) * len(definition.points)
    say(f"{definition.counted}: about {watch.duration(whole)} one after the other")
    say(f"with --workers {workers}: {watch.duration(whole / workers)}, if they don't slow each other down")
    say(f"estimated from {_STEPS} steps of each cell; a validation image counts as a third of a training image")
    say("no run was started")


def _measure(command: Sequence[str], name: str) -> tuple[float, float]:
    """Run a few steps of `fit` in a temporary folder.

    Returns the seconds beside the steps (imports, opening the data, writing), and the images per second in training.
    """
    with tempfile.TemporaryDirectory() as root:
        length = [f"--trainer.max_steps={_STEPS}", "--trainer.max_epochs=-1", "--trainer.limit_val_batches=1"]
        length += ["--trainer.num_nodes=1"]  # the others would be waited for
        where = [f"--trainer.default_root_dir={root}", "--run_name=run", "--plain=true"]
        since = time.perf_counter()
        done = subprocess.run([*command, *length, *where], capture_output=True, text=True, check=False)
        wall = time.perf_counter() - since
        run = finished_run(Path(root) / "run")
        if run is None:
            error = processes.describe_exit(done.stdout + done.stderr, done.returncode)
            raise UserError(f"{name}: the first steps failed: {error}")
        summary = read_summary(run)
    rate = summary["images_per_second"]
    return max(0.0, wall - summary["steps_trained"] * summary["global_batch"] / rate), rate
