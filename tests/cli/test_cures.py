"""Every message that asks for a flag: the flag that it asks for cures what it says."""

import ast
import functools
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import datasets
import numpy as np
import pytest
from PIL import Image

import shvit_pl
from shvit_pl.callbacks.checkpoints import RunSettings
from shvit_pl.callbacks.inference import OptimizedNetwork, PredictionWriter
from shvit_pl.command_line.parser import read_options
from shvit_pl.data.config import DataConfig
from shvit_pl.data.decoding import BrokenImage
from shvit_pl.deploy.options import BenchmarkOptions, ExportOptions
from shvit_pl.errors import UserError
from shvit_pl.fit import lightning_cli, options
from shvit_pl.modules.config import ClassificationConfig
from shvit_pl.sweep.options import SweepOptions
from shvit_pl.sweep.start import slots
from shvit_pl.teachers.classes import mapped_classes, match_classes
from tests.cli.runs import QUICK
from tests.data.test_decoding import encoded, pixels
from tests.teachers.test_classes import PETS

ROOT = Path(shvit_pl.__file__).parent
_ASKS = re.compile(
    r"\b(give|use|choose|name|set|pass|add|lower|map|measure|raise|load|with|go on|resume|has|or|by)\b[^.]*? --[a-z{]",
    re.IGNORECASE,
)


@functools.cache
def asking(root=ROOT):
    """Every text of the source, but docstrings, that asks for a flag; `{}` stands for what is filled in."""
    found = set()
    for path in root.rglob("*.py"):
        nodes = list(ast.walk(ast.parse(path.read_text())))
        parts = {
            id(part) for node in nodes if isinstance(node, ast.JoinedStr) for part in ast.walk(node) if part != node
        }
        docs = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
        for node in nodes:
            if isinstance(node, ast.Constant | ast.JoinedStr) and id(node) not in parts | docs:
                found |= {text for text in [_text(node)] if _ASKS.search(text)}
    return found


def _text(node):
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    return "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)


# ---- ways to try; each raises the message, or goes on beyond it


@pytest.fixture(scope="module")
def fit_cli():
    return lightning_cli.ShvitCLI(["fit"])


def fit(cli, *flags, command="fit"):
    """Read, check and open everything as `fit` does, without a step."""
    if command != "fit":
        cli = lightning_cli.ShvitCLI([command, *flags])
    else:
        cli.parse_arguments(cli.parser, options.read_flags([*QUICK, *flags]))
        cli.before_instantiate_classes()
        cli.instantiate_classes()
    cli.open_inputs()


def validate(cli, *flags):
    fit(cli, "--data.path=digits", "--data.num_workers=0", *flags, command="validate")


def cache_teacher(cli, *flags):
    lightning_cli.CacheCLI(["cache-teacher", *QUICK, *flags])


def model(cli, *flags):
    """Make the model's settings of `section.name=value`."""
    settings = {}
    for flag in flags:
        name, _, value = flag.removeprefix("--model.").partition("=")
        *sections, last = name.split(".")
        place = settings
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = {"true": True, "false": False}.get(value, value)
    ClassificationConfig.from_dict(settings)


def data(cli, *flags):
    values = dict(flag.removeprefix("--data.").split("=") for flag in flags)
    known = {"true": True, "false": False, "null": None, "3": 3}
    DataConfig(**{name: known.get(value, value) for name, value in values.items()})


def benchmark(cli, *flags):
    read_options(BenchmarkOptions, ["tiny", *flags], command="benchmark", description="", positional=["models"])


def export(cli, *flags):
    read_options(ExportOptions, ["tiny", *flags], command="export", description="", positional=["network"])


def sweep(cli, *flags):
    slots(read_options(SweepOptions, flags, command="sweep", description="", positional=[]), "auto")


def resumed(cli, *flags):
    """Resume what two processes trained, which read a stream by two workers each."""
    now = RunSettings({}, allow_changes="--allow_changes=true" in flags)
    now.processes = 1 if "--trainer.devices=1" in flags else 2
    now.readers = 1 if "--data.num_workers=1" in flags else 2
    now.load_state_dict({"settings": {}, "processes": 2, "readers": 2})


