"""Every message that asks for a flag: the flag that it asks for cures what it says."""

import ast
import contextlib
import functools
import re
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import datasets
import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file
from torch import nn

import shvit_pl
from shvit_pl.analysis.command import HeadsOptions, RuntimeOptions
from shvit_pl.analysis.heads_subject import choose_reference, open_subject
from shvit_pl.analysis.runtime import measure
from shvit_pl.analysis.study import make_ready, measured_device
from shvit_pl.callbacks.checkpoints import RunSettings
from shvit_pl.callbacks.inference import OptimizedNetwork, PredictionWriter
from shvit_pl.command_line.parser import read_options
from shvit_pl.data.config import DataConfig
from shvit_pl.data.decoding import BrokenImage
from shvit_pl.deploy import export as export_file
from shvit_pl.deploy.options import BenchmarkOptions, ExportOptions
from shvit_pl.errors import UserError
from shvit_pl.fit import lightning_cli, options
from shvit_pl.models import create_model
from shvit_pl.models.open_network import OpenedNetwork, open_network
from shvit_pl.modules.classification import ClassificationModule
from shvit_pl.modules.config import ClassificationConfig, EmaConfig
from shvit_pl.modules.optim_and_ema import make_average
from shvit_pl.sweep.engine.local import local_engine
from shvit_pl.sweep.options import SweepOptions
from shvit_pl.teachers.classes import mapped_classes, match_classes
from shvit_pl.teachers.config import DistillConfig
from shvit_pl.teachers.teacher import check_teacher, probe
from tests.cli.runs import QUICK
from tests.data.test_decoding import encoded, pixels
from tests.teachers.makers import DIGITS, opened, shaken, stored
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


def evaluate(cli, *flags):
    fit(cli, "--data.num_workers=0", *flags, command="test")


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
        place[last] = yaml.safe_load(value)
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
    local_engine(read_options(SweepOptions, flags, command="sweep", description="", positional=[]), "auto")


def resumed(cli, *flags):
    """Resume what two processes trained, which read a stream by two workers each."""
    now = RunSettings({}, allow_changes="--allow_changes=true" in flags)
    now.processes = 1 if "--trainer.devices=1" in flags else 2
    now.readers = 1 if "--data.num_workers=1" in flags else 2
    now.load_state_dict({"settings": {}, "processes": 2, "readers": 2})


def predicts(cli, *flags):
    with TemporaryDirectory() as folder:
        PredictionWriter(f"{folder}/predictions.csv").on_predict_start(_trainer(flags), None)


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


def teach(cli, *flags):
    """Open a teacher of the digits."""
    config = {flag.partition("=")[0].rpartition(".")[2]: flag.partition("=")[2] for flag in flags}
    config |= {name: int(size) for name, size in config.items() if name == "teacher_size"}
    opened(**config, class_names=DIGITS)


class Plain(nn.Sequential):
    """A classifier without timm's model contract."""

    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(3 * 8 * 8, 10))


def probes(cli, *flags):
    objective = flags[0].partition("=")[2]
    probe(OpenedNetwork("x", Plain(), "timm", 8), DistillConfig("x", objective=objective))


def checks(cli, *flags, labels=()):
    """Check a teacher of four classes that calls each by the next one's name; `flags` skip the check or map them."""
    if f"{D}check=false" in flags:
        return
    columns = [3, 0, 1, 2] if f"{D}class_map=MAP" in flags else [0, 1, 2, 3]
    labels = torch.tensor(labels).repeat(10)
    images = nn.functional.one_hot((labels - 1) % 4, 4).float()
    teacher = SimpleNamespace(source="x", device="cpu", logits=lambda images: images[:, columns])
    check_teacher(teacher, [{"image": images, "label": labels}])


guesses = functools.partial(checks, labels=[0, 1, 2, 3])


def checks_images(cli, *flags):
    """Check a good teacher on images of one class, or of all."""
    checks(cli, *flags, f"{D}class_map=MAP", labels=[1, 1, 1, 1])


