"""`shvit-pl analyze heads`: record maps, measure top-1 without heads, print and write what they show."""

from collections.abc import Callable, Iterator, Sequence
from textwrap import wrap
from typing import Any

import torch

from shvit_pl.analysis import attention_layers, attention_maps, heads_subject, study
from shvit_pl.analysis.command import HeadsOptions
from shvit_pl.analysis.heads_figures import draw_figures
from shvit_pl.analysis.heads_findings import Findings, LayerResult, Scores
from shvit_pl.deploy import measuring
from shvit_pl.display import announce, narrow_table, new_progress, say, write_table
from shvit_pl.errors import UserError
from shvit_pl.files import output_folder
from shvit_pl.runs.folder import FIGURES, SUMMARY

_HEADS, _LAYERS = "heads.csv", "layers.csv"
_SETTINGS = ("model_kwargs", "vectorize", "class_token", "query", "image", "batch_size")
_DIGITS = 6  # of a fraction in a table
_COMPARED = ("similarity", "without one", "one alone")
Row = dict[str, Any]


def run(options: HeadsOptions, command: Sequence[str]) -> None:
    """Measure, print what was found, and write it into the folder, with the command line `command`.

    Raises `UserError` for what does not fit together, before the folder is touched.
    """
    subject = heads_subject.open_subject(options)
    folder = output_folder(subject.options.output, _HEADS, _LAYERS, SUMMARY, f"{FIGURES}/*.png")
    trial = attention_maps.AttentionRecorder(subject)  # refuses a query that is not in the grid
    trial.add(torch.zeros(1, subject.opened.in_chans, subject.image_size, subject.image_size, device=subject.device))
    if len(trial.layers) != len(subject.layers):
        raise UserError(f"{subject.opened.name!r}: some attention layers do not give one map per image.")
    say(*_describe(subject))
    recorder, scores = attention_maps.AttentionRecorder(subject), Scores()
    passes = sum(2 * layer.heads for layer in subject.layers)
    with new_progress() as bars:
        announce(bars, step := "comparing attention maps")
        bar = bars.add_task(step, total=subject.number_of_batches(subject.compared_rows))
        for images, _ in subject.batches(subject.compared_rows):
            recorder.add(images)
            bars.advance(bar)
        announce(bars, step := "removing heads")
        bar = bars.add_task(step, total=passes * subject.number_of_batches(subject.scored_rows))
        for images, labels in subject.batches(subject.scored_rows):
            _add_scores(scores, subject, images, labels, lambda: bars.advance(bar))
    if not (recorder.images and scores.images):
        raise UserError(f"--data {subject.images.path}: none of the chosen images can be read; give other images.")
    findings = Findings(subject, recorder, scores)
    heads = [_head_row(findings, layer, head) for layer in findings.layers for head in range(layer.heads)]
    layers = [_layer_row(findings, layer) for layer in findings.layers]
    summary = {**_summary(findings, command), "layers": layers}
    figures = {f"{FIGURES}/{name}.png": figure for name, figure in draw_figures(findings).items()}
    measuring.write_results(folder, {_HEADS: heads, _LAYERS: layers}, (SUMMARY, summary), figures)
    _print_findings(findings)
    say(f"written: {folder}")


def _describe(subject: heads_subject.Subject) -> tuple[str, ...]:
    """Return what is about to be studied, in a few lines."""
    opened, options = subject.opened, subject.options
    heads = sum(layer.heads for layer in subject.layers)
    compared = "whole maps" if options.vectorize == "map" else "maps query by query"
    token = f", class token {'kept' if options.class_token == 'keep' else 'dropped'}" if subject.prefix_tokens else ""
    return (
        f"{opened.name}, {opened.weights} weights, {subject.image_size} px: {heads} heads in {len(subject.layers)} "
        "layers",
        f"on {measuring.device_name(subject.device)}, torch {torch.__version__}",
        f"data: {subject.images.path}, {subject.images.data.chosen.note}",
        f"similarity on {len(subject.compared_rows)} of its validation images: cosine of {compared}{token}",
        f"heads removed on {len(subject.scored_rows)} of {subject.images.rows}: {subject.reference.sentence}",
    )


def _add_scores(
    scores: Scores,
    subject: heads_subject.Subject,
    images: torch.Tensor,
    labels: torch.Tensor,
    progress: Callable[[], object],
) -> None:
    """Add the matching predictions of a batch: images `(B, 3, S, S)`, labels `(B,)`; `progress` ends a pass."""
    model = subject.opened.model
    with torch.no_grad():
        intact = model(images)
    targets = labels if subject.reference.labels == "dataset" else intact.argmax(-1)
    for layer, logits in attention_layers.ablations(model, subject.layers, images, progress):
        # logits: (2, heads, B, classes)
        matching = (logits.argmax(-1) == targets).sum(-1).cpu()
        scores.matching[layer.name] = scores.matching.get(layer.name, 0) + matching
        effect = float((logits - intact).abs().max() / intact.abs().max())
        scores.effect[layer.name] = max(scores.effect.get(layer.name, 0.0), effect)
    scores.add(intact, targets)