def predicts(cli, *flags):
    PredictionWriter("predictions.csv").on_predict_start(_trainer(flags), None)


def optimizes(cli, *flags):
    OptimizedNetwork().setup(_trainer(flags), None, "predict")


def _trainer(flags):
    return SimpleNamespace(world_size=1 if "--trainer.devices=1" in flags else 2, precision="32-true")


def classes(cli, names, *flags):
    """Match the classes of the data with the teacher's, or by a map."""
    if flags:
        mapped_classes({name: place for place, name in enumerate(names)}, 3, PETS, names)
    else:
        match_classes("t", 3, PETS, names)


def decode(cli, *flags):
    data = encoded(Image.fromarray(np.ones((2, 2), np.float32)), "TIFF")
    pixels(data, **({"intensity_range": (0, 1)} if flags else {}))


@pytest.fixture
def place(short_run, tmp_path, image_folder):
    """Runs that ended and were interrupted, one in a sweep, and datasets."""
    ended = shutil.copytree(short_run, tmp_path / "ended" / "tiny" / "version_0")
    cut = shutil.copytree(short_run, tmp_path / "cut" / "tiny" / "version_0")
    (cut / "summary.json").unlink()
    shutil.copytree(ended, tmp_path / "swept" / "runs" / "tiny" / "version_0")
    (tmp_path / "swept" / "sweep.yaml").touch()
    picture, label = Image.new("RGB", (64, 64)), datasets.ClassLabel(names=["a", "b"])
    rows = {"image": [picture] * 20, "other": [picture] * 20, "label": [0, 1] * 10, "second": [1, 0] * 10}
    features = {"image": datasets.Image(), "other": datasets.Image(), "label": label, "second": label}
    rows["word"], features["word"] = ["a", "b"] * 10, datasets.Value("string")
    whole = datasets.Dataset.from_dict(rows, features=datasets.Features(features))
    whole.remove_columns(["second", "word"]).to_parquet("images.parquet")
    whole.remove_columns(["other", "word"]).to_parquet("labels.parquet")
    whole.remove_columns(["other", "second"]).to_parquet("words.parquet")
    for split in ("train", "validation"):
        shutil.copytree("images", f"halves/{split}")


ENDED, CUT = "--ckpt_path=ended/tiny/version_0", "--ckpt_path=cut/tiny/version_0"
BEGIN = "--model.init_from=ended/tiny/version_0/checkpoints/best.ckpt"
STREAM = ["--data.streaming=true", "--trainer.limit_train_batches=null"]
STEPS = "--data.steps_per_epoch=3"
D = "--model.distill."
NO_TEACHER = f"{D}alpha=0.3"
USUAL = {"--data.batch_size=8", "--trainer.limit_train_batches=null"}  # of these small datasets and streams
TWICE = "--data.path=images.parquet", "--data.path=labels.parquet"