def int8(cli, *flags):
    """Open the images for int8 of a run whose dataset is gone."""
    data = flags[0].partition("=")[2] if flags else "gone"
    network = OpenedNetwork("x", None, "checkpoint", 64, class_names=DIGITS, data={"path": "digits"})
    export_file._own_images(network, ExportOptions(network="x", output="a.onnx", format="onnx", int8=True, data=data))


def labels(cli, *flags):
    """Choose what the heads of a network of ten classes are scored by."""
    chosen = "dataset" if "--labels=dataset" in flags else None
    names = DIGITS if "--data=digits" in flags else DIGITS[:3]
    network = OpenedNetwork("x", SimpleNamespace(num_classes=10), "timm", 64, class_names=DIGITS)
    choose_reference(network, SimpleNamespace(path="images", class_names=names), chosen)


def heads(cli, *flags):
    kwargs = {flag.partition("=")[0]: yaml.safe_load(flag.partition("=")[2]) for flag in flags}
    options = {"model_kwargs": kwargs["--model_kwargs"]}
    open_subject(HeadsOptions("timm:test_vit", device="cpu", images=2, **options))


def runtime(cli, *flags):
    options = RuntimeOptions(models=("timm:test_resnet",), batch_size=1)
    network = make_ready(open_network("timm:test_resnet"), options, measured_device("cpu"), torch.contiguous_format)
    measure([network], "network" if "--scope=network" in flags else "attention", repeats=1)


def gpus(cli, *flags):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "device_count", lambda: 3)
        sweep(cli, *flags)


def few(cli, *flags):
    """End a fit of 12 steps with this average; a note is raised as if it were a refusal."""
    decay = float(flags[0].partition("=")[2])
    config = ClassificationConfig(ema=EmaConfig(decay=decay, warmup_power=0))
    average = make_average(config.ema, nn.Linear(1, 1))
    trainer, headline = SimpleNamespace(global_step=12), ClassificationModule.headline
    module = SimpleNamespace(config=config, ema=average, trainer=trainer, _statistics=None, headline=headline)
    if notes := ClassificationModule.notes_on_few_steps(module):
        raise UserError(notes[0])


@pytest.fixture(scope="module")
def built(short_run, tmp_path_factory):
    """A folder with runs that ended and were interrupted, one in a sweep, and datasets."""
    here = tmp_path_factory.mktemp("cures")
    with contextlib.chdir(here):
        build(short_run, here)
    return here


@pytest.fixture
def place(built, monkeypatch):
    """Be in that folder; nothing is written there."""
    monkeypatch.chdir(built)
    before = sorted(built.rglob("*"))
    yield
    assert sorted(built.rglob("*")) == before


def build(short_run, here):
    ended = shutil.copytree(short_run, here / "ended" / "tiny" / "version_0")
    cut = shutil.copytree(short_run, here / "cut" / "tiny" / "version_0")
    (cut / "summary.json").unlink()
    shutil.copytree(ended, here / "swept" / "runs" / "tiny" / "version_0")
    (here / "swept" / "sweep.yaml").touch()
    for color in ("red", "blue"):
        for number in range(12):
            file = Path("images", color, f"{number:02}.png")
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (40, 32), color).save(file)
    picture, label = Image.new("RGB", (64, 64)), datasets.ClassLabel(names=["a", "b"])
    rows = {"image": [picture] * 20, "other": [picture] * 20, "label": [0, 1] * 10, "second": [1, 0] * 10}
    features = {"image": datasets.Image(), "other": datasets.Image(), "label": label, "second": label}
    rows["word"], features["word"] = ["a", "b"] * 10, datasets.Value("string")
    whole = datasets.Dataset.from_dict(rows, features=datasets.Features(features))
    whole.remove_columns(["second", "word"]).to_parquet("images.parquet")
    whole.remove_columns(["other", "word"]).to_parquet("labels.parquet")
    whole.remove_columns(["other", "second"]).to_parquet("words.parquet")
    rows = {"picture": [Path("images/red/00.png").read_bytes()] * 20, "label": [0, 1] * 10}
    datasets.Dataset.from_dict(rows).cast_column("label", label).to_parquet("bytes.parquet")
    for digit in range(10):
        for split in ("train", "test"):
            shutil.copytree("images/red", f"numbers/{split}/{digit}")
    stored(shaken("lcnet_035"), "lcnet.safetensors")
    save_file(create_model("tiny", num_classes=10).state_dict(), "bare.safetensors")
    for split in ("train", "validation"):
        shutil.copytree("images", f"halves/{split}")


