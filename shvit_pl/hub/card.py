"""`README.md` of a model repository: the model card."""

import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from jinja2 import Environment, PackageLoader, StrictUndefined
from timm.models import get_pretrained_cfg, is_model, split_model_name_tag

from shvit_pl.designs.cost import cost
from shvit_pl.designs.design import NAMED, Design
from shvit_pl.designs.paper_results import IMAGENET_SIZE, row_of
from shvit_pl.display import counted, in_markdown, joined
from shvit_pl.hub.target import Target
from shvit_pl.models.network_names import TIMM, is_path, repo_of
from shvit_pl.runs.folder import FIGURES, FinishedRun, SweepChoice

_TASK = "image-classification"
_METRICS = {"acc1": "top-1", "acc5": "top-5", "loss": "cross-entropy"}
_MIXERS = {"conv": "convolution", "single_head": "single head", "multi_head": "multi-head"}
_MAX_CLASSES = 30  # a longer list would fill the page
_LINE_WIDTH = 92  # characters of code that fit on the page without scrolling
_REPO = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")


def write_card(run: FinishedRun, folder: Path, target: Target, sweep: SweepChoice | None = None) -> None:
    """Write `README.md` into a folder with the run's figures; run and sweep hold no paths of the machine any more."""
    environment = Environment(
        loader=PackageLoader("shvit_pl.hub"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True, autoescape=False,
    )  # fmt: skip
    environment.filters.update(
        cell=in_markdown,
        code=_as_code,
        fraction="{:.4f}".format,
        wrapped=_wrapped,
    )
    in_timm = run.evaluated_design.timm_name
    dataset_repo = run.dataset["path"] if run.dataset["commit"] else None  # other images are local
    text = environment.get_template("card.md.j2").render(
        run=run,
        target=target,
        metadata=_metadata(run, target.name, dataset_repo, in_timm is not None).to_yaml(),
        timm_name=in_timm,
        dataset_repo=dataset_repo,
        metrics={
            key: title for key, title in _METRICS.items() if any(key in values for values in run.results.values())
        },
        recipe=_recipe(run.config["data"], run.config["model"], run.summary),
        comparison=_comparison(run),
        teacher=_teacher(run),
        sweep=sweep and replace(sweep, table=re.sub(r"\A# .*\n", "", sweep.table).strip()),  # it has a heading here
        max_classes=_MAX_CLASSES,
        figures={path.stem: f"{FIGURES}/{path.name}" for path in (folder / FIGURES).glob("*.png")},
    )
    ModelCard(text).save(folder / "README.md")


def _metadata(run: FinishedRun, name: str, dataset_repo: str | None, in_timm: bool) -> ModelCardData:
    dataset, base = run.dataset, run.summary.get("init_repo")
    derived: dict[str, Any] = {"base_model": base, "base_model_relation": "finetune"} if base else {}
    results = [
        EvalResult(
            task_type=_TASK,
            dataset_type=str(dataset["path"]),
            dataset_name=str(dataset["path"]),
            dataset_config=dataset["name"],
            dataset_revision=dataset["commit"],
            metric_type="accuracy",
            metric_name=f"{_METRICS[key]} accuracy",
            metric_value=round(run.metrics[key], 5),  # as many digits as a validation split justifies
        )
        for key in ("acc1", "acc5")
        if key in run.metrics
    ]
    return ModelCardData(
        library_name="timm",
        pipeline_tag=_TASK,
        license="mit",
        datasets=[dataset_repo] if dataset_repo else None,
        metrics=["accuracy"],
        tags=[_TASK, "timm", *(["transformers"] if in_timm else []), "shvit", "shvit-pl"],
        model_name=name,
        eval_results=results or None,
        **derived,
    )


def _recipe(data: dict[str, Any], model: dict[str, Any], summary: dict[str, Any]) -> dict[str, str]:
    """Return the settings that decide a training, by name."""
    dataset, mix, optim = summary["dataset"], model["mix"], model["optim"]
    counts = f"{dataset['train_images']} training and {dataset['validation_images']} validation images"
    fraction, crop, decay = dataset["train_fraction"], data["crop_pct"], summary["weight_decay"]
    cropped = f"the central {crop:.1%} in evaluation" if crop < 1 else "no crop in evaluation"
    steps = f"{summary['steps_trained']} steps in {counted(summary['epochs_trained'], 'epoch')}"
    rows = {
        "images": joined(
            " ".join(str(dataset[key]) for key in ("path", "name", "revision") if dataset[key]),
            counts if dataset["train_images"] is not None else "",
            f"{fraction:.0%} of the training images" if fraction < 1 else "",
            "streamed" if dataset["streaming"] else "",
            dataset["validation"],
        ),
        "resolution": f"{data['image_size']} pixels, "
        + ("squashed to a square" if data["resize"] == "squash" else cropped),
        "augmentation": joined(
            {"crop": "random resized crop and flip", "shift": "shifts by up to an eighth"}.get(data["augment"], ""),
            data["auto_augment"] or "",
            _setting("color jitter", data["color_jitter"]),
            _setting("random erasing", data["erasing"]),
            f"each image {data['repeats']} times" if data["repeats"] > 1 else "",
        )
        or "none",
        "mixing": joined(_setting("Mixup", mix["mixup"]), _setting("CutMix", mix["cutmix"])),
        "label smoothing": f"{model['label_smoothing']:g}",
        "initial weights": summary["init"],
        "optimizer": joined(
            optim["name"],
            f"peak learning rate {summary['peak_lr']:.3g}" if summary["peak_lr"] else "",
            f"weight decay {decay:g}" if decay is not None else "",
            _setting("layer decay", optim["layer_decay"]),
            _setting("adaptive clipping", optim["agc"]),
        ),
        "schedule": f"{steps}; warm-up (warmup_epochs {optim['warmup_epochs']:g}), then cosine, updated each "
        f"{optim['interval']}",
        "batch": f"{summary['global_batch']} images",
        "moving average": _setting("decay", model["ema"]["decay"]),
        "precision": str(summary["precision"]),
        "device": f"{summary['device']}, {_duration(summary['wall_seconds'])}",
        "seed": str(summary["seed"]),
        "versions": ", ".join(f"{name} {version}" for name, version in summary["versions"].items()),
    }
    return {name: text for name, text in rows.items() if text}


def _setting(name: str, value: float | None) -> str:
    return f"{name} {value:g}" if value else ""


def _duration(seconds: float) -> str:
    for unit, name in ((3600, "hours"), (60, "minutes")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.1f} {name}"
    return counted(round(seconds), "second")


def _teacher(run: FinishedRun) -> dict[str, str | None] | None:
    """Return the teacher's name, its facts, its repository and a clause on the license of its weights."""
    settings = run.distillation
    if settings is None:
        return None
    name = settings["teacher"]
    is_file = is_path(name) or Path(name).exists()
    repo = None if is_file or not _REPO.fullmatch(repo_of(name)) else repo_of(name).split("@")[0]
    timm_id = repo_of(name).removeprefix("timm/").removeprefix(TIMM)
    known = get_pretrained_cfg(timm_id) if is_model(split_model_name_tag(timm_id)[0]) else None
    if settings["weights"] is not None:
        terms = f"its weights came from the file {Path(settings['weights']).name}, whose license is not recorded here"
    elif known is not None and known.license:
        terms = f"timm states its license as {known.license}"
    else:
        terms = "its page on the Hub states its license" if repo else "it was trained with shvit-pl"
    facts = (run.summary["teacher"] or name).removeprefix(f"{name}, ")
    return {"name": name, "facts": facts, "repo": repo, "license": terms}


def _comparison(run: FinishedRun) -> dict[str, Any]:
    """Return the run's design next to the paper's that it is, or was changed from: values by quantity, and titles."""
    name = run.summary["design"]["name"]
    base = NAMED[name]
    same = base.fingerprint == run.design.fingerprint
    row = row_of(base, run.image_size, distilled=bool(run.summary["teacher"]))
    ours = _facts(run.evaluated_design, len(run.class_names), run.image_size)
    theirs = _facts(base, IMAGENET_SIZE[0], base.image_size) if row else dict.fromkeys(ours, "")
    rows = {key: (ours[key], theirs[key]) for key in ours}
    if "acc1" in run.metrics:
        published = f"{row.top1:.3f} on ImageNet-1k" if row else ""
        rows["top-1"] = (f"{run.metrics['acc1']:.4f} on {run.dataset['path']}", published)
    return {
        "title": name if same else f"{name}, changed",
        "same": same,
        "rows": rows,
        "paper_title": row.source.split(": ")[-1].split(",")[0] if row else None,
        "paper_conditions": row.conditions.split("; images/s")[0] if row else None,
    }


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


def _as_code(text: str) -> str:
    """Return text as code in a line, between more backticks than it has in a row."""
    line = " ".join(text.split()) or " "
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    space = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{space}{line}{space}{fence}"


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
