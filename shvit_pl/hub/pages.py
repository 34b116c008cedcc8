"""The common parts of all model cards: rendering, metadata, and the settings of a training in words."""

import re
import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from jinja2 import Environment, PackageLoader, StrictUndefined

from shvit_pl.data.sources import described
from shvit_pl.display import counted, in_markdown, joined
from shvit_pl.hub.target import Target
from shvit_pl.runs.folder import FIGURES, FinishedRun, SweepChoice

_LINE_WIDTH = 92  # characters of code that fit on the page without scrolling


def dataset_repo(run: FinishedRun) -> str | None:
    """Return the dataset's repository of the Hub; None for other images, which are local."""
    return str(run.dataset["path"]) if run.dataset["commit"] else None


def write_page(
    template: str,
    run: FinishedRun,
    folder: Path,
    target: Target,
    metadata: ModelCardData,
    sweep: SweepChoice | None,
    **values: Any,
) -> None:
    """Write `README.md` from a template into a folder with the run's figures.

    Run and sweep hold no paths of the machine any more.
    """
    environment = Environment(
        loader=PackageLoader("shvit_pl.hub"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True, autoescape=False,
    )  # fmt: skip
    environment.filters.update(cell=in_markdown, code=as_code, fraction="{:.4f}".format, wrapped=_wrapped)
    repo = dataset_repo(run)
    text = environment.get_template(template).render(
        run=run,
        target=target,
        metadata=metadata.to_yaml(),
        data=f"[`{repo}`](https://huggingface.co/datasets/{repo})" if repo else as_code(str(run.dataset["path"])),
        limited=str(run.config["trainer"]["limit_val_batches"]) not in ("None", "1.0"),
        sweep=sweep and replace(sweep, table=re.sub(r"\A# .*\n", "", sweep.table).strip()),  # it has a heading here
        figures={path.stem: f"{FIGURES}/{path.name}" for path in (folder / FIGURES).glob("*.png")},
        **values,
    )
    ModelCard(text).save(folder / "README.md")


def metadata(run: FinishedRun, name: str, **own: Any) -> ModelCardData:
    """Return the metadata of a card: `own`, and those that every card has."""
    base = run.summary.get("init_repo")
    repos = [str(each["path"]) for each in run.dataset.get("sources") or [run.dataset] if each["commit"]]
    began = {"base_model": base, "base_model_relation": "finetune"} if base else {}
    return ModelCardData(license="mit", datasets=repos or None, model_name=name, **own, **began)


def eval_results(run: FinishedRun, task: str, kinds: Mapping[str, tuple[str, str]]) -> list[EvalResult] | None:
    """Return the metrics that were measured, by the Hub's type and name of each; None where there are none."""
    dataset = run.dataset
    return [
        EvalResult(
            task_type=task,
            dataset_type=str(dataset["path"]),
            dataset_name=str(dataset["path"]),
            dataset_config=dataset["name"],
            dataset_revision=dataset["commit"],
            metric_type=kind,
            metric_name=name,
            metric_value=round(run.metrics[key], 5),  # as many digits as a validation split justifies
        )
        for key, (kind, name) in kinds.items()
        if key in run.metrics
    ] or None


def images_of(run: FinishedRun) -> str:
    """Return the images of a training in words."""
    dataset, fraction = run.dataset, run.dataset["train_fraction"]
    counts = f"{dataset['train_images']} training and {dataset['validation_images']} validation images"
    return joined(
        " ".join(str(dataset[key]) for key in ("path", "name", "revision") if dataset[key]),
        counts if dataset["train_images"] is not None else "",
        f"{fraction:.0%} of the training images" if fraction < 1 else "",
        "streamed" if dataset.get("streaming") else "",
        dataset["validation"],
        *map(described, dataset.get("sources", ())),
    )


def training_rows(run: FinishedRun) -> dict[str, str]:
    """Return the settings of any training by name; empty where there is none of them."""
    summary, model = run.summary, run.config["model"]
    optim, decay = model["optim"], summary["weight_decay"]
    steps = f"{summary['steps_trained']} steps in {counted(summary['epochs_trained'], 'epoch')}"
    given = optim.get("warmup_steps")
    warm_up = f"warmup_epochs {optim['warmup_epochs']:g}" if given is None else f"warmup_steps {given}"
    drops = ", ".join(map(str, optim.get("drops") or ()))
    then = f"a tenth after epochs {drops}" if drops else f"cosine, updated each {optim['interval']}"
    return {
        "initial weights": summary["init"],
        "optimizer": joined(
            optim["name"],
            f"peak learning rate {summary['peak_lr']:.3g}" if summary["peak_lr"] else "",
            f"weight decay {decay:g}" if decay is not None else "",
            setting("layer decay", optim["layer_decay"]),
            setting("adaptive clipping", optim["agc"]),
        ),
        "schedule": f"{steps}; warm-up ({warm_up}), then {then}",
        "batch": f"{summary['global_batch']} images",
        "moving average": setting("decay", model["ema"]["decay"]),
        "precision": str(summary["precision"]),
        "device": f"{summary['device']}, {_duration(summary['wall_seconds'])}",
        "seed": str(summary["seed"]),
        "versions": ", ".join(f"{name} {version}" for name, version in summary["versions"].items()),
    }


def setting(name: str, value: float | None) -> str:
    """Return a setting in words; empty for zero and none."""
    return f"{name} {value:g}" if value else ""


def _duration(seconds: float) -> str:
    for unit, name in ((3600, "hours"), (60, "minutes")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.1f} {name}"
    return counted(round(seconds), "second")


def as_code(text: str) -> str:
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
