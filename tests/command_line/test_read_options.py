"""A dataclass as a command's flags, and jsonargparse's flags: types, lists, help, and all mistakes at once."""

import subprocess
import sys
from dataclasses import dataclass
from typing import Literal

import pytest
from jsonargparse import ActionConfigFile, ArgumentParser

from shvit_pl.command_line.config_files import with_found_configs
from shvit_pl.command_line.parser import own_args, parse_flags, read_options
from shvit_pl.command_line.ranges import FromOne, Pixels, Positive, Probability
from shvit_pl.errors import UserError


@dataclass(frozen=True)
class Options:
    models: tuple[str, ...]
    """Networks to measure."""
    dtype: tuple[Literal["fp32", "bf16"], ...] = ("fp32",)
    """Number types, 50% of them short."""
    batch_size: tuple[FromOne, ...] | None = None
    """Images (default: the paper's)."""
    threads: Pixels | None = None
    """Threads of a CPU."""
    share: Probability = 0.5
    """Share of the images."""
    seconds: Positive = 0.5
    """Seconds of each."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where to compute."""
    query: tuple[int, int] | None = None
    """ROW,COL."""
    train: bool = False
    """Train."""
    speed: bool = True
    """Measure."""

    def __post_init__(self):
        if self.train and self.device == "cuda":
            raise UserError("--train: not on cuda")


def read(*args):
    return read_options(Options, args, command="measure", description="Measure.", positional=["models"])


@pytest.mark.parametrize(
    ("args", "changed"),
    [
        ([], {}),
        (["b,c"], {"models": ("a", "b,c")}),
        (["--dtype", "fp32,bf16", "--dtype=bf16"], {"dtype": ("bf16",)}),
        (["--dtype", "fp32, bf16,fp32"], {"dtype": ("fp32", "bf16")}),
        (["--batch-size", "1,32"], {"batch_size": (1, 32)}),
        (["--batch_size=8"], {"batch_size": (8,)}),
        (["--threads", "2", "--share=1", "--seconds=1e-3"], {"threads": 2, "share": 1.0, "seconds": 1e-3}),
        (["--query=3,3"], {"query": (3, 3)}),
        (["--query", "-1,3"], {"query": (-1, 3)}),
        (["--train", "b"], {"train": True, "models": ("a", "b")}),
        (["--train", "true", "--speed", "false"], {"train": True, "speed": False}),
        (["--speed=false"], {"speed": False}),
    ],
)
def test_flags_set_fields(args, changed):
    assert repr(read("a", *args)) == repr(Options(**({"models": ("a",)} | changed)))  # of Python's own types


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--dtype=fp32,bf17"], "--dtype bf17: allowed are fp32, bf16 (did you mean 'bf16'?)"),
        (["--batch-size=1,0"], "--batch_size 0: allowed are whole numbers from 1"),
        (["--batch_size", "x"], "--batch_size x: allowed is a whole number"),
        (["--threads", "5000"], "--threads 5000: allowed are whole numbers from 1 to 4096"),
        (["--threads="], "--threads '': allowed is a whole number"),
        (["--threads"], "--threads: expected one argument"),
        (["--threads", "-dash"], "--threads -dash: a value that begins with a hyphen needs '=': --threads=-dash"),
        (["--threads", "--train"], "--threads: expected one argument"),
        (["--share=1.5"], "--share 1.5: allowed are numbers from 0 to 1"),
        (["--share=half"], "--share half: allowed is a number"),
        (["--seconds=0"], "--seconds 0: allowed are numbers above 0"),
        (["--seconds=inf"], "--seconds inf: allowed are numbers above 0"),
        (["--device", "cud"], "--device cud: allowed are cpu, cuda (did you mean 'cuda'?)"),
        (["--query=3"], "--query 3: give 2 values with commas"),
        (["--train=maybe"], "--train maybe: allowed is true or false"),
        (["--query", "-1"], "--query -1: give 2 values with commas"),
        (["--stage=3"], "--stage: no such flag"),
        (["--thread=3"], "--thread: no such flag (did you mean '--threads'?)"),
        (["\u2013train"], "\u2013train: this begins with a long dash; flags begin with two hyphens"),
        (["--train", "--device=cuda"], "--train: not on cuda"),
    ],
)
def test_one_mistake_is_one_line(args, message):
    with pytest.raises(UserError) as refused:
        read("a", *args)
    assert str(refused.value) == message


def test_all_mistakes_are_listed_at_once():
    with pytest.raises(UserError) as refused:
        read("--fast=1", "--threads=0", "--share", "7", "--device=gpu", "--train", "--out")
    assert str(refused.value).splitlines() == [
        "--fast: no such flag",
        "--out: no such flag",
        "--threads 0: allowed are whole numbers from 1 to 4096",
        "--share 7: allowed are numbers from 0 to 1",
        "--device gpu: allowed are cpu, cuda",
        "missing MODELS: networks to measure.",
    ]


@dataclass(frozen=True)
class Named:
    folder: str
    """A run folder."""
    repo_id: str
    """The repository."""
    public: bool = False
    """Show it."""


