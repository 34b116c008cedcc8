"""The flags of fit, validate, test and predict besides model and data, and checks of all."""

import os
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from jsonargparse import Namespace

from shvit_pl.command_line.class_paths import class_mistake
from shvit_pl.command_line.config_files import with_found_configs
from shvit_pl.command_line.parser import SECTIONS, no_section, own_args
from shvit_pl.command_line.ranges import FromOne, NonNegative, Probability, Threads
from shvit_pl.compat import cores_of_process
from shvit_pl.designs.config import DesignConfig
from shvit_pl.errors import UserError, collected, did_you_mean, refuse, visible
from shvit_pl.files import CHAIN
from shvit_pl.fit.measurements import ALL, corruption_names
from shvit_pl.modules.config import OptimConfig
from shvit_pl.runs.folder import CHECKPOINTS, EMA, LAST, DetectionMonitor, Monitor, checkpoint_of_run

if TYPE_CHECKING:
    from shvit_pl.fit.tasks import Task

NOT_FLAGS = {"verbose", "model", "train_dataloaders", "val_dataloaders", "dataloaders", "datamodule"}
_INSTEAD = {  # of callbacks that can't work here: they run the trainer within the trainer, or find no `backbone`
    "BatchSizeFinder": "use shvit-pl fit --find batch_size",
    "LearningRateFinder": "use shvit-pl fit --find lr",
    "BackboneFinetuning": "use --model.init_from with --model.optim.layer_decay 0.7, for example",
    "BaseFinetuning": "derive a class of your own from it, or use --model.init_from with --model.optim.layer_decay",
}
_LIMITS = {"validate": "val", "test": "test", "predict": "predict"}


TaskName = Literal["classification", "detection"]


@dataclass(frozen=True)
class FitOptions:
    """The run."""

    task: TaskName = "classification"
    """What is trained; configs name it, and checkpoints keep it."""
    run_name: str | None = None
    """Folder of the run (default: the design)."""
    output: str | None = None
    """The file of results, not a folder (default: predictions.csv of predict, metrics.json of validate and test)."""
    strict: bool = False
    """Refuse a single image that can't be decoded, instead of up to 1 % (predict: instead of all)."""
    monitor: Monitor = "val/acc1"
    """Metric that selects best.ckpt."""
    patience: FromOne | None = None
    """Stop after so many validations in a row without a better --monitor."""
    checkpoint_every_n_steps: FromOne | None = None
    """Also save last.ckpt every N training steps."""
    find: Literal["lr", "batch_size"] | None = None
    """Instead of training, try learning rates or batch sizes, and print and draw what is found."""
    extend_to: FromOne | None = None
    """Train an ended run on, in its folder, to so many epochs in all."""
    allow_changes: bool = False
    """Allow settings that differ from the checkpoint's."""
    push_to: str | None = None
    """Push the finished run to this Hub repo, user/name."""
    push_public: bool = False
    """Make a new Hub repo public."""
    optimize: bool = False
    """Compile for speed, except in fit."""
    corruptions: list[str] | str | None = None
    """Also measure on corrupted images, of validate, and of fit at its end: all, or names such as fog,snow."""
    tta: Literal["flip", "five_crop"] | None = None
    """Also measure by the mean of several views of each image; of validate."""
    out_of_distribution: str | None = None
    """Measure how well these images (as data.path) are told from the known classes'; of validate."""
    calibrate: bool = False
    """Find a temperature for the run's probabilities, and keep it; of validate."""
    calibrated: bool = False
    """Divide logits by the temperature that was found; of predict."""
    plain: bool = False
    """Plain lines for log files: no bars, no boxes."""
    threads: Threads | None = None
    """CPU threads of each process, at most one per core (default: torch's)."""

    def __post_init__(self) -> None:
        name, output, mistakes = self.run_name, Path(self.output or ""), []
        if name is not None and (
            name in ("", "..") or Path(name).name != name or len(name) > 200 or visible(name) != name
        ):
            shown = repr(name[:40]) + "..." * (len(name) > 40)
            mistakes.append(
                f"run_name {shown}: allowed is a folder's name, up to 200 characters without slashes and line breaks."
            )
        elif name is not None and CHAIN in name:
            mistakes.append(f"run_name {name!r}: {CHAIN!r} is not allowed in it, as Lightning would write elsewhere.")
        names_folder = os.path.basename(self.output or "results") in ("", ".", "..")
        if self.output is not None and (names_folder or output.is_dir() or not output.parent.is_dir()):
            mistakes.append(
                f"output {self.output!r}: allowed is a file's name, such as results.csv, in a folder that exists."
            )
        with collected(mistakes):
            corruption_names(self.corruptions)
        if self.push_public and self.push_to is None:
            mistakes.append("push_public True: it belongs to --push_to user/name; leave it out.")
        refuse(mistakes)


