"""`README.md`: the model's page."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard
from jinja2 import Environment, PackageLoader, StrictUndefined

from shvit_pl.designs.cost import cost
from shvit_pl.designs.fingerprint import design_of, timm_name
from shvit_pl.display.words import in_markdown
from shvit_pl.hub.comparison import compare
from shvit_pl.hub.ended import EndedRun
from shvit_pl.hub.metadata import metadata
from shvit_pl.hub.origins import base_model, hub_dataset, teacher
from shvit_pl.hub.recipe import recipe
from shvit_pl.hub.target import Target
from shvit_pl.models import SHViT
from shvit_pl.runs.folder import FIGURES

_FILE = "README.md"
_METRICS = {"acc1": "top-1", "acc5": "top-5", "loss": "cross-entropy"}
_MOST_CLASSES = 30  # that are listed
_WIDEST = 92  # characters of a line of code that fits on the page


@dataclass(frozen=True)
class Sweep:
    """The sweep that a run is the best of.

    Attributes:
        how: How the run was picked, in a sentence.
        table: The sweep's `results.md`.
    """

    how: str
    table: str


def write_card(run: EndedRun, model: SHViT, folder: Path, target: Target, sweep: Sweep | None = None) -> None:
    """Write the card into a folder that holds the rest of the repository.

    Args:
        run: The run.
        model: Its network, as it is saved there.
        folder: Where the figures are, and `README.md` goes.
        target: Where it will be.
        sweep: The sweep that it is the best run of.
    """
    known = timm_name(model.design)
    environment = Environment(
        loader=PackageLoader("shvit_pl.hub"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True, autoescape=False,
    )  # fmt: skip
    environment.filters.update(cell=in_markdown, code=_code, percent="{:.1%}".format, wrapped=_wrapped)
    text = environment.get_template("card.md.j2").render(
        metadata=metadata(run, target.name, known is not None).to_yaml(),
        target=target, timm_name=known, sweep=_demoted(run, sweep), **_facts(run, folder),
    )  # fmt: skip
    ModelCard(text).save(folder / _FILE)


def _facts(run: EndedRun, folder: Path) -> dict[str, Any]:
    summary = {**run.summary, "design": {**run.summary["design"], "distilled": False}}  # as it is pushed
    size, classes = summary["dataset"]["image_size"], [str(name) for name in summary["classes"]]
    return {
        "summary": summary,
        "cost": cost(design_of(summary), len(classes), size),
        "config": run.config,
        "results": _results(run),
        "metrics": _METRICS,
        "acc1": run.metrics.get("acc1"),
        "averaged": run.averaged,
        "is_best": run.is_best,
        "recipe": recipe(run),
        "comparison": compare(summary, run.metrics.get("acc1")),
        "merged": design_of(run.summary).distilled,
        "teacher": teacher(run),
        "base_model": base_model(run),
        "dataset": hub_dataset(run),
        "classes": classes,
        "most_classes": _MOST_CLASSES,
        "figures": {path.stem: f"{FIGURES}/{path.name}" for path in (folder / FIGURES).glob("*.png")},
    }


def _results(run: EndedRun) -> dict[str, dict[str, str]]:
    """Rows of the table of results, the pushed weights first."""
    names = {False: "the weights themselves", True: "their moving average"}
    rows = {names[averaged]: run.measured(averaged) for averaged in (run.averaged, not run.averaged)}
    shown = {name: {key: _shown(key, value) for key, value in values.items()} for name, values in rows.items()}
    return {name: values for name, values in shown.items() if values}


def _shown(metric: str, value: float) -> str:
    return f"{value:.4f}" if metric == "loss" else f"{value:.1%}"


def _demoted(run: EndedRun, sweep: Sweep | None) -> Sweep | None:
    """The sweep with its table's title taken off, for it stands below one of the card's."""
    if sweep is None:
        return None
    lines = sweep.table.split("\n")
    body = "\n".join(lines[1:] if lines[0].startswith("# ") else lines).strip()
    return replace(sweep, how=run.paths.text(sweep.how), table=run.paths.text(body))


def _wrapped(command: str) -> str:
    """A command in lines that need no scrolling, without its push: whoever repeats it has no access there."""
    command = re.sub(r" --push_(to|public)[= ]\S+", "", command)
    lines: list[str] = []
    for word in shlex.split(command):
        word = shlex.quote(word)
        if lines and len(lines[-1]) + len(word) < _WIDEST:
            lines[-1] += f" {word}"
        else:
            lines.append(f"  {word}" if lines else word)
    return " \\\n".join(lines)


def _code(text: str) -> str:
    """Text as it is, in the type of code."""
    return f"`{' '.join(text.replace('`', chr(39)).split())}`"
