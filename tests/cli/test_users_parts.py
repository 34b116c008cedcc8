"""Callbacks, loggers, plugins and other parts of the trainer of a user's own: found, written down, named in errors."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from shvit_pl.cli import main
from shvit_pl.fit.check import FitCheck
from shvit_pl.runs.folder import read_summary
from tests.cli.runs import QUICK, fit, only_run
from tests.refusals import refusal, refused

FILE = """
import datetime, enum, pathlib, threading
import lightning as L
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.profilers import PassThroughProfiler
from lightning.pytorch.strategies import SingleDeviceStrategy
class Kind(enum.Enum):
    a = 1
    b = 2
class Mine(L.Callback):
    def __init__(self, kind: Kind = Kind.a, after: datetime.timedelta = datetime.timedelta(2), call=print):
        self.kind, self.after, self.call = kind, after, call
    def on_train_start(self, trainer, pl_module):
        print("mine", self.kind, self.after.days, self.call is print)
class MyStrategy(SingleDeviceStrategy):
    def __init__(self):
        super().__init__(device="cpu")
class MyProfiler(PassThroughProfiler):
    def start(self, action_name): ...
class Values(L.Callback):
    def __init__(self, day: datetime.date | None = None, pattern: str = "", count: int = 0): ...
class Untyped(L.Callback):
    def __init__(self, needed, other=1): ...
class Parted(SingleDeviceStrategy):
    def __init__(self, parts: int = 1): ...
class Logs(L.Callback):
    def on_validation_epoch_end(self, trainer, pl_module):
        pl_module.log("my/metric", 1.0)
class Reads(L.Callback):
    monitor = "my/other"
    def on_validation_end(self, trainer, pl_module):
        if not trainer.sanity_checking:
            trainer.callback_metrics[self.monitor]
class NoCallback: ...
class Made(L.Callback):
    def __init__(self):
        raise KeyError("lost")
class SetUp(L.Callback):
    def setup(self, trainer, pl_module, stage):
        1 / 0
class WrongSetUp(L.Callback):
    def setup(self, trainer):
        ...
class Started(L.Callback):
    def on_fit_start(self, trainer, pl_module):
        {}["nothing"]
class FirstBatch(L.Callback):
    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        raise AttributeError("no such thing")
class Stops(L.Callback):
    def on_train_start(self, trainer, pl_module):
        trainer.should_stop = True
class Stopped(L.Callback):
    def setup(self, trainer, pl_module, stage):
        trainer.should_stop = True
class Lock(L.Callback):
    def state_dict(self):
        return {"lock": threading.Lock()}
class Local(L.Callback):
    def state_dict(self):
        return {"call": lambda: 1}
class Folder(L.Callback):
    def state_dict(self):
        return {"path": pathlib.PurePosixPath("a")}
class Later(L.Callback):
    steps = 0
    def on_train_batch_end(self, *args):
        self.steps += 1
    def state_dict(self):
        return {"steps": [threading.Lock()][: self.steps]}
class MadeLogger(CSVLogger):
    def __init__(self):
        raise RuntimeError("no server")
class MadeStrategy(SingleDeviceStrategy):
    def __init__(self):
        raise RuntimeError("no device")
"""
STEP = "--trainer.max_steps=1"


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module of a user's, by a name of its own, in the working directory."""
    name = f"mine_{tmp_path.name}"
    Path(f"{name}.py").write_text(FILE)
    monkeypatch.setattr(sys, "path", [*sys.path, str(Path.cwd())])
    return name


@pytest.fixture(scope="module")
def check():
    return FitCheck()


@pytest.mark.slow
def test_classes_in_the_working_directory_are_found_by_the_console_script(tmp_path):
    """In a flag and in a config."""
    Path("mine.py").write_text(FILE)
    Path("own.yaml").write_text("trainer:\n  callbacks:\n  - class_path: mine.Mine\n")
    code = (
        "import sys; sys.path[:] = [path for path in sys.path if path]; from shvit_pl.cli import main; sys.exit(main())"
    )
    flags = ["--config=own.yaml", "--trainer.callbacks+=mine.Logs", STEP, "--trainer.limit_val_batches=1"]
    command = [sys.executable, "-P", "-c", code, "fit", *QUICK, *flags]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "mine Kind.a 2 True" in done.stdout
    assert "my/metric" in (only_run(tmp_path) / "metrics.csv").read_text()


