"""The model card of a classifier: `README.md` of its repository."""

import re
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData
from timm.models import get_pretrained_cfg, is_model, split_model_name_tag

from shvit_pl.designs.cost import cost
from shvit_pl.designs.design import NAMED, Design
from shvit_pl.designs.paper_results import IMAGENET_SIZE, row_of
from shvit_pl.display import joined, shown
from shvit_pl.hub.pages import eval_results, images_of, metadata, setting, training_rows, write_page
from shvit_pl.hub.target import Target
from shvit_pl.models.network_names import TIMM, is_path, repo_of
from shvit_pl.runs.folder import EMA, FIGURES, FinishedRun, SweepChoice
from shvit_pl.runs.robustness import read_measured, weights_of

_TASK = "image-classification"
_METRICS = {
    "acc1": "top-1",
    "acc5": "top-5",
    "acc1_macro": "balanced accuracy",
    "f1_macro": "macro F1",
    "auroc": "AUROC",
    "ece": "calibration error",
    "loss": "cross-entropy",
}
_MIXERS = {"conv": "convolution", "single_head": "single head", "multi_head": "multi-head"}
_MAX_CONFUSIONS = 5
_MAX_CLASSES = 30  # a longer list would fill the page
_REPO = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")


def write_card(run: FinishedRun, folder: Path, target: Target, sweep: SweepChoice | None = None) -> None:
    """Write `README.md` into a folder with the run's figures; run and sweep hold no paths of the machine any more."""
    in_timm = run.evaluated_design.timm_name
    measured = read_measured(run.folder, weights_of(run.checkpoint, run.averaged))
    if "corruptions" not in measured:  # those of other weights
        (folder / FIGURES / "robustness.png").unlink(missing_ok=True)
    write_page(
        "card.md.j2",
        run,
        folder,
        target,
        _metadata(run, target.name, in_timm is not None),
        sweep,
        timm_name=in_timm,
        metrics={
            key: title for key, title in _METRICS.items() if any(key in values for values in run.results.values())
        },
        **_classes(run),
        recipe=_recipe(run),
        measured=measured,
        comparison=_comparison(run),
        teacher=_teacher(run),
        max_classes=_MAX_CLASSES,
    )


def _metadata(run: FinishedRun, name: str, in_timm: bool) -> ModelCardData:
    kinds = {key: ("accuracy", f"{_METRICS[key]} accuracy") for key in ("acc1", "acc5")}
    return metadata(
        run,
        name,
        library_name="timm",
        pipeline_tag=_TASK,
        metrics=["accuracy"],
        tags=[_TASK, "timm", *(["transformers"] if in_timm else []), "shvit", "shvit-pl"],
        eval_results=eval_results(run, _TASK, kinds),
    )


def _classes(run: FinishedRun) -> dict[str, Any]:
    """Return the classes, the worst first where there are many, and confusions, if they are of these weights."""
    if not run.is_best:
        return {"by_class": [], "confusions": []}
    ending = EMA * run.averaged
    rows = run.summary.get(f"by_class{ending}", [])
    if len(rows) > _MAX_CLASSES:
        rows = sorted((row for row in rows if row["images"]), key=lambda row: row["f1"])
    return {"by_class": rows, "confusions": run.summary.get(f"confusions{ending}", [])[:_MAX_CONFUSIONS]}


def _recipe(run: FinishedRun) -> dict[str, str]:
    """Return the settings that decide a training, by name."""
    data, model = run.config["data"], run.config["model"]
    mix, crop = model["mix"], data["crop_pct"]
    cropped = f"the central {crop:.1%} in evaluation" if crop < 1 else "no crop in evaluation"
    rows = {
        "images": images_of(run),
        "resolution": f"{data['image_size']} pixels, "
        + ("squashed to a square" if data["resize"] == "squash" else cropped),
        "augmentation": joined(
            {"crop": "random resized crop and flip", "shift": "shifts by up to an eighth"}.get(data["augment"], ""),
            data["auto_augment"] or "",
            setting("color jitter", data["color_jitter"]),
            setting("random erasing", data["erasing"]),
            f"each image {data['repeats']} times" if data["repeats"] > 1 else "",
        )
        or "none",
        "mixing": joined(setting("Mixup", mix["mixup"]), setting("CutMix", mix["cutmix"])),
        "label smoothing": f"{model['label_smoothing']:g}",
        "imbalance": joined(
            f"class weights {shown(model['class_weights'])}" if model.get("class_weights") is not None else "",
            "classes drawn equally often" if data.get("sampler") == "balanced" else "",
        ),
        **training_rows(run),
    }
    return {name: text for name, text in rows.items() if text}


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
