"""What a study prints and writes: a table, sentences, `heads.csv`, `layers.csv`, `summary.json` and figures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from textwrap import fill
from typing import Any

import torch

from shvit_pl.analysis.heads.figures import draw_figures
from shvit_pl.analysis.heads.findings import Findings, LayerResult
from shvit_pl.analysis.heads.subject import Subject
from shvit_pl.analysis.study_folder import rounded
from shvit_pl.deploy.measuring import device_name, machine
from shvit_pl.display.plots import as_png
from shvit_pl.display.terminal import narrow_table, table_console
from shvit_pl.files import replacing, write_rows
from shvit_pl.runs.folder import FIGURES, SUMMARY

_HEADS, _LAYERS = "heads.csv", "layers.csv"
_COMPARED = ("similarity %", "without one", "one alone")
Row = dict[str, Any]


def describe(subject: Subject) -> str:
    """Return what is about to be studied, in a few lines."""
    opened, layers, options = subject.opened, subject.layers, subject.options
    heads = sum(layer.heads for layer in layers)
    compared = "whole maps" if options.vectorize == "map" else "maps query by query"
    kept = "kept" if options.class_token == "keep" else "dropped"
    token = f", class token {kept}" if subject.prefix_tokens else ""
    return "\n".join(
        [
            f"{opened.name}, {opened.weights} weights, {subject.image_size} px: {heads} heads in {len(layers)} layers",
            f"on {device_name(subject.device)}, torch {torch.__version__}",
            f"data: {subject.images.path}, {subject.images.data.split_note}",
            f"similarity on {len(subject.compared_rows)} of its validation images: cosine of {compared}{token}",
            f"heads left out on {len(subject.scored_rows)} of {subject.images.rows}: {subject.reference.sentence}",
        ]
    )


def print_findings(findings: Findings) -> None:
    """Print the layers as a table, and what they show."""
    paper = [f"paper (diff.):\n{name}" for name in _COMPARED] if findings.paper else []
    table = narrow_table((), ("layer", "heads", *_COMPARED, "important", "redundant", *paper))
    for layer in findings.layers:
        table.add_row(*_cells(layer), *_paper_cells(findings, layer))
    table_console().print(table)
    print(findings.measured)
    print("without one, one alone: points of change, of the head that costs least; similarity: ± sd over images")
    for line in filter(None, [findings.paper_note, *findings.sentences]):
        print(fill(line, 110, subsequent_indent="  "))


def _cells(layer: LayerResult) -> list[str]:
    spread = "" if layer.spread is None else f" ± {layer.spread:4.1f}"
    return [
        str(layer.number),
        str(layer.heads),
        "" if layer.similarity is None else f"{layer.similarity:.1f}{spread}",
        f"{layer.change_without:+.2f}",
        f"{layer.change_alone:+.2f}" if layer.heads > 1 else "",
        "" if layer.important is None else f"head {layer.important + 1}",
        "" if layer.redundant is None else f"head {layer.redundant + 1}",
    ]


def _paper_cells(findings: Findings, layer: LayerResult) -> list[str]:
    paper = findings.paper_layer(layer)
    if paper is None:
        return []
    changes = [(layer.change_without, paper.without), (layer.change_alone, paper.alone)]
    scores = [f"{theirs:+.2f}" + f" ({ours - theirs:+.2f})" * findings.is_paper_score for ours, theirs in changes]
    return [f"{paper.similarity:.1f} ({(layer.similarity or 0) - paper.similarity:+.1f})", *scores]


def is_result(file: Path) -> bool:
    """Return whether a file, by its path in the folder, is a result of a study."""
    return str(file) in (_HEADS, _LAYERS, SUMMARY) or (file.parts[0] == FIGURES and file.suffix == ".png")


def write(findings: Findings, folder: Path, command: Sequence[str]) -> None:
    """Write the folder at once: tables, summary and figures.

    Args:
        findings: What was found.
        folder: Where; earlier results in it are replaced.
        command: The command line.
    """
    with replacing(folder) as new:
        (new / FIGURES).mkdir(parents=True)
        write_rows(new / _HEADS, head_rows(findings), line_end="\n")
        write_rows(new / _LAYERS, layer_rows(findings), line_end="\n")
        (new / SUMMARY).write_text(json.dumps(_summary(findings, command), indent=2) + "\n")
        for name, figure in draw_figures(findings).items():
            (new / FIGURES / f"{name}.png").write_bytes(as_png(figure))


def head_rows(findings: Findings) -> list[Row]:
    """Return a row for each head; layers and heads count from 1, as the paper's do."""
    return [_head_row(findings, layer, head) for layer in findings.layers for head in range(layer.heads)]