def test_other_parts_are_found_too(module, capsys, tmp_path):
    parts = [f"--trainer.strategy={module}.MyStrategy", f"--trainer.profiler={module}.MyProfiler"]
    assert fit(STEP, *parts) == 0
    config = yaml.safe_load((only_run(tmp_path) / "config.yaml").read_text())
    assert config["trainer"]["strategy"]["class_path"] == f"{module}.MyStrategy"
    best = only_run(tmp_path) / "checkpoints" / "best.ckpt"
    assert main(["validate", f"--ckpt_path={best}", *parts, "--trainer.limit_val_batches=1"]) == 0


@pytest.mark.parametrize(
    ("callback", "arguments", "written"),
    [
        ("Timer", {"duration": "00:12:00:00"}, {"duration": "00:12:00:00", "verbose": True}),
        pytest.param("{}.Mine", {}, {"kind": "a"}, marks=pytest.mark.slow),
        ("{}.Mine", {"kind": "b", "after": "3 days, 0:00:00"}, {"kind": "b", "after": "3 days, 0:00:00"}),
    ],
)
def test_arguments_that_are_no_yaml_are_written_and_read_again(callback, arguments, written, module, capsys):
    """The defaults of Timer and ours hold an Enum, a function and an object."""
    part = {"class_path": callback.format(module), "init_args": arguments}
    Path("own.yaml").write_text(yaml.safe_dump({"trainer": {"callbacks": [part]}}))
    assert fit("--config=own.yaml", STEP, "--run_name=first", "--trainer.limit_val_batches=1") == 0
    config = Path("runs/first/version_0/config.yaml")
    (kept,) = yaml.safe_load(config.read_text())["trainer"]["callbacks"]
    assert kept["init_args"] == written
    capsys.readouterr()
    assert main(["fit", f"--config={config}", "--run_name=again"]) == 0
    printed = capsys.readouterr()
    assert "Mine" not in callback or f"mine Kind.{written['kind']} {written.get('after', '2')[0]} True" in printed.out
    assert printed.err == ""
    assert main(["fit", "--config=own.yaml", "--print_config"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["trainer"]["callbacks"][0]["init_args"] == written


PATHS = {
    "callbacks {}.Mien": "no class Mien in {} ... did you mean 'Mine'",
    "callbacks {}.py": "name a class, such as {}.MyClass",
    "callbacks {}.NoCallback": "no Callback of lightning.pytorch",
    "callbacks nowhere.Mine": "no module nowhere in the working directory ... where nowhere.py is",
    "callbacks lib/mine.py": "such as lib.mine.MyClass",
    "callbacks broken.Mine": "broken can't be imported (SyntaxError",
    "callbacks lacking.Mine": "lacking imports nothing_here, which is not installed",
    "callbacks earlystopping": "did you mean 'EarlyStopping'",
    "callbacks pytorch_lightning.callbacks.Timer": "use lightning.pytorch.callbacks.Timer",
    "logger pytorch_lightning.loggers.CSVLogger": "use lightning.pytorch.loggers.CSVLogger",
    "plugins pytorch_lightning.plugins.MixedPrecision": "use lightning.pytorch.plugins.MixedPrecision",
    "strategy pytorch_lightning.strategies.DDPStrategy": "use lightning.pytorch.strategies.DDPStrategy",
    "strategy {}.MyStratgy": "did you mean 'MyStrategy'",
    "profiler pytorch_lightning.profilers.SimpleProfiler": "use lightning.pytorch.profilers.SimpleProfiler",
    "accelerator lightning_fabric.accelerators.CPUAccelerator": "use lightning.fabric.accelerators.CPUAccelerator",
}


@pytest.mark.parametrize("given", PATHS)
def test_a_path_that_can_not_be_imported(given, module, check):
    Path("broken.py").write_text("def (\n")
    Path("lacking.py").write_text("import nothing_here\n")
    flag, path = given.format(module).split()
    with refused(f"trainer.{flag} {path}: ... {PATHS[given].format(module)}"):
        check.settings([*QUICK, f"--trainer.{flag}={path}"])


SETTINGS = {
    "callbacks lightning.pytorch.callbacks.EarlyStopping monitor=a patience=abc": "patience abc: allowed is a wh",
    "callbacks lightning.pytorch.callbacks.EarlyStopping monitor=a patiens=3": "patiens: no such ... mean 'patience'",
    "logger lightning.pytorch.loggers.CSVLogger nme=x": "nme: no such setting (did you mean 'name'?)",
    "logger lightning.pytorch.loggers.CSVLogger save_dir=a version=b flush_logs_every_n_steps=c": (
        "flush_logs_every_n_steps c: allowed is a whole number"
    ),
    "callbacks {}.Mine after=tomorrow": "after tomorrow: allowed is a string with form",
    "callbacks {}.Values day=a": "day a: allowed is a date or null",
    "callbacks {}.Values pattern=a.b count=a.b": "count a.b: allowed is a whole number",
    "callbacks {}.Untyped": "required: needed, which has no type; write one",
    "strategy {}.Parted parts=x": "parts x: allowed is a whole number",
}


@pytest.mark.parametrize("given", SETTINGS)
@pytest.mark.parametrize("in_file", [False, True])
def test_a_wrong_setting_of_a_class_is_named_with_what_is_allowed(given, in_file, module, check):
    section, path, *settings = given.format(module).split()
    flags = [f"--trainer.{section}={path}", *(f"--trainer.{section}.{each}" for each in settings)]
    if in_file:
        arguments = dict(each.split("=") for each in settings)
        part = {"class_path": path, "init_args": arguments}
        parts = [part] if section == "callbacks" else part
        Path("own.yaml").write_text(yaml.safe_dump({"trainer": {section: parts}}))
        flags = ["--config=own.yaml"]
    with refused(f"trainer.{section} {path}: {SETTINGS[given]}"):
        check.settings([*QUICK, *flags])


def test_classes_in_a_list_are_named_one_by_one(module, capsys):
    listed = f'[{{"class_path": "{module}.Mine"}}, {{"class_path": "pytorch_lightning.callbacks.Timer"}}]'
    message = refusal(capsys, "fit", *QUICK, f"--trainer.callbacks={listed}")
    assert "trainer.callbacks pytorch_lightning.callbacks.Timer: of the package pytorch_lightning" in message


ERRORS = {
    "callbacks Made": "KeyError: 'lost' ({}.py, line ",
    "callbacks SetUp": "ZeroDivisionError: division by zero ({}.py, line ",
    "callbacks WrongSetUp": "TypeError: WrongSetUp.setup() got",
    "callbacks Started": "KeyError: 'nothing' ({}.py, line ",
    "callbacks FirstBatch": "AttributeError: no such thing ({}.py, line ",
    "logger MadeLogger": "RuntimeError: no server ({}.py, line ",
    "strategy MadeStrategy": "RuntimeError: no device ({}.py, line ",
}


@pytest.mark.parametrize("given", ERRORS)
def test_an_error_before_the_first_step_is_one_line_and_leaves_nothing(given, module, capsys, monkeypatch):
    flag, name = given.split()
    flags = ["fit", *QUICK, f"--trainer.{flag}={module}.{name}"]
    assert f"trainer.{flag} {name}: {ERRORS[given].format(module)}" in refusal(capsys, *flags)
    assert not list(Path("runs").rglob("*.*"))
    if name == "SetUp":
        monkeypatch.setenv("SHVIT_PL_TRACEBACK", "1")
        assert main(flags) == 2
        assert "Traceback (most recent call last)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (
            [
                "--trainer.callbacks=LearningRateMonitor",
                "--trainer.logger=false",
                "--trainer.enable_checkpointing=false",
            ],
            "LearningRateMonitor: Cannot use",
        ),
    ],
)
def test_what_lightnings_callbacks_refuse_is_one_line(flags, words, capsys):
    assert f"trainer.callbacks {words}" in refusal(capsys, "fit", *QUICK, *flags)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--trainer.max_time=00:00:00:00"], "its time"),
        (["--trainer.callbacks=Timer", "--trainer.callbacks.duration=00:00:00:00"], "its time"),
        (["--trainer.callbacks={}.Stops"], "trainer.callbacks Stops stopped it"),
        (["--trainer.callbacks={}.Stopped"], "trainer.callbacks Stopped stopped it"),
    ],
)
def test_a_run_without_a_step_is_refused_and_leaves_nothing(flags, words, module, capsys):
    message = refusal(capsys, "fit", *QUICK, *(flag.format(module) for flag in flags))
    assert f"no step was run: {words}" in message
    assert not list(Path("runs").rglob("*.*"))