@dataclass(frozen=True)
class DetectionOptions(FitOptions):
    """The run."""

    task: TaskName = "detection"
    monitor: DetectionMonitor = "val/map"  # type: ignore[assignment]
    output: str | None = None
    """The file of results, not a folder (default: predictions.json of predict, metrics.json of validate and test)."""
    draw: str | None = None
    """A folder for the images with their detections, of predict."""
    score: Probability | None = None
    """Least score that is drawn (default: that of the best F1 in the run's validation)."""


@dataclass(frozen=True)
class TrainerOptions:
    """Those flags of Lightning's trainer that have another default or type.

    Lightning's own types of the limits make the command line read `1` (one batch) as `1.0` (all batches).
    """

    max_epochs: int | None = 10
    default_root_dir: str = "runs"
    log_every_n_steps: FromOne = 10
    check_val_every_n_epoch: FromOne | None = 1
    accumulate_grad_batches: FromOne = 1
    num_nodes: FromOne = 1
    gradient_clip_val: NonNegative | None = None
    enable_model_summary: bool = False
    limit_train_batches: int | float | None = None
    limit_val_batches: int | float | None = None
    limit_test_batches: int | float | None = None
    limit_predict_batches: int | float | None = None


def read_flags(args: Sequence[str]) -> list[str]:
    """Return a command line with the paths of its configs, and a value for every switch."""
    own = [_with_list(name, text) for name, text in own_args(FitOptions, args)]
    return with_found_configs(
        [(f"--{name}" if text is None else f"--{name}={text}") if name else str(text) for name, text in own]
    )


def _with_list(name: str, text: str | None) -> tuple[str, str | None]:
    """Return a flag and its value, where that of `--corruptions` may be left out, or be names with commas."""
    if name != "corruptions":
        return name, text
    return name, ALL if text is None else f"[{text}]" if "," in text and text[0] != "[" else text


def parts_of(trainer: Namespace, flag: str) -> list[Any]:
    """Return the parts that a flag of the trainer names: none, one or a list."""
    parts = trainer.get(flag)
    return list(parts) if isinstance(parts, list | tuple) else [] if parts is None else [parts]


def run_name(config: Namespace) -> str:
    """Return the name of the folder of a run's versions: as asked for, or the design's."""
    return str(config.run_name or config.model.design.name)


def runs_folder(config: Namespace) -> Path:
    """Return the folder of a run's versions."""
    return Path(config.trainer.default_root_dir, run_name(config))


def has_sections(config: Namespace) -> bool:
    """Return whether every section holds settings, and no single value."""
    return all(isinstance(config[name], Namespace) for name in SECTIONS if name in config)


def expand_paths(config: Namespace, command: str) -> None:
    """Expand `~` in paths, which shells leave alone in `--flag=~/folder`; take a run folder's checkpoint."""
    for name in ("trainer.default_root_dir", "ckpt_path", "model.distill.cache", "draw"):
        if config.get(name) is not None:
            config[name] = os.path.expanduser(config[name])
    if config.ckpt_path and Path(config.ckpt_path).is_dir():
        folder = Path(config.ckpt_path)
        found = folder / CHECKPOINTS / LAST if command == "fit" else checkpoint_of_run(folder)
        if found is not None and found.is_file():
            config.ckpt_path = str(found)