def _print_findings(findings: Findings) -> None:
    """Print the layers as a table, and what they show."""
    paper = [f"paper (diff.):\n{name}" for name in _COMPARED] if findings.paper else []
    table = narrow_table((), ("layer", "heads", *_COMPARED, "important", "redundant", *paper))
    for layer in findings.layers:
        table.add_row(*_cells(findings, layer))
    write_table(table)
    say(findings.measured)
    say("without one: the least important head; one alone: the best; both in points; similarity: mean ± SD over images")
    for line in filter(None, [findings.paper_note, *findings.sentences]):
        say(*wrap(line, 110, subsequent_indent="  "))


def _cells(findings: Findings, layer: LayerResult) -> Iterator[str]:
    """Yield the cells of a layer, with the paper's numbers where it has any."""
    similarity, without, alone, paper = layer.similarity, layer.change_without, layer.change_alone, layer.paper
    spread = "" if layer.spread is None else f" ± {layer.spread:.3f}"
    yield from (str(layer.number), str(layer.heads), "" if similarity is None else f"{similarity:.3f}{spread}")
    yield from ("left out" if layer.left_out else f"{without:+.2f}", f"{alone:+.2f}" if layer.is_compared else "")
    yield from ("" if head is None else f"head {head + 1}" for head in (layer.important, layer.redundant))
    if paper is not None:
        yield f"{paper.similarity:.3f}" + ("" if similarity is None else f" ({similarity - paper.similarity:+.3f})")
        for ours, theirs in ((without, paper.without), (alone, paper.alone)):
            is_comparable = findings.is_paper_score and not layer.left_out
            yield f"{theirs:+.2f}" + f" ({ours - theirs:+.2f})" * is_comparable


# ---- files


def _head_row(findings: Findings, layer: LayerResult, head: int) -> Row:
    """Return a row for a head (from 0); layers and heads count from 1 in it, as the paper's do."""
    return {
        "layer": layer.number,
        "name": layer.name,
        "head": head + 1,
        "similarity": study.rounded(layer.head_similarity(head), _DIGITS),
        "score": findings.subject.reference.score,
        "intact": study.rounded(layer.intact, _DIGITS),
        "without": study.rounded(layer.without[head], _DIGITS),
        "without_change_points": study.rounded(layer.changes_without[head]),
        "alone": study.rounded(layer.alone[head], _DIGITS),
        "alone_change_points": study.rounded(layer.changes_alone[head]),
        "most": {layer.important: "important", layer.redundant: "redundant"}.get(head, ""),
    }


def _layer_row(findings: Findings, layer: LayerResult) -> Row:
    """Return a row for a layer, with the paper's numbers and ours less the paper's where it has any."""
    row: Row = {
        "layer": layer.number,
        "name": layer.name,
        "heads": layer.heads,
        "similarity": study.rounded(layer.similarity, _DIGITS),
        "similarity_sd": study.rounded(layer.spread, _DIGITS),
        "score": findings.subject.reference.score,
        "intact": study.rounded(layer.intact, _DIGITS),
        "without_one_change_points": study.rounded(layer.change_without),
        "one_alone_change_points": study.rounded(layer.change_alone),
        "most_important_head": _from_1(layer.important),
        "most_redundant_head": _from_1(layer.redundant),
        "left_out": layer.left_out,
    }
    paper = layer.paper
    if paper is None or findings.paper is None:
        return row
    for name, unit, value in (
        ("similarity", "", paper.similarity),
        ("without_one_change", "_points", paper.without),
        ("one_alone_change", "_points", paper.alone),
    ):
        comparable = not layer.left_out and (findings.is_paper_score or not unit)
        difference = study.rounded(row[name + unit] - value, _DIGITS) if comparable else None
        row |= {f"paper_{name}{unit}": value, f"{name}_less_paper{unit}": difference}
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
    return {
        **measuring.origin(command),
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
        },
        "environment": measuring.machine(subject.device),
        "network": {"origin": subject.opened.origin, "layers": len(subject.layers)},
        "data": {"validation": subject.images.data.chosen.note, "classes": len(subject.images.class_names)},
        "score": {
            "name": subject.reference.score,
            "measured": subject.reference.sentence,
            "intact": findings.intact,
            "blind": findings.blind,
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
