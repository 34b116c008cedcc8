"""The model cards of a detector and of its backbone: `README.md` of their repositories."""

import shlex
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData

from shvit_pl.data.objects.reading import DIVISOR
from shvit_pl.designs.detector import MASKS
from shvit_pl.designs.paper_results import paper_row
from shvit_pl.display import counted, joined
from shvit_pl.hub.pages import eval_results, images_of, metadata, setting, training_rows, write_page
from shvit_pl.hub.target import Target
from shvit_pl.runs.folder import EMA, FinishedRun, SweepChoice

GRAPH = "model.onnx"
_BOXES, _MASKS = "object-detection", "image-segmentation"
_METRICS = {
    "map": "AP",
    "map_50": "AP50",
    "map_75": "AP75",
    "map_small": "AP small",
    "map_medium": "AP medium",
    "map_large": "AP large",
    "mar_100": "AR 100",
}
_KINDS = {"": "box", "mask_": "mask"}  # beginnings of the names of metrics
_NAMES = {"retinanet": "RetinaNet", "mask_rcnn": "Mask R-CNN"}
_LOSSES = {"l1": "L1", "giou": "GIoU"}
_MAX_CLASSES = 100  # a longer table would fill the page


def write_detector_card(run: FinishedRun, folder: Path, target: Target, sweep: SweepChoice | None = None) -> None:
    """Write `README.md` of a detector into the folder that is pushed.

    Run and sweep hold no paths of the machine any more.
    """
    side = run.config["data"]["min_size"]
    write_page(
        "detector.md.j2",
        run,
        folder,
        target,
        _metadata(run, target.name),
        sweep,
        **_facts(run),
        graph=GRAPH if (folder / GRAPH).is_file() else None,
        side=-(-side // DIVISOR) * DIVISOR,
        class_ap=_class_ap(run),
        max_classes=_MAX_CLASSES,
        best_score=run.summary.get(f"best_score{EMA * run.averaged}"),
        paper=paper_row(run.summary),
    )


def write_backbone_card(run: FinishedRun, folder: Path, target: Target, sweep: SweepChoice | None = None) -> None:
    """Write `README.md` of a detector's backbone into the folder that is pushed, as the other card."""
    in_timm = run.evaluated_design.timm_name
    about = metadata(
        run,
        target.name,
        library_name="timm",
        pipeline_tag="image-feature-extraction",
        tags=["timm", *(["transformers"] if in_timm else []), "backbone", _BOXES, "shvit", "shvit-pl"],
    )
    design = {name: value for name, value in run.config["model"]["design"].items() if value is not None}
    flags = " ".join(f"--model.design.{name} {shlex.quote(str(value))}" for name, value in design.items())
    facts = {**_facts(run), "timm_name": in_timm, "design_flags": flags}
    write_page("backbone.md.j2", run, folder, target, about, sweep, **facts)


def _facts(run: FinishedRun) -> dict[str, Any]:
    """Return what both cards say of the detector."""
    detector = run.summary["detector"]["name"]
    kinds = {kind: name for kind, name in _KINDS.items() if any(f"{kind}map" in each for each in run.results.values())}
    return {
        "detector": _NAMES[detector],
        "has_masks": detector in MASKS,
        "kinds": kinds,
        "metrics": {
            key: title
            for key, title in _METRICS.items()
            if any(f"{kind}{key}" in values for values in run.results.values() for kind in kinds)
        },
        "recipe": _recipe(run),
    }


def _metadata(run: FinishedRun, name: str) -> ModelCardData:
    detector = run.summary["detector"]["name"]
    task = _MASKS if detector in MASKS else _BOXES
    kinds = {
        f"{kind}{key}": (f"{kind}{key}", f"{of} {_METRICS[key]}")
        for kind, of in _KINDS.items()
        for key in ("map", "map_50", "map_75")
    }
    return metadata(
        run,
        name,
        library_name="shvit-pl",
        pipeline_tag=task,
        metrics=["map"],
        tags=[*dict.fromkeys((task, _BOXES)), detector.replace("_", "-"), "shvit", "shvit-pl"],
        eval_results=eval_results(run, task, kinds),
    )


def _class_ap(run: FinishedRun) -> dict[str, dict[str, float | None]]:
    """Return AP of boxes and masks, by class; empty where the weights are not those that were measured so."""
    ending, found = EMA * run.averaged, dict[str, dict[str, float | None]]()
    for kind, name in _KINDS.items() if run.is_best else ():
        for label, value in run.summary.get(f"{kind}class_ap{ending}", {}).items():
            found.setdefault(label, {})[name] = value
    return found


def _recipe(run: FinishedRun) -> dict[str, str]:
    """Return the settings that decide a training, by name."""
    data, model, detector = run.config["data"], run.config["model"], run.summary["detector"]
    scales, frozen = data["scales"], model["freeze_bn"]
    frozen = model["init_from"] is not None if frozen == "auto" else frozen
    rows = {
        "images": images_of(run),
        "objects": joined(*map(str, run.dataset["notes"])),
        "resolution": f"shorter side {data['min_size']} pixels, longer one at most {data['max_size']}",
        "augmentation": joined(
            setting("flips with probability", data["flip"]),
            f"shorter sides of {', '.join(map(str, scales))} pixels" if scales else "",
        )
        or "none",
        "detector": joined(
            f"{_NAMES[detector['name']]}, {detector['width']} wide, {counted(detector['convs'], 'convolution')}",
            "GroupNorm" if detector["norm"] == "group" else "",
            f"{'smooth L1' if detector['name'] in MASKS else _LOSSES[detector['box_loss']]} loss of boxes",
        ),
        "BatchNorm": f"statistics {'kept as they were' if frozen else 'learned'}",
        **training_rows(run),
    }
    return {name: text for name, text in rows.items() if text}