def _head_row(findings: Findings, layer: LayerResult, head: int) -> Row:
    return {
        "layer": layer.number,
        "name": layer.name,
        "head": head + 1,
        "similarity_pct": rounded(layer.head_similarity(head)),
        "score": findings.subject.reference.score,
        "intact_pct": rounded(layer.intact),
        "without_pct": rounded(layer.without[head]),
        "without_change": rounded(layer.without[head] - layer.intact),
        "alone_pct": rounded(layer.alone[head]),
        "alone_change": rounded(layer.alone[head] - layer.intact),
        "most": {layer.important: "important", layer.redundant: "redundant"}.get(head, ""),
    }


def layer_rows(findings: Findings) -> list[Row]:
    """Return a row for each layer, with the paper's scores, and the paper's numbers where it has any."""
    return [_layer_row(findings, layer) for layer in findings.layers]


def _layer_row(findings: Findings, layer: LayerResult) -> Row:
    row: Row = {
        "layer": layer.number,
        "name": layer.name,
        "heads": layer.heads,
        "similarity_pct": rounded(layer.similarity),
        "similarity_sd": rounded(layer.spread),
        "score": findings.subject.reference.score,
        "intact_pct": rounded(layer.intact),
        "without_one_change": rounded(layer.change_without),
        "one_alone_change": rounded(layer.change_alone),
        "most_important_head": _from_1(layer.important),
        "most_redundant_head": _from_1(layer.redundant),
    }
    return row | _paper_columns(findings, layer, row)


def _paper_columns(findings: Findings, layer: LayerResult, row: Row) -> Row:
    """Return the paper's numbers, and ours less the paper's."""
    paper = findings.paper_layer(layer)
    if paper is None or findings.paper is None:
        return {}
    columns: Row = {}
    numbers = (
        ("similarity_pct", paper.similarity),
        ("without_one_change", paper.without),
        ("one_alone_change", paper.alone),
    )
    for name, value in numbers:
        comparable = findings.is_paper_score or name == "similarity_pct"
        columns |= {f"paper_{name}": value, f"{name}_less_paper": rounded(row[name] - value) if comparable else None}
    columns["paper_most_important_head"] = _from_1(paper.important)
    columns["paper_most_redundant_head"] = _from_1(paper.redundant)
    return columns | {"paper": findings.paper.network, "paper_confidence": findings.paper.confidence}


def _from_1(head: int | None) -> int | None:
    return None if head is None else head + 1


def _summary(findings: Findings, command: Sequence[str]) -> dict[str, Any]:
    subject, paper = findings.subject, findings.paper
    conditions = machine(subject.device)
    return {
        "command": list(command),
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "settings": _settings(subject),
        "environment": {name: conditions[name] for name in ("python", "system", "threads", "device_type")},
        "network": {"origin": subject.opened.origin, "layers": len(subject.layers)},
        "data": {"validation": subject.images.data.split_note, "classes": len(subject.images.class_names)},
        "score": {
            "name": subject.reference.score,
            "measured": subject.reference.sentence,
            "intact_pct": findings.intact,
        },
        "images_compared": findings.maps.images,
        "images_measured": findings.scores.images,
        "findings": findings.sentences,
        "paper": None
        if paper is None
        else {
            "network": paper.network,
            "top1": paper.top1,
            "confidence": paper.confidence,
            "not_the_same_study": findings.differences,
        },
        "layers": layer_rows(findings),
    }


def _settings(subject: Subject) -> dict[str, Any]:
    """Return what the numbers depend on, but for the weights themselves."""
    options = subject.options
    return {
        "network": subject.opened.name,
        "weights": subject.opened.weights,
        "model_kwargs": options.model_kwargs,
        "image_size": subject.image_size,
        "data": subject.images.path,
        "data_commit": subject.images.data.commit,
        "validation_images": subject.images.rows,
        "images": len(subject.compared_rows),
        "ablation_images": len(subject.scored_rows),
        "labels": subject.reference.labels,
        "vectorize": options.vectorize,
        "class_token": options.class_token,
        "query": options.query,
        "image": options.image,
        "batch_size": options.batch_size,
        "device": device_name(subject.device),
        "torch": torch.__version__,
        **{name: version(name) for name in ("shvit-pl", "timm", "torchvision")},
    }