ENDED, CUT = "--ckpt_path=ended/tiny/version_0", "--ckpt_path=cut/tiny/version_0"
BEGIN = "--model.init_from=ended/tiny/version_0/checkpoints/best.ckpt"
BARE = "--model.init_from=bare.safetensors"
STREAM = ["--data.streaming=true", "--trainer.limit_train_batches=null"]
TINY = ["--model.design.name=tiny", "--data.image_size=64"]
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
    "decides the length of the run, in epochs": (
        fit, [ENDED, "--extend_to=4", "--trainer.max_epochs=12"], [ENDED, "--extend_to=4"]
    ),
    "Begin with --config": (fit, [CUT, "--seed_everything=3"], ["--config=cut/tiny/version_0/config.yaml", CUT]),
    ", or start a new run from its weights": (fit, [CUT, "--seed_everything=3"], ["--seed_everything=3", BEGIN]),
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
    "a stream can't be divided. Leave it out": (
        data, ["--data.streaming=true", STEPS, "--data.fold=1/4"], ["--data.streaming=false", "--data.fold=1/4"]
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
    "Or give a file of timm's weights": (
        teach, [f"{D}teacher=lcnet_035"], [f"{D}teacher=lcnet_035", f"{D}weights=lcnet.safetensors"]
    ),
    "gives no pooled features": (probes, [f"{D}objective=feature"], [f"{D}objective=soft"]),
    "can't take images of": (
        teach, [f"{D}teacher=ended/tiny/version_0", f"{D}teacher_size=8"],
        [f"{D}teacher=ended/tiny/version_0", f"{D}teacher_size=64"],
    ),
    "not above {}": (guesses, [], [f"{D}class_map=MAP"]),
    "To skip this check, set": (guesses, [], [f"{D}check=false"]),
    "model.distill.check: {}": (checks_images, [], [f"{D}check=false"]),
    "so top-1 means nothing": (int8, ["--data=images"], ["--data=digits"]),
    "its calibration needs": (int8, [], ["--data=digits"]),
    "--labels dataset: the network": (labels, ["--labels=dataset"], ["--labels=dataset", "--data=digits"]),
    "or leave --labels out": (labels, ["--labels=dataset"], []),
    "not a classifier (it has": (
        heads, ["--model_kwargs={num_classes: 0}"], ["--model_kwargs={num_classes: 1000}"]
    ),
    "no known attention layers": (runtime, [], ["--scope=network"]),
    "give more of --gpus": (gpus, ["--workers=2", "--gpus=1"], ["--workers=2", "--gpus=0,1"]),
    "there is no test split": (
        evaluate, [f"{ENDED}/checkpoints/best.ckpt"], [f"{ENDED}/checkpoints/best.ckpt", "--data.path=numbers"]
    ),
    "has no weights for these classes": (
        validate, ["--data.path=images", BARE, *TINY], ["--data.path=digits", BARE, *TINY]
    ),
    ": no column has": (
        fit, ["--data.path=bytes.parquet"],
        ["--data.path=bytes.parquet", "--data.image_column=picture", "--data.batch_size=8"],
    ),
    "has a flag, --model.optim": (model, ["--model.optim.options={lr: 0.1}"], ["--model.optim.lr=0.1"]),
    "_ema says little": (few, ["--model.ema.decay=0.99"], ["--model.ema.decay=0.583"]),
    "intensities from {} to": (decode, [], ["--data.intensity_range=[0, 1]"]),
    "there would be no run folder": (
        fit, ["--trainer.logger=false"], ["--trainer.logger=false", "--trainer.enable_checkpointing=false"]
    ),
    "predict writes one file": (predicts, ["--trainer.devices=2"], ["--trainer.devices=1"]),
}  # fmt: skip