def check_flags(
    task: "Task", config: Namespace, command: str, mistakes: Sequence[str], words: Sequence[str]
) -> tuple[Any, Any, Any]:
    """Return the settings by run, module and data; raises `UserError` for all that are impossible or contradict others.

    Lightning would answer many of these with a traceback, or late, or not at all. `mistakes` are those in settings that
    were left out; what contradicts these is not added. `words` are the command line.
    """
    for name in SECTIONS:  # of which a task has some
        if name in config and not isinstance(config[name], Namespace):
            raise UserError(f"{no_section(name, config.get(name))}.")
    expand_paths(config, command)
    flags = {word.partition("=")[0] for word in words}
    more = [*_contradictions(config, command, flags), *task.mistakes(config, command), *_trainer_mistakes(config)]
    model = task.model(DesignConfig(**config.model.design.as_dict()))  # whose design is checked in any case
    with collected(more):
        run = task.options(**{each.name: config[each.name] for each in fields(task.options)})
    with collected(more):
        model = task.model.from_dict(config.model.as_dict())
    with collected(more):
        data = task.data(**config.data.as_dict())
    if command not in _LIMITS:  # these take what is not given from a checkpoint
        from shvit_pl.modules.optim_and_ema import check_optimizer  # here, for --help to do without torch

        with collected(more):
            check_optimizer(OptimConfig(config.model.optim.name))
        more += task.check(model, config)
    left_out = {re.split("[: ]", mistake)[0].rpartition(".")[2].lstrip("-") for mistake in mistakes}
    related = re.compile("|".join(rf"\b{re.escape(name)}\b" for name in left_out) or "$^")
    refuse(dict.fromkeys([*mistakes, *(line for line in more if not related.search(line))]))
    return run, model, data


def _contradictions(config: Namespace, command: str, flags: Collection[str]) -> Iterator[str]:
    """Yield a message for each mistake that concerns several sections at once, or the command."""
    model, trainer, example = config.model, config.trainer, "--model.ema.decay 0.9999, for example"
    path, source = config.ckpt_path, model.init_from
    if command in _LIMITS:
        if trainer[limit := f"limit_{_LIMITS[command]}_batches"] == 0:
            yield f"trainer.{limit} 0: {command} would do nothing; leave it out."
        if config.extend_to is not None:
            yield f"extend_to {config.extend_to}: {command} trains nothing; leave it out, or call shvit-pl fit."
        if config.patience is not None:
            yield f"patience {config.patience}: {command} trains nothing; leave it out."
        if path is None and source is None:
            yield (
                "ckpt_path: give --ckpt_path RUN_FOLDER/checkpoints/best.ckpt or, for weights without a run, such as "
                "those of a Hub repo, --model.init_from hf-hub:USER/NAME."
            )
        if path is not None and source is not None and "--model.init_from" in flags:  # a config may have it of its fit
            yield f"ckpt_path {path!r}: model.init_from {source!r} gives other weights; leave out one of the two."
    else:
        if command == "cache-teacher" and config.extend_to is not None:
            yield f"extend_to {config.extend_to}: cache-teacher trains nothing; leave it out."
        if command == "cache-teacher" and config.patience is not None:
            yield f"patience {config.patience}: cache-teacher trains nothing; leave it out."
        if command == "cache-teacher" and path is not None:
            yield f"ckpt_path {path!r}: cache-teacher trains nothing; leave it out."
        if config.optimize:
            yield "optimize true: for validate, test and predict; fit compiles with --model.compile true."
        if config.monitor.endswith(EMA) and model.ema.decay == 0:
            yield f"monitor {config.monitor}: there is no average; give {example}."
        if model.use_ema and model.ema.decay == 0 and model.init_from is None:
            yield f"model.use_ema true: there is no average; give --model.init_from, or {example}."
    if config.find is not None:
        yield from _find_mistakes(config, command, flags)
    if config.patience is not None and command == "fit":
        yield from _patience_mistakes(config)
    writes = command == "fit" and trainer.enable_checkpointing is not False and not trainer.fast_dev_run
    if writes and trainer.logger is False:
        yield (
            "trainer.logger False: there would be no run folder for the checkpoints; leave it out, or also give "
            "--trainer.enable_checkpointing false."
        )
    if model.optim.agc > 0 and trainer.gradient_clip_val:
        yield (
            f"trainer.gradient_clip_val {trainer.gradient_clip_val}: model.optim.agc {model.optim.agc} clips already; "
            "set one of the two to 0."
        )


