"""`shvit-pl analyze heads`: record maps, measure top-1 without heads, print and write what they show."""

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from textwrap import fill
from typing import Any

import torch
from torch import Tensor

from shvit_pl.analysis.attention_layers import ablations
from shvit_pl.analysis.attention_maps import AttentionRecorder
from shvit_pl.analysis.heads_figures import draw_figures
from shvit_pl.analysis.heads_findings import Findings, LayerResult, Scores
from shvit_pl.analysis.heads_subject import Subject, open_subject
from shvit_pl.analysis.options import HeadsOptions
from shvit_pl.analysis.study import check_output, rounded
from shvit_pl.deploy.measuring import device_name, machine
from shvit_pl.display.plots import as_png
from shvit_pl.display.terminal import Bars, narrow_table, table_console
from shvit_pl.errors import UserError
from shvit_pl.files import replacing, write_rows
from shvit_pl.runs.folder import FIGURES, SUMMARY

_HEADS, _LAYERS = "heads.csv", "layers.csv"
_SETTINGS = ("model_kwargs", "vectorize", "class_token", "query", "image", "batch_size")
_COMPARED = ("similarity %", "without one", "one alone")
Row = dict[str, Any]


def run(options: HeadsOptions, command: Sequence[str]) -> None:
    """Run the study as a command; `command` is the command line."""
    study(open_subject(options), command)


def study(subject: Subject, command: Sequence[str]) -> None:
    """Measure, print what was found, and write it into the folder, with the command line `command`.

    Raises:
        UserError: for what does not fit together, before the folder is touched.
    """
    folder = check_output(subject.options.output, "heads", _is_result)
    trial = AttentionRecorder(subject)  # refuses a query that is not in the grid
    trial.add(torch.zeros(1, 3, subject.image_size, subject.image_size, device=subject.device))
    if len(trial.layers) != len(subject.layers):
        raise UserError(f"{subject.opened.name!r}: some attention layers do not give one map per image.")
    print(_describe(subject), flush=True)
    recorder, scores = AttentionRecorder(subject), Scores()
    passes = sum(2 * layer.heads for layer in subject.layers)
    with Bars() as bars:
        bar = bars.begin("comparing attention maps", subject.number_of_batches(subject.compared_rows), 0)
        for images, _ in subject.batches(subject.compared_rows):
            recorder.add(images)
            bars.advance(bar)
        bar = bars.begin("leaving out heads", passes * subject.number_of_batches(subject.scored_rows), 0)
        for images, labels in subject.batches(subject.scored_rows):
            _add_scores(scores, subject, images, labels, lambda: bars.advance(bar))
    findings = Findings(subject, recorder, scores)
    _write(findings, folder, command)
    _print_findings(findings)
    print(f"written: {folder}")


def _describe(subject: Subject) -> str:
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
            f"data: {subject.images.path}, {subject.images.data.chosen.note}",
            f"similarity on {len(subject.compared_rows)} of its validation images: cosine of {compared}{token}",
            f"heads left out on {len(subject.scored_rows)} of {subject.images.rows}: {subject.reference.sentence}",
        ]
    )


def _add_scores(
    scores: Scores, subject: Subject, images: Tensor, labels: Tensor, progress: Callable[[], object]
) -> None:
    """Add the matching predictions of a batch: images `(B, 3, S, S)`, labels `(B,)`; `progress` ends a pass."""
    model = subject.opened.model
    with torch.no_grad():
        intact = model(images).argmax(-1)
    targets = labels if subject.reference.labels == "dataset" else intact
    for layer, logits in ablations(model, subject.layers, images, progress):  # logits (2, heads, B, classes)
        matching = (logits.argmax(-1) == targets).sum(-1).cpu()
        scores.matching[layer.name] = scores.matching.get(layer.name, 0) + matching
    scores.intact += int((intact == targets).sum())
    scores.images += len(images)


# ---- the printed table


def _print_findings(findings: Findings) -> None:
    """Print the layers as a table, and what they show."""
    paper = [f"paper (diff.):\n{name}" for name in _COMPARED] if findings.paper else []
    table = narrow_table((), ("layer", "heads", *_COMPARED, "important", "redundant", *paper))
    for layer in findings.layers:
        table.add_row(*_cells(layer), *_paper_cells(findings, layer))
    table_console().print(table)
    print(findings.measured)
    print("without one, one alone: change in points for the head that costs least; similarity: mean ± SD over images")
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
        *("" if head is None else f"head {head + 1}" for head in (layer.important, layer.redundant)),
    ]