# what is refused, and the same after the message: {part of the message: (way to try, flags, flags after it)}
CASES = {
    "its run has ended": (fit, [ENDED], [ENDED, "--extend_to=4"]),
    "trained on from its last.ckpt": (
        fit, [f"{ENDED}/checkpoints/best.ckpt", "--extend_to=4"],
        [ENDED, "--extend_to=4"],
    ),
    "it counts these too": (fit, [ENDED, "--extend_to=2"], [ENDED, "--extend_to=4"]),
    "has a checkpoint to go on from": (fit, ["--extend_to=4", "--run_name=n"], ["--extend_to=4", ENDED]),
    "which compares runs of equal": (
        fit, ["--ckpt_path=swept/runs/tiny/version_0", "--extend_to=4"], ["--extend_to=4", ENDED]
    ),
    "and trainer.max_epochs is": (
        fit, [CUT, "--trainer.max_epochs=1", "--allow_changes=true"],
        [CUT, "--trainer.max_epochs=3", "--allow_changes=true"],
    ),
    "Give the flags of that run": (fit, [CUT, "--seed_everything=3"], ["--seed_everything=3", BEGIN]),
    ", or give --allow_changes true": (
        fit, [CUT, "--seed_everything=3"],
        [CUT, "--seed_everything=3", "--allow_changes=true"],
    ),
    ", or start a new run with": (
        fit, [CUT, "--allow_changes=true", "--model.ema.decay=0.9"], ["--model.ema.decay=0.9", BEGIN]
    ),
    "another global batch": (resumed, ["--trainer.devices=1"], ["--trainer.devices=2"]),
    "its order; give": (resumed, ["--data.num_workers=1"], ["--data.num_workers=2"]),
    "works in the workers alone": (
        data, ["--data.augment_on=device", "--data.auto_augment=3a"],
        ["--data.augment_on=device", "--data.augment=crop", "--data.auto_augment=null"],
    ),
    "streaming requires 1": (
        data, ["--data.streaming=true", STEPS, "--data.repeats=3"], ["--data.streaming=false", "--data.repeats=3"]
    ),
    "has no validation split (": (
        fit, [*STREAM, STEPS, "--data.path=images"],
        ["--data.streaming=false", "--data.path=images", "--data.batch_size=8"],
    ),
    "a stream must name its classes": (
        fit, [*STREAM, STEPS, "--data.path=words.parquet", "--data.label_column=word"],
        ["--data.streaming=false", "--data.path=words.parquet", "--data.label_column=word", "--data.batch_size=8"],
    ),
    "an epoch of a stream has": (
        fit, ["--data.streaming=true", STEPS, "--data.path=halves"],
        [*STREAM, STEPS, "--data.path=halves", "--data.batch_size=8"],
    ),
    "several columns hold": (fit, [TWICE[0]], [TWICE[0], "--data.image_column=other", "--data.batch_size=8"]),
    ": several columns hold": (fit, [TWICE[1]], [TWICE[1], "--data.label_column=second", "--data.batch_size=8"]),
    "sets it itself. Leave it out": (
        benchmark, ["--protocol=official", "--mode=eager"], ["--mode=official,eager,optimized"]
    ),
    "only with --protocol official": (benchmark, ["--warm_up=3"], ["--warm_up=3", "--protocol=official"]),
    "for inference only; leave out": (benchmark, ["--train=true", "--runtime=onnx"], ["--runtime=onnx"]),
    "the recipe trains in fp32 or bf16": (
        benchmark, ["--train=true", "--dtype=fp16"],
        ["--train=true", "--dtype=bf16"],
    ),
    "with --runtime onnx, allowed is fp32": (
        benchmark, ["--runtime=onnx", "--dtype=bf16"], ["--runtime=onnx", "--dtype=fp32"]
    ),
    "it needs --runtime torch": (
        benchmark, ["--runtime=onnx", "--mode=eager"], ["--runtime=torch,onnx", "--mode=eager"]
    ),
    "only with --format onnx": (export, ["--format=torch-export", "--opset=18"], ["--format=onnx", "--opset=18"]),
    "only with --int8; add": (
        export, ["--format=onnx", "--int8_tolerance=2"],
        ["--format=onnx", "--int8_tolerance=2", "--int8=true"],
    ),
    "ckpt_path: give --ckpt_path": (validate, [], [f"{ENDED}/checkpoints/best.ckpt"]),
    "fit compiles with": (fit, ["--optimize=true"], ["--model.compile=true"]),
    "model.use_ema true: there is": (
        fit, ["--model.use_ema=true"],
        ["--model.use_ema=true", "--model.ema.decay=0.9999"],
    ),
    "cache-teacher needs it": (
        cache_teacher, [f"{D}teacher=timm:x"], [f"{D}teacher=timm:x", f"{D}cache=cached"]
    ),
    "a Hub repo has no training": (
        fit, ["--ckpt_path=hf-hub:user/x"], [BEGIN]
    ),
    "or weights only: --model.init_from": (
        fit, ["--ckpt_path=x.ckpt"], [BEGIN]
    ),
    "Mixup and CutMix need an even number": (
        fit, ["--data.batch_size=9", "--model.mix.mixup=0.8"],
        ["--data.batch_size=9", "--model.mix.mixup=0", "--model.mix.cutmix=0"],
    ),
    "which are not compiled": (
        model, [f"{D}teacher=x", f"{D}objective=feature", "--model.compile=true"],
        [f"{D}teacher=x", f"{D}objective=soft", "--model.compile=true"],
    ),
    "dual needs the second classifier": (
        model, [f"{D}teacher=x", "--model.design.distilled=false"],
        [f"{D}teacher=x", f"{D}heads=single", "--model.design.distilled=false"],
    ),
    "there is no teacher. Name one": (model, [NO_TEACHER], [NO_TEACHER, f"{D}teacher=x"]),
    "contains logits, and the objective is": (
        model, [f"{D}teacher=x", f"{D}cache=c", f"{D}objective=feature"],
        [f"{D}teacher=x", f"{D}cache=c", f"{D}objective=soft"],
    ),
    "works on one device": (optimizes, ["--trainer.devices=2"], ["--trainer.devices=1"]),
    "or map the": (classes, [("cat", "fox")], [("cat", "fox"), f"{D}class_map=MAP"]),
    "Map the classes with": (classes, [("dog", "cat", "fox")], [("dog", "cat", "fox"), f"{D}class_map=MAP"]),
    "intensities of 32 bits": (decode, [], ["--data.intensity_range=[0, 1]"]),
    "predict writes one file": (predicts, ["--trainer.devices=2"], ["--trainer.devices=1"]),
}  # fmt: skip