@pytest.mark.parametrize("name", ["Lock", "Local", "Folder", "Later"])
def test_a_state_that_does_not_go_into_a_checkpoint_is_one_line(name, module, capsys):
    few = ["--trainer.limit_train_batches=1", "--trainer.limit_val_batches=1"]
    message = refusal(capsys, "fit", *QUICK, *few, f"--trainer.callbacks={module}.{name}")
    assert f"trainer.callbacks {name}: what its state_dict returns" in message
    assert name == "Later" or not list(Path("runs").rglob("*.*"))


@pytest.mark.parametrize("bar", ["TQDMProgressBar", "RichProgressBar"])
def test_a_bar_of_lightnings_takes_the_place_of_ours(bar, capsys):
    assert fit(STEP, f"--trainer.callbacks={bar}", "--trainer.limit_val_batches=1") == 0


def test_plain_draws_nothing_that_lightning_would(capfd, caplog, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # a terminal for rich
    drawn = ["RichProgressBar", "RichModelSummary"]
    flags = ["--trainer.enable_model_summary=true", *(f"--trainer.callbacks+={name}" for name in drawn)]
    assert fit(STEP, "--plain", *flags, "--trainer.limit_val_batches=1") == 0
    printed = capfd.readouterr()
    assert all(f"plain true: {name} is left out" in printed.out for name in drawn)
    assert "Total params" in caplog.text
    assert not re.search("[\u2500-\u259f\x1b]", printed.out + printed.err)


SCHEDULER = '{"class_path":"GradientAccumulationScheduler","init_args":{"scheduling":{"0":2}}}'
TOGETHER = {
    "TQDMProgressBar --trainer.callbacks+=RichProgressBar": "TQDMProgressBar and RichProgressBar: one bar is allowed",
    "TQDMProgressBar --trainer.enable_progress_bar=false": "trainer.enable_progress_bar False hides it; leave out one",
    f"{SCHEDULER} --trainer.accumulate_grad_batches=2": "trainer.accumulate_grad_batches 2: ... leave out one",
    "BaseFinetuning": "trainer.callbacks BaseFinetuning: not available; ... --model.init_from",
}


@pytest.mark.parametrize("flags", TOGETHER)
def test_callbacks_that_contradict_the_trainer(flags, check):
    with refused(TOGETHER[flags]):
        check.settings([*QUICK, *f"--trainer.callbacks={flags}".split()])


def test_checkpoints_need_the_run_folder(capsys):
    message = refusal(capsys, "fit", *QUICK, "--trainer.logger=false")
    assert "trainer.logger False: " in message
    assert "--trainer.enable_checkpointing false" in message


@pytest.mark.parametrize(
    ("watching", "ends"),
    [("EarlyStopping my/metric", 0), ("EarlyStopping my/other", 2), ("ModelCheckpoint my/other", 2), ("Reads", 2)],
)
def test_a_metric_of_the_users_own_is_watched_and_a_missing_one_is_one_line(watching, ends, module, capsys, tmp_path):
    """By the first validation: before it, nobody knows what a callback will log."""
    name, _, monitor = watching.partition(" ")
    flags = [f"--trainer.callbacks={module}.Logs", f"--trainer.callbacks+={name if monitor else f'{module}.{name}'}"]
    flags += [f"--trainer.callbacks.monitor={monitor}"] if monitor else []
    flags += ["--trainer.limit_train_batches=1", "--trainer.limit_val_batches=1"]
    assert fit(*flags) == ends
    error = capsys.readouterr().err
    if ends:
        assert error.count("\n") == 1
        assert f"trainer.callbacks {name}: " in error
        assert "my/other" in error
    else:
        assert read_summary(only_run(tmp_path))["steps_trained"] == 2
