"""`heads.csv` and `layers.csv`."""

from __future__ import annotations

from typing import Any

from shvit_pl.analysis.heads.found.findings import Findings
from shvit_pl.analysis.heads.found.results import LayerResult
from shvit_pl.analysis.outcome import rounded

Row = dict[str, Any]


def head_rows(findings: Findings) -> list[Row]:
    """A row for each head; layers and heads count from 1, as the paper's do."""
    return [_head(findings, layer, head) for layer in findings.layers for head in range(layer.heads)]


def _head(findings: Findings, layer: LayerResult, head: int) -> Row:
    return {
        "layer": layer.number,
        "name": layer.name,
        "head": head + 1,
        "similarity_pct": rounded(layer.head_similarity(head)),
        "score": findings.score,
        "intact_pct": rounded(layer.intact),
        "without_pct": rounded(layer.without[head]),
        "without_change": rounded(layer.without[head] - layer.intact),
        "alone_pct": rounded(layer.alone[head]),
        "alone_change": rounded(layer.alone[head] - layer.intact),
        "most": {layer.important: "important", layer.redundant: "redundant"}.get(head, ""),
    }


def layer_rows(findings: Findings) -> list[Row]:
    """A row for each layer, with the paper's scores, and the paper's numbers where it has any."""
    return [_layer(findings, layer) for layer in findings.layers]


def _layer(findings: Findings, layer: LayerResult) -> Row:
    row: Row = {
        "layer": layer.number,
        "name": layer.name,
        "heads": layer.heads,
        "similarity_pct": rounded(layer.similarity),
        "similarity_sd": rounded(layer.spread),
        "score": findings.score,
        "intact_pct": rounded(layer.intact),
        "without_one_change": rounded(layer.change_without),
        "one_alone_change": rounded(layer.change_alone),
        "most_important_head": _from_1(layer.important),
        "most_redundant_head": _from_1(layer.redundant),
    }
    return row | _paper(findings, layer, row)


def _paper(findings: Findings, layer: LayerResult, row: Row) -> Row:
    """The paper's numbers, and ours less the paper's."""
    theirs = findings.paper_layer(layer)
    if theirs is None or findings.paper is None:
        return {}
    beside: Row = {}
    for name, value in (
        ("similarity_pct", theirs.similarity),
        ("without_one_change", theirs.without),
        ("one_alone_change", theirs.alone),
    ):
        comparable = findings.same_score or name == "similarity_pct"
        beside |= {f"paper_{name}": value, f"{name}_less_paper": rounded(row[name] - value) if comparable else None}
    beside["paper_most_important_head"] = _from_1(theirs.important)
    beside["paper_most_redundant_head"] = _from_1(theirs.redundant)
    return beside | {"paper": findings.paper.network, "paper_confidence": findings.paper.confidence}


def _from_1(head: int | None) -> int | None:
    return None if head is None else head + 1
