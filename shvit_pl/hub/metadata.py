"""The head of a model card, by which the Hub files it."""

from __future__ import annotations

from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from shvit_pl.hub.ended import EndedRun
from shvit_pl.hub.origins import base_model, hub_dataset

_TASK = "image-classification"
_NAMES = {"acc1": "top-1 accuracy", "acc5": "top-5 accuracy"}


def metadata(run: EndedRun, name: str, in_timm: bool) -> ModelCardData:
    """Library, task, licence, dataset, base model and results of a run.

    Args:
        run: The run.
        name: The repository's own.
        in_timm: Whether timm has the network, so that it loads without this package.
    """
    dataset, base = hub_dataset(run), base_model(run)
    derived: dict[str, Any] = {"base_model": base, "base_model_relation": "finetune"} if base else {}
    return ModelCardData(
        library_name="timm",
        pipeline_tag=_TASK,
        license="mit",
        datasets=[dataset] if dataset else None,
        metrics=["accuracy"],
        tags=[_TASK, "timm", *(["transformers"] if in_timm else []), "shvit", "shvit-pl"],
        model_name=name,
        eval_results=_results(run),
        **derived,
    )


def _results(run: EndedRun) -> list[EvalResult] | None:
    """Accuracies as fractions, rounded to what so many images can tell."""
    dataset = run.summary["dataset"]
    found = [
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
        for key, name in _NAMES.items()
        if key in run.metrics
    ]
    return found or None