def test_required_flags_and_single_positions():
    def read_named(*args):
        return read_options(Named, args, command="push", description="Push.", positional=["folder"])

    assert read_named("runs/a", "--repo-id", "user/name") == Named("runs/a", "user/name")
    assert read_named("--public", "runs/a", "--repo-id=user/name") == Named("runs/a", "user/name", public=True)
    with pytest.raises(UserError, match=r"missing FOLDER: a run folder.\nmissing --repo_id: the repository."):
        read_named()
    with pytest.raises(UserError, match="more: no flag takes this; leave it out"):
        read_named("runs/a", "more", "--repo_id=user/name")
    with pytest.raises(UserError, match=r"^a/b: no flag takes this \(did you mean '--repo_id a/b'\?\)$"):
        read_named("runs/a", "a/b")
    with pytest.raises(UserError, match="--public maybe: allowed is true or false"):
        read_named("runs/a", "--public", "maybe", "--repo_id=user/name")
    with pytest.raises(UserError, match=r"runs/a: no flag takes this \(did you mean '--folder runs/a'"):
        read_options(Named, ["runs/a"], command="report", description="")


@dataclass(frozen=True, kw_only=True)
class Inherited(Named):
    """Options of a command that has those of another one."""

    models: tuple[str, ...] = ("a",)
    """Networks."""


def help_of(capsys, kind, *args):
    with pytest.raises(SystemExit) as stopped:
        read_options(kind, args, command="measure", description="Measure.", positional=["models"])
    assert stopped.value.code == 0
    return " ".join(capsys.readouterr().out.split())


def test_help_shows_docstrings_choices_and_defaults_also_of_inherited_fields(capsys):
    text = help_of(capsys, Inherited, "--help")
    assert "--folder FOLDER A run folder." in text
    assert "[MODELS ...]" in text
    assert "MODELS Networks (default: a)." in text
    text = help_of(capsys, Options, "a", "--help", "--threads=0")
    assert "usage: shvit-pl measure" in text
    assert "--dtype {fp32,bf16} Number types, 50% of them short (default: fp32)." in text
    assert "--batch_size BATCH_SIZE Images (default: the paper's). --" in text
    assert "--threads THREADS Threads of a CPU. --" in text
    assert "Networks to measure." in text


def test_reading_leaves_other_flags_as_they_were():
    args = ["--models=a", "--threads", "2", "--model.lr", "-1", "-c", "a.yaml", "--train", "--dtype=bf16"]
    rest: list[str] = []
    options = read_options(Options, args, command="measure", description="Measure.", rest=rest)
    assert options == Options(("a",), threads=2, train=True, dtype=("bf16",))
    assert rest == ["--model.lr", "-1", "-c", "a.yaml"]
    assert list(own_args(Options, args[1:])) == [
        *[("threads", "2"), ("", "--model.lr"), ("", "-1"), ("", "-c"), ("", "a.yaml"), ("train", "true")],
        ("dtype", "bf16"),
    ]


class Callback:
    """As Lightning's: a flag takes one, or a list of them."""


class Stopping(Callback):
    def __init__(self, monitor: str, patience: int = 3):
        """Take what `--callbacks.help` shows."""


@pytest.fixture
def parser():
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("-c", "--config", action=ActionConfigFile)
    parser.add_argument("--callbacks", type=list[Callback] | Callback | None)
    parser.add_argument("--depth", type=tuple[int, ...] | None)
    parser.add_class_arguments(Options, "data")
    return parser


STOPPING = f"{__name__}.Stopping"
LISTED = f"callbacks {STOPPING}: "
NO_CLASS = "no such class; give one of lightning.pytorch.callbacks, or an import path such as mine"
HELP = f"; see shvit-pl fit --callbacks.help {STOPPING}"


@pytest.mark.parametrize(
    ("args", "messages"),
    [
        (["--data.threads=two"], ["data.threads two: allowed is a whole number"]),
        (["--data.threads"], ["--data.threads: expected one argument"]),
        (["--depth=[1, x]"], ["depth [1, 'x']: allowed is a list of whole numbers such as [1, 2] or null"]),
        (["--data=cpu"], ["data cpu: this is a section; set what is in it, such as data.path"]),
        (["--callbacks=Stoping"], [f"callbacks Stoping: {NO_CLASS}.Stoping"]),
        ([f"--callbacks={STOPPING}"], [f"{LISTED}required: monitor{HELP}"]),
        ([f"--callbacks={STOPPING}", "--callbacks.patince=3"], [
                f"{LISTED}patince: no such setting (did you mean 'patience'?){HELP}",
            ]),
        (["--callbacks.help=Stop"], [
            f"callbacks.help Stop: {NO_CLASS}.Stop",
        ]),
        (["tiny.yaml"], ["tiny.yaml: no flag takes this (did you mean '--config tiny.yaml'?)"]),
        (["--print_config=all"], ["--print_config all: not available; leave the value out"]),
        (["--data.seconds", "fast", "--data.devise", "cpu", "--data.share=2", "more"], [
            "data.seconds fast: allowed is a number",
            "data.share 2: allowed are numbers from 0 to 1",
            "--data.devise: no such flag (did you mean '--data.device'?)",
            "more: no flag takes this; leave it out",
        ]),
        (["-c", "mine.yaml", "--data.seconds=fast", "--print_config"], [
            "data.share 3: allowed are numbers from 0 to 1",
            "data.device gpu: allowed are cpu, cuda",
            "data.seconds fast: allowed is a number",
            "data.sharp: no such setting (did you mean 'data.share'?)",
        ]),
    ],
)  # fmt: skip
def test_mistakes_in_flags_and_configs_are_left_out_and_listed(args, messages, parser, tmp_path):
    (tmp_path / "mine.yaml").write_text("data: {share: 3, device: gpu, sharp: 1, train: true}")
    config, mistakes = parse_flags(parser, with_found_configs([*args, "--data.models=[a]"]))
    assert mistakes == messages
    assert config.data.models == ("a",)
    assert (config.data.seconds, config.data.share, config.data.train) == (0.5, 0.5, "-c" in args)


def test_reading_needs_no_torch():
    code = "import sys, shvit_pl.command_line.parser; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