ELSEWHERE = {  # messages that need more than a moment, and the test that provokes them
    "Resume it first": "tests/cli/test_extend.py::test_an_interrupted_run_is_resumed_first",
    "the run saw the commit": "tests/data/test_opening.py::"
    "test_a_run_records_the_commit_that_it_saw_and_goes_on_with_it_alone",
}
NO_CURE = (  # texts that name a flag, but ask for nothing that would cure a refusal
    "--image_size or --device", "--image_size, --batch_size or --dtype",  # memory: any smaller value may do
    "more than the device's memory holds", "not a finite number at step", "can't be written (",
    "Give --data.num_workers {} (now", "Too few images to say", "Several values are separated",  # advice
    "use it: shvit-pl", "the run stopped; resume it", "skip it with --speed", "if they don't slow",  # next steps
    "or resume with --ckpt_path", "give a study, one of", "set by --folder", "GPUs with --per_gpu",
    "to overfit a few images", "use --model.init_from with",  # parts of messages that say what to do instead
    "an average is kept with",
)  # fmt: skip
OPEN = (  # whose flags no test has applied yet
    "Give a file of timm's weights", "give another --storage", "so top-1 means nothing", "--int8: top-1 falls",
    "--labels dataset: the network", "give more of --gpus", "there is no test split", "model.distill.check: {}",
    "gives no pooled features", "not above {}", "can't take images of",
    "its classifier is not for these", "Name it with --",
    "no known attention layers", "not a classifier (", "this run has not ended (",
    "or another --folder", "has a flag, --model.optim",
)  # fmt: skip


def source_of(part):
    """The text of the source that has this part."""
    (text,) = {text for text in asking() if part in text}
    return text


@pytest.mark.parametrize("part", CASES)
def test_the_flag_that_a_message_asks_for_cures_it(part, place, fit_cli):
    way, before, after = CASES[part]
    with pytest.raises((UserError, BrokenImage)) as raised:
        way(fit_cli, *before)
    message, words = str(raised.value), [re.escape(word) for word in source_of(part).split("{}")]
    assert re.search(".*".join(words), message), message
    for flag in set(after) - set(before) - USUAL:
        assert flag.partition("=")[0] in message, f"{flag} is not asked for: {message}"
    way(fit_cli, *after)


def test_every_message_that_asks_for_a_flag_has_a_case():
    known = [*CASES, *ELSEWHERE, *NO_CURE, *OPEN]
    assert [text for text in sorted(asking()) if not any(part in text for part in known)] == []
    assert [part for part in known if not any(part in text for text in asking())] == []
    for test in ELSEWHERE.values():
        path, _, name = test.partition("::")
        assert f"def {name}(" in (ROOT.parent / path).read_text(), test
