"""What a study prints."""

from __future__ import annotations

from textwrap import fill

import torch

from shvit_pl.analysis.heads.found.findings import Findings
from shvit_pl.analysis.heads.found.results import LayerResult
from shvit_pl.analysis.heads.request import Request
from shvit_pl.analysis.heads.subject import Subject
from shvit_pl.deploy.measuring import device_name
from shvit_pl.display.terminal import narrow_table, table_console

_COMPARED = ("similarity %", "without one", "one alone")


def describe(subject: Subject, request: Request) -> str:
    """What is about to be studied."""
    opened, layers = subject.opened, subject.layers
    heads = sum(layer.heads for layer in layers)
    compared = "whole maps" if request.vectorise == "map" else "maps query by query"
    kept = "kept" if request.class_token == "keep" else "dropped"
    token = f", class token {kept}" if getattr(opened.model, "num_prefix_tokens", 0) else ""
    return "\n".join(
        [
            f"{opened.name}, {opened.weights} weights, {subject.image_size} px: {heads} heads in {len(layers)} layers",
            f"on {device_name(subject.device)}, torch {torch.__version__}",
            f"data: {subject.images.path}, {subject.images.data.split_note}",
            f"similarity on {len(subject.looked_at)} of its validation images: cosine of {compared}{token}",
            f"heads left out on {len(subject.scored)} of {subject.images.rows}: {subject.reference.sentence}",
        ]
    )


def print_findings(findings: Findings) -> None:
    """Print the layers as a table, and what they show."""
    beside = [f"paper (diff.):\n{name}" for name in _COMPARED] if findings.paper else []
    table = narrow_table((), ("layer", "heads", *_COMPARED, "important", "redundant", *beside))
    for layer in findings.layers:
        table.add_row(*_cells(layer), *_paper_cells(findings, layer))
    table_console().print(table)
    print(findings.measured)
    print("without one, one alone: points of change, of the head that costs least; similarity: ± sd over images")
    for line in filter(None, [findings.beside_the_paper, *findings.sentences]):
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
    theirs = findings.paper_layer(layer)
    if theirs is None:
        return []
    pairs = [
        (layer.similarity or 0, theirs.similarity),
        (layer.change_without, theirs.without),
        (layer.change_alone, theirs.alone),
    ]
    (similarity, like), *changes = pairs
    scores = [f"{paper:+.2f}" + f" ({ours - paper:+.2f})" * findings.same_score for ours, paper in changes]
    return [f"{like:.1f} ({similarity - like:+.1f})", *scores]