def _paper_cells(findings: Findings, layer: LayerResult) -> list[str]:
    paper = layer.paper
    if paper is None:
        return []
    changes = [(layer.change_without, paper.without), (layer.change_alone, paper.alone)]
    scores = [f"{theirs:+.2f}" + f" ({ours - theirs:+.2f})" * findings.is_paper_score for ours, theirs in changes]
    return [f"{paper.similarity:.1f} ({(layer.similarity or 0) - paper.similarity:+.1f})", *scores]


# ---- files


def _is_result(file: Path) -> bool:
    return str(file) in (_HEADS, _LAYERS, SUMMARY) or (file.parts[0] == FIGURES and file.suffix == ".png")


def _write(findings: Findings, folder: Path, command: Sequence[str]) -> None:
    """Replace the folder at once by tables, summary and figures."""
    with replacing(folder) as new:
        (new / FIGURES).mkdir(parents=True)
        heads = [_head_row(findings, layer, head) for layer in findings.layers for head in range(layer.heads)]
        write_rows(new / _HEADS, heads, line_end="\n")
        layers = [_layer_row(findings, layer) for layer in findings.layers]
        write_rows(new / _LAYERS, layers, line_end="\n")
        summary = {**_summary(findings, command), "layers": layers}
        (new / SUMMARY).write_text(json.dumps(summary, indent=2) + "\n")
        for name, figure in draw_figures(findings).items():
            (new / FIGURES / f"{name}.png").write_bytes(as_png(figure))


def _head_row(findings: Findings, layer: LayerResult, head: int) -> Row:
    """Return a row for a head (from 0); layers and heads count from 1 in it, as the paper's do."""
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


def _layer_row(findings: Findings, layer: LayerResult) -> Row:
    """Return a row for a layer, with the paper's numbers and ours less the paper's where it has any."""
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
    paper = layer.paper
    if paper is None or findings.paper is None:
        return row
    numbers = {"similarity_pct": paper.similarity, "without_one_change": paper.without, "one_alone_change": paper.alone}
    for name, value in numbers.items():
        comparable = findings.is_paper_score or name == "similarity_pct"
        row |= {f"paper_{name}": value, f"{name}_less_paper": rounded(row[name] - value) if comparable else None}
    return row | {
        "paper_most_important_head": _from_1(paper.important),
        "paper_most_redundant_head": _from_1(paper.redundant),
        "paper": findings.paper.network,
        "paper_confidence": findings.paper.confidence,
    }


def _from_1(head: int | None) -> int | None:
    return None if head is None else head + 1


def _summary(findings: Findings, command: Sequence[str]) -> dict[str, Any]:
    """Return the content of `summary.json` but for the layers; settings are what the numbers depend on."""
    subject, paper, options = findings.subject, findings.paper, findings.subject.options
    conditions = machine(subject.device)
    return {
        "command": list(command),
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "settings": {
            "network": subject.opened.name,
            "weights": subject.opened.weights,
            "image_size": subject.image_size,
            "data": subject.images.path,
            "data_commit": subject.images.data.chosen.commit,
            "validation_images": subject.images.rows,
            "images": len(subject.compared_rows),
            "ablation_images": len(subject.scored_rows),
            "labels": subject.reference.labels,
            **{name: getattr(options, name) for name in _SETTINGS},
            "device": device_name(subject.device),
            "torch": torch.__version__,
            **{name: version(name) for name in ("shvit-pl", "timm", "torchvision")},
        },
        "environment": {name: conditions[name] for name in ("python", "system", "threads", "device_type")},
        "network": {"origin": subject.opened.origin, "layers": len(subject.layers)},
        "data": {"validation": subject.images.data.chosen.note, "classes": len(subject.images.class_names)},
        "score": {
            "name": subject.reference.score,
            "measured": subject.reference.sentence,
            "intact_pct": findings.intact,
        },
        "images_compared": findings.maps.images,
        "images_measured": findings.scores.images,
        "findings": findings.sentences,
        "paper": paper
        and {
            "network": paper.network,
            "top1": paper.top1,
            "confidence": paper.confidence,
            "not_the_same_study": findings.differences,
        },
    }