ELSEWHERE = {  # messages that need more than a moment, and the test that provokes them
    "--int8: top-1 falls": "tests/deploy/export/test_command.py::test_int8_is_smaller_and_its_costs_are_printed",
    "this run has not ended (": "tests/cli/test_extend.py::test_an_interrupted_run_is_resumed_first",
    **dict.fromkeys(
        (
            "Give --{} {}",
            "give the images by --data",
        ),
        "tests/cli/test_checkpoint_mistakes.py::"
        "test_a_relative_path_of_a_run_is_named_with_the_folder_in_which_it_was_started",
    ),
    "or give another --folder": "tests/sweep/test_command.py::"
    "test_the_same_command_again_starts_nothing_and_a_changed_one_is_refused_with_the_difference",
    "ray start --head has started": "tests/sweep/engine/test_ray.py::"
    "test_an_address_where_no_cluster_answers_is_refused",
    "; give --engine ray or slurm": "tests/sweep/test_options.py::test_an_impossible_missing_or_wrong_value_is_refused",
    "give --{} instead": "tests/sweep/test_options.py::test_an_impossible_missing_or_wrong_value_is_refused",
    "go on with --engine slurm": "tests/sweep/engine/test_driver.py::test_a_job_of_another_engine_is_named",
    "Give fewer --workers": "tests/sweep/engine/test_slurm.py::"
    "test_a_busy_controller_is_asked_again_and_a_refusal_is_told",
    "run it where SLURM is": "tests/sweep/engine/test_slurm.py::test_without_slurm_the_engine_is_refused",
    "Run it where SLURM answers": "tests/sweep/engine/test_slurm.py::"
    "test_a_slurm_that_does_not_answer_is_refused_with_what_it_says",
    "Resume it first": "tests/cli/test_extend.py::test_an_interrupted_run_is_resumed_first",
    "data.crowd ignore: all objects of": "tests/data/objects/test_checks.py::"
    "test_many_crowds_are_warned_of_and_can_be_objects",
    "as such files have them: center x": "tests/data/objects/test_checks.py::"
    "test_yolo_boxes_that_leave_their_image_are_refused_unless_given",
    "the least one that is drawn; give": "tests/cli/test_detection.py::test_a_score_is_for_drawing",
    "no such {} of {}, but of {}. Give --task": "tests/cli/test_detection.py::test_a_mistake_is_one_line",
    "{} learns masks. Give": "tests/cli/test_detection.py::"
    "test_masks_that_are_not_there_are_refused_before_the_first_step",
    "the boxes could be": "tests/data/objects/test_box_format.py::"
    "test_what_is_undecidable_is_refused_and_decided_by_masks_or_by_the_custom_of_a_known_dataset",
    "and they seem to be": "tests/data/objects/test_box_format.py::test_shares_that_are_no_centers_are_refused",
    **dict.fromkeys(
        (
            "but nothing tells centers",
            "so they are pixels, and not shares",
            "so they are shares of the image",
            "some annotations are of the image turned",
        ),
        "tests/data/objects/test_checks.py::test_what_can_not_be_mended_is_refused",
    ),
    "of the objects are crowds": "tests/data/objects/test_checks.py::test_many_crowds_are_warned_of_and_can_be_objects",
    **dict.fromkeys(
        ("with NMS, one image at a time; leave it out", "it has no NMS; give --dense"),
        "tests/cli/test_detection.py::test_what_a_detector_can_not_be_exported_as_is_one_line",
    ),
    **dict.fromkeys(
        ("or by --runtime onnx; leave it out", "a graph with NMS takes one image at a time; give"),
        "tests/deploy/benchmark/test_detectors.py::test_what_no_detector_has_is_refused",
    ),
    **dict.fromkeys(
        ("To learn boxes (COCO, YOLO), give", " To learn boxes, give"),
        "tests/data/objects/test_reading.py::test_a_classifier_is_told_which_task_boxes_are_for",
    ),
    "they weigh the labels' part of the loss": "tests/modules/test_class_weights.py::"
    "test_in_distillation_they_weigh_the_labels_part_alone",
    "the small ones may be neglected": "tests/modules/test_class_weights.py::"
    "test_a_line_says_the_ratio_and_above_10_what_to_do",
    **dict.fromkeys(
        ("use shvit-pl fit --find batch_size", "use shvit-pl fit --find lr"),
        "tests/cli/test_finding.py::test_what_is_found_is_printed_and_drawn_and_nothing_else_is_left",
    ),
    "a split with objects by --data.": "tests/data/objects/test_reading.py::"
    "test_a_split_without_objects_is_refused_before_the_run",
    "as shvit-pl push --backbone writes": "tests/cli/test_detection.py::test_a_detector_begins_no_classification",
    "also with --task detection": "tests/hub/test_detectors.py::test_what_it_is_not_for_is_one_message",
    "several datasets can't be streamed": "tests/data/test_sources.py::test_what_can_not_be_joined_is_refused",
    "it isn't in the header of": "tests/data/test_tables.py::test_a_wrong_delimiter_is_refused_with_the_right_one",
    "folder, or at --data.root FOLDER": "tests/data/test_tables.py::"
    "test_relative_paths_begin_at_the_root_and_absolute_ones_are_as_they_are",
    "Divide the splits by groups, or validate": "tests/data/test_folds.py::"
    "test_groups_in_two_splits_are_refused_in_validation_and_told_in_the_test",
    "that run is of {}; give --task": "tests/cli/test_detection.py::"
    "test_to_go_on_with_the_last_run_needs_the_task_or_a_config",
    "Go on with --data.revision": "tests/data/test_opening.py::"
    "test_a_run_records_the_commit_that_it_saw_and_goes_on_with_it_alone",
    "a temperature is kept in a run's folder; give": "tests/cli/test_robustness.py::"
    "test_a_temperature_belongs_to_a_run",
    "not measured here; give --corruptions": "tests/sweep/test_checks.py::"
    "test_a_sweep_by_corrupted_images_measures_them",
}
NO_CURE = (  # texts that name a flag, but ask for nothing that would cure a refusal
    "--image_size or --device", "--image_size, --batch_size or --dtype",  # memory: any smaller value may do
    "more than the device's memory holds", "not a finite number at step", "can't be written (",
    "Give --data.num_workers {} (now", "Too few images to say", "Several values are separated",  # advice
    "the images use few of their 16 bits", "with --model.detector.anchor_scale {}", "predict --draw draws",
    "use it: shvit-pl", "the run stopped; resume it", "skip it with --speed", "if they don't slow",  # next steps
    "or resume with --ckpt_path", "give a study, one of", "set by --folder", "set by --nodes_per_run",
    "GPUs with --gpus_per_run {} have", "each with --cpus_per_run {}",
    "to overfit a few images", "use --model.init_from with",  # parts of messages that say what to do instead
    "an average is kept with", "model.design.name, or give --config s1.yaml", "the embedded digits; for the folder",
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
    known = [*CASES, *ELSEWHERE, *NO_CURE]
    assert [text for text in sorted(asking()) if not any(part in text for part in known)] == []
    assert [part for part in known if not any(part in text for text in asking())] == []
    for test in ELSEWHERE.values():
        path, _, name = test.partition("::")
        assert f"def {name}(" in (ROOT.parent / path).read_text(), test
