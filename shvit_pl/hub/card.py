"""`README.md` of a model repository: the model card."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from jinja2 import Environment, PackageLoader, StrictUndefined
from timm.models import get_pretrained_cfg, is_model, split_model_name_tag

from shvit_pl.designs.cost import cost
from shvit_pl.designs.design import Design, fingerprint
from shvit_pl.designs.named import NAMED, timm_name
from shvit_pl.designs.published import IMAGENET_SIZE, row_of
from shvit_pl.display.words import counted, in_markdown, joined
from shvit_pl.models.network_names import is_path, repo_of
from shvit_pl.runs.finished_run import FinishedRun, SweepChoice
from shvit_pl.runs.folder import FIGURES

_TASK = "image-classification"
_METRICS = {"acc1": "top-1", "acc5": "top-5", "loss": "cross-entropy"}
_EVAL_NAMES = {"acc1": "top-1 accuracy", "acc5": "top-5 accuracy"}
_MIXERS = {"conv": "convolution", "single_head": "single head", "multi_head": "multi-head"}
_MAX_CLASSES = 30  # a longer list would fill the page
_LINE_WIDTH = 92  # characters of code that fit on the page without scrolling
_REPO = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")


@dataclass(frozen=True)
class Target:
    """A repository of the Hub to push to."""

    repo_id: str
    """`user/name`; created if it does not exist."""
    revision: str | None = None
    """A branch other than main; created if it does not exist."""
    public: bool = False
    """Make the repository public; otherwise a new one is private, and an existing one stays as it is."""

    @property
    def name(self) -> str:
        """The repository's name without its owner."""
        return self.repo_id.split("/")[-1]

    @property
    def source(self) -> str:
        """The name by which timm and this package load it."""
        return f"hf-hub:{self.repo_id}" + (f"@{self.revision}" if self.revision else "")