def _find_mistakes(config: Namespace, command: str, flags: Collection[str]) -> Iterator[str]:
    """Yield a message where there is nothing to find, or something would be kept."""
    find = f"find {config.find}"
    if command != "fit":
        yield f"{find}: for fit alone; leave it out."
        return
    for name in ("ckpt_path", "extend_to", "push_to", "patience"):
        if config[name] is not None:
            yield f"{find}: it begins a run and keeps nothing of it, so {name} has no use; leave out one of the two."
    for name, value in (("devices", config.trainer.devices), ("num_nodes", config.trainer.num_nodes)):
        if str(value) not in ("auto", "1"):
            yield f"{find}: it uses one device, and trainer.{name} is {value}; leave out one of the two."
    if config.find == "batch_size" and "--data.batch_size" in flags:
        yield f"{find}: data.batch_size {config.data.batch_size} is what it looks for; leave out one of the two."


def _patience_mistakes(config: Namespace) -> Iterator[str]:
    """Yield a message where nothing is validated, or a callback of the user's has patience too."""
    patience, trainer = f"patience {config.patience}", config.trainer
    every, epochs = trainer.check_val_every_n_epoch or 1, trainer.max_epochs or -1
    if trainer.limit_val_batches == 0:
        yield f"{patience}: trainer.limit_val_batches 0 leaves nothing to watch; leave out one of the two."
    if 0 < epochs < every:
        yield (
            f"{patience}: trainer.check_val_every_n_epoch {every} validates never in {epochs} epochs, which leaves "
            "nothing to watch; give a lower one."
        )
    if any("EarlyStopping" in str(getattr(each, "class_path", "")) for each in parts_of(trainer, "callbacks")):
        yield f"{patience}: trainer.callbacks has an EarlyStopping too; leave out one of the two."


def _trainer_mistakes(config: Namespace) -> Iterator[str]:
    """Yield a message for each mistake in the seed and the trainer's settings, beyond its flags' types."""
    trainer, seed = config.trainer, config.seed_everything
    epochs, steps = trainer.max_epochs, trainer.max_steps
    if not 0 <= seed < 2**32:
        yield f"seed_everything {seed}: allowed are whole numbers from 0 to {2**32 - 1}."
    if epochs is not None and epochs < 1 and (epochs != -1 or steps == -1):
        yield f"trainer.max_epochs {epochs}: allowed are whole numbers from 1, or -1 together with max_steps."
    if steps < 1 and steps != -1:
        yield f"trainer.max_steps {steps}: allowed are whole numbers from 1, or -1 (as many as the epochs have)."
    for name in ("limit_train_batches", "val_check_interval"):
        value = trainer[name]
        if isinstance(value, int | float) and (value <= 0 or (isinstance(value, float) and value > 1)):
            yield f"trainer.{name} {value}: allowed are numbers of batches from 1, or shares of them up to 1.0."
    if isinstance(trainer.max_time, str) and not re.fullmatch(r"\d+(:\d\d){3}", trainer.max_time):
        yield f"trainer.max_time {trainer.max_time}: allowed is DD:HH:MM:SS, such as 00:12:00:00."
    if str(trainer.precision) in ("16-true", "transformer-engine-float16"):
        allowed = "32-true, bf16-mixed and 16-mixed"
        yield f"trainer.precision {trainer.precision}: weights in fp16 don't train; allowed are {allowed}."
    most, of = (epochs, "max_epochs") if config.extend_to is None else (config.extend_to, "extend_to")
    if (trainer.min_epochs or 0) > (most or 0) > 0:
        yield f"trainer.min_epochs {trainer.min_epochs}: {of} is {most}; leave it out."
    yield from _callback_mistakes(trainer)
    if trainer.overfit_batches:
        plain = " --data.augment none" if "augment" in config.data else ""
        instead = f"to overfit a few images, give --data.train_fraction 0.02{plain}"
        yield f"trainer.overfit_batches {trainer.overfit_batches}: not available; {instead}."
    if trainer.barebones:
        instead = "--trainer.logger false --trainer.enable_checkpointing false"
        yield f"trainer.barebones True: not available; give {instead}."
    import torch  # here, for --help to do without
    from lightning.pytorch.strategies import StrategyRegistry

    choices = {
        "strategy": ("auto", "ddp", "fsdp", "deepspeed", *StrategyRegistry.available_strategies()),
        "profiler": ("simple", "advanced", "pytorch", "xla"),
        "accelerator": ("auto", "cpu", "gpu", "cuda", "mps", "tpu"),
    }
    for name, known in choices.items():
        if not isinstance(value := trainer[name], str) or value in known:
            continue
        if re.search(r"\w\.\w", value) and (mistake := class_mistake(f"trainer.{name}", value)):
            yield f"{mistake}."
        else:
            hint, shown = did_you_mean(value, known), ", ".join(known[:4])
            yield f"trainer.{name} {value}: no such {name}{hint}; there are {shown} and others."
    gpu, cores = torch.cuda.is_available() or torch.backends.mps.is_available(), cores_of_process()
    accelerator, devices = trainer.accelerator, trainer.devices
    if accelerator in ("gpu", "cuda") and not gpu:
        yield f"trainer.accelerator {accelerator}: torch finds no GPU here; allowed are cpu and auto."
    on_cpu = accelerator == "cpu" or (accelerator == "auto" and not gpu)
    # Lightning would start any number of processes
    if on_cpu and devices != "auto" and not (str(devices).isdecimal() and 1 <= int(devices) <= cores):
        yield f"trainer.devices {devices}: on a CPU, allowed are 1 to {cores} (its cores), or auto."