def write_card(run: FinishedRun, folder: Path, target: Target, sweep: SweepChoice | None = None) -> None:
    """Write the card into a folder that holds the rest of the repository.

    Args:
        run: The run, without the machine's paths.
        folder: The folder that holds the figures and gets `README.md`.
        target: The repository that the card's examples load.
        sweep: The sweep that it is the best run of, without the machine's paths.
    """
    environment = Environment(
        loader=PackageLoader("shvit_pl.hub"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True, autoescape=False,
    )  # fmt: skip
    environment.filters.update(cell=in_markdown, code=_code, percent="{:.1%}".format, wrapped=_wrapped)
    text = environment.get_template("card.md.j2").render(
        run=run,
        target=target,
        metadata=_metadata(run, target.name).to_yaml(),
        timm_name=timm_name(run.evaluated_design),
        dataset_repo=_dataset_repo(run),
        results=_results(run),
        metrics=_METRICS,
        recipe=_recipe(run),
        comparison=_compare(run),
        teacher=_teacher(run),
        sweep=sweep and replace(sweep, table=re.sub(r"\A# .*\n", "", sweep.table).strip()),  # it has a heading here
        max_classes=_MAX_CLASSES,
        figures={path.stem: f"{FIGURES}/{path.name}" for path in (folder / FIGURES).glob("*.png")},
    )
    ModelCard(text).save(folder / "README.md")


def _metadata(run: FinishedRun, name: str) -> ModelCardData:
    dataset, base = _dataset_repo(run), run.summary.get("init_repo")
    derived: dict[str, Any] = {"base_model": base, "base_model_relation": "finetune"} if base else {}
    in_timm = timm_name(run.evaluated_design) is not None
    return ModelCardData(
        library_name="timm",
        pipeline_tag=_TASK,
        license="mit",
        datasets=[dataset] if dataset else None,
        metrics=["accuracy"],
        tags=[_TASK, "timm", *(["transformers"] if in_timm else []), "shvit", "shvit-pl"],
        model_name=name,
        eval_results=_eval_results(run) or None,
        **derived,
    )


def _eval_results(run: FinishedRun) -> list[EvalResult]:
    """Return accuracies as fractions, with as many digits as a validation split justifies."""
    dataset = run.dataset
    return [
        EvalResult(
            task_type=_TASK,
            dataset_type=str(dataset["path"]),
            dataset_name=str(dataset["path"]),
            dataset_config=dataset["name"],
            dataset_revision=dataset.get("commit"),
            metric_type="accuracy",
            metric_name=name,
            metric_value=round(run.metrics[key], 5),
        )
        for key, name in _EVAL_NAMES.items()
        if key in run.metrics
    ]


def _dataset_repo(run: FinishedRun) -> str | None:
    """Return the id of the dataset on the Hub; None for local images."""
    return str(run.dataset["path"]) if run.dataset.get("commit") else None


def _results(run: FinishedRun) -> dict[str, dict[str, str]]:
    """Return rows of the table of results, the pushed weights first."""
    names = {False: "the weights themselves", True: "their moving average"}
    rows = {names[averaged]: run.measured(averaged) for averaged in (run.averaged, not run.averaged)}
    shown = {name: {key: _shown(key, value) for key, value in values.items()} for name, values in rows.items()}
    return {name: values for name, values in shown.items() if values}


def _shown(metric: str, value: float) -> str:
    return f"{value:.4f}" if metric == "loss" else f"{value:.1%}"


def _recipe(run: FinishedRun) -> dict[str, str]:
    """Return the settings that decide a training, by name."""
    config, summary = run.config, run.summary
    rows = {
        "images": _images(summary["dataset"]),
        "resolution": f"{config['data']['image_size']} pixels, {_resize(config['data'])}",
        "augmentation": _augmentation(config["data"]),
        "mixing": _mixing(config["model"]["mix"]),
        "label smoothing": f"{config['model']['label_smoothing']:g}",
        "initial weights": summary["init"],
        "optimizer": _optimizer(config["model"]["optim"], summary),
        "schedule": _schedule(config["model"]["optim"], summary),
        "batch": f"{summary['global_batch']} images",
        "moving average": _average(config["model"]["ema"]),
        "precision": str(summary["precision"]),
        "device": f"{summary['device']}, {_duration(summary['wall_seconds'])}",
        "seed": str(summary["seed"]),
        "versions": ", ".join(f"{name} {version}" for name, version in summary["versions"].items()),
    }
    return {name: text for name, text in rows.items() if text}


def _images(dataset: dict[str, Any]) -> str:
    parts = [" ".join(str(dataset[key]) for key in ("path", "name", "revision") if dataset[key])]
    if dataset["train_images"] is not None:
        parts.append(f"{dataset['train_images']} images to train on, {dataset['validation_images']} to validate")
    parts += [f"{dataset['train_fraction']:.0%} of the training images"] * (dataset["train_fraction"] < 1)
    return ", ".join([*parts, *(["streamed"] if dataset["streaming"] else []), dataset["validation"]])


def _resize(data: dict[str, Any]) -> str:
    if data["resize"] == "squash":
        return "squashed to a square"
    return f"the central {data['crop_pct']:.1%} in evaluation" if data["crop_pct"] < 1 else "no crop in evaluation"


def _augmentation(data: dict[str, Any]) -> str:
    names = {"crop": "random resized crop and flip", "shift": "shifts by up to an eighth", "none": ""}
    jitter, erasing = data["color_jitter"], data["erasing"]
    parts = [
        names[data["augment"]],
        data["auto_augment"] or "",
        f"color jitter {jitter:g}" if jitter else "",
        f"random erasing {erasing:g}" if erasing else "",
        f"each image {data['repeats']} times" if data["repeats"] > 1 else "",
    ]
    return joined(*parts) or "none"


def _mixing(mix: dict[str, Any]) -> str:
    return joined(
        f"Mixup {mix['mixup']:g}" if mix["mixup"] else "",
        f"CutMix {mix['cutmix']:g}" if mix["cutmix"] else "",
    )


def _optimizer(optim: dict[str, Any], summary: dict[str, Any]) -> str:
    peak, decay = summary["peak_lr"], summary["weight_decay"]
    parts = [
        optim["name"],
        f"peak learning rate {peak:.3g}" if peak else "",
        f"weight decay {decay:g}" if decay is not None else "",
        f"layer decay {optim['layer_decay']:g}" if optim["layer_decay"] else "",
        f"adaptive clipping {optim['agc']:g}" if optim["agc"] else "",
    ]
    return joined(*parts)


def _schedule(optim: dict[str, Any], summary: dict[str, Any]) -> str:
    length = f"{summary['steps_trained']} steps in {counted(summary['epochs_trained'], 'epoch')}"
    return f"{length}; warm-up (warmup_epochs {optim['warmup_epochs']:g}), then a cosine, every {optim['interval']}"


def _average(ema: dict[str, Any]) -> str:
    return f"decay {ema['decay']:g}" if ema["decay"] else ""


def _duration(seconds: float) -> str:
    for unit, name in ((3600, "hours"), (60, "minutes")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.1f} {name}"
    return f"{seconds:.0f} seconds"


@dataclass(frozen=True)
class _Teacher:
    name: str
    facts: str
    """Kind, size and accuracy on the validation images."""
    repo: str | None
    license: str
    """A clause on the license of its weights."""


def _teacher(run: FinishedRun) -> _Teacher | None:
    settings = run.distillation
    if settings is None:
        return None
    name = settings["teacher"]
    facts = (run.summary["teacher"] or name).removeprefix(f"{name}, ")
    return _Teacher(name, facts, _teacher_repo(name), _license(name, settings["weights"]))


def _license(name: str, weights: str | None) -> str:
    if weights is not None:
        return f"its weights came from the file {Path(weights).name}, whose license is not recorded here"
    timm_id = repo_of(name).removeprefix("timm/")
    known = get_pretrained_cfg(timm_id) if is_model(split_model_name_tag(timm_id)[0]) else None
    if known is not None and known.license:
        return f"timm states its license as {known.license}"
    if _teacher_repo(name):
        return "its page on the Hub states its license"
    return "it was trained with shvit-pl too"


def _teacher_repo(name: str) -> str | None:
    """Return the Hub repo that a teacher's name stands for, without its revision; None for a file or a timm name."""
    if is_path(name) or Path(name).exists():
        return None
    repo = repo_of(name)
    return repo.split("@")[0] if _REPO.fullmatch(repo) else None


@dataclass(frozen=True)
class _Comparison:
    """A run's design next to the paper's that it is, or was changed from."""

    title: str
    """The design's name, and whether it was changed."""
    paper_title: str
    """The paper's name; empty where the paper has no such model."""
    paper_conditions: str
    """Data and training of the paper's accuracy."""
    rows: dict[str, tuple[str, str]]
    """The run's value and the paper's, by quantity."""
    same: bool


def _compare(run: FinishedRun) -> _Comparison:
    name = run.summary["design"]["name"]
    base = NAMED[name]
    same = fingerprint(base) == fingerprint(run.design)
    row = row_of(base, run.image_size, distilled=bool(run.summary["teacher"]))
    ours = _facts(run.evaluated_design, len(run.class_names), run.image_size)
    theirs = _facts(base, IMAGENET_SIZE[0], base.image_size) if row else dict.fromkeys(ours, "")
    rows = {key: (ours[key], theirs[key]) for key in ours}
    if "acc1" in run.metrics:
        published = f"{row.top1:.1f}% on ImageNet-1k" if row else ""
        rows["top-1"] = (f"{run.metrics['acc1']:.1%} on {run.dataset['path']}", published)
    title = name if same else f"{name}, changed"
    if row is None:
        return _Comparison(title, "", "", rows, same)
    paper_title = row.source.split(": ")[-1].split(",")[0]
    return _Comparison(title, paper_title, row.conditions.split("; images/s")[0], rows, same)


def _facts(design: Design, classes: int, side: int) -> dict[str, str]:
    total = cost(design, classes, side)
    return {
        "patch size": str(design.patch_size),
        "widths": " - ".join(map(str, design.embed_dim)),
        "blocks": " - ".join(map(str, design.depth)),
        "token mixers": " - ".join(_MIXERS.get(mixer, mixer) for mixer in design.mixers),
        "parameters": f"{total.params / 1e6:.2f} M ({classes} classes)",
        "multiply-accumulates": f"{total.macs / 1e6:.1f} M at {side} pixels",
    }


def _wrapped(command: str) -> str:
    """Break a command into lines, without the flags of its push: readers can't write to this repository."""
    command = re.sub(r" --push_(to|public)[= ]\S+", "", command)
    lines: list[str] = []
    for word in shlex.split(command):
        word = shlex.quote(word)
        if lines and len(lines[-1]) + len(word) < _LINE_WIDTH:
            lines[-1] += f" {word}"
        else:
            lines.append(f"  {word}" if lines else word)
    return " \\\n".join(lines)


def _code(text: str) -> str:
    """Return text as inline code."""
    return f"`{' '.join(text.replace('`', chr(39)).split())}`"