def _callback_mistakes(trainer: Namespace) -> Iterator[str]:
    """Yield a message for each of Lightning's callbacks that can't work here, or contradicts another or the trainer."""
    paths = [str(getattr(each, "class_path", "")) for each in parts_of(trainer, "callbacks")]
    names = [path.rpartition(".")[2] for path in paths if path.startswith("lightning.")]
    yield from (f"trainer.callbacks {name}: not available; {_INSTEAD[name]}." for name in names if name in _INSTEAD)
    if "GradientAccumulationScheduler" in names and trainer.accumulate_grad_batches != 1:
        yield (
            f"trainer.accumulate_grad_batches {trainer.accumulate_grad_batches}: trainer.callbacks "
            "GradientAccumulationScheduler sets it by epoch; leave out one of the two."
        )
    bars = [name for name in names if name.endswith("ProgressBar")]
    if len(bars) > 1:
        yield f"trainer.callbacks {' and '.join(bars)}: one bar is allowed; leave out the others."
    elif bars and trainer.enable_progress_bar is False:
        yield f"trainer.callbacks {bars[0]}: trainer.enable_progress_bar False hides it; leave out one of the two."


def check_monitors(monitor: str, callbacks: Sequence[Any], logged: list[str]) -> None:
    """Raise `UserError` when a monitored metric is not logged: Lightning would fail after the first epoch.

    Without validation, nothing of it is `logged`. A callback of the user's own may log what others watch.
    """
    watched: list[tuple[str, str | None]] = [("monitor", monitor)]
    if all(type(each).__module__.startswith(("lightning.", "shvit_pl.")) for each in callbacks):
        watched += [(f"trainer.callbacks {type(each).__name__}", getattr(each, "monitor", None)) for each in callbacks]
    for flag, name in watched if logged else watched[1:]:
        known = logged if flag == "monitor" else [*logged, "train/loss", "train/loss_epoch", "train/lr"]
        if name is not None and name not in known:
            raise UserError(
                f"{flag} {name}: not logged here{did_you_mean(name, known)}; logged are {', '.join(known)}."
            )


def check_push(repo_id: str, trainer: Namespace) -> None:
    """Raise `UserError` at the start of a fit whose end could not be pushed."""
    for flag, writes in (
        ("logger False", trainer.logger is not False),
        ("enable_checkpointing False", trainer.enable_checkpointing is not False),
        ("fast_dev_run", not trainer.fast_dev_run),
    ):
        if not writes:
            raise UserError(f"push_to {repo_id!r}: with trainer.{flag} there is nothing to push; leave one out.")
    from lightning.pytorch.utilities import rank_zero_only

    from shvit_pl.hub.target import check_access, name_mistakes

    refuse(name_mistakes(repo_id, "push_to"))
    rank_zero_only(check_access)(repo_id)
