"""The heads study: record attention maps, measure top-1 without heads, print and write what they show."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from shvit_pl.analysis.heads.attention import ablations
from shvit_pl.analysis.heads.findings import Findings, Scores
from shvit_pl.analysis.heads.maps import AttentionRecorder
from shvit_pl.analysis.heads.report import describe, is_result, print_findings, write
from shvit_pl.analysis.heads.subject import Subject, open_subject
from shvit_pl.analysis.options import HeadsOptions
from shvit_pl.analysis.study_folder import check_output
from shvit_pl.display.terminal import Bars
from shvit_pl.errors import UserError


def run(options: HeadsOptions, command: Sequence[str]) -> None:
    """Run the study as a command; `command` is the command line."""
    study(open_subject(options), command)


def study(subject: Subject, command: Sequence[str]) -> Findings:
    """Measure, print what was found, and write it into the folder.

    Args:
        subject: What is studied.
        command: The command line.

    Raises:
        UserError: for what does not fit together, before the folder is touched.
    """
    folder = check_output(subject.options.output, "heads", is_result)
    _check_maps(subject)
    print(describe(subject), flush=True)
    with Bars() as bars:
        recorder = _record(subject, bars)
        scores = _score(subject, bars)
    findings = Findings(subject, recorder, scores)
    write(findings, folder, command)
    print_findings(findings)
    print(f"written: {folder}")
    return findings


def _check_maps(subject: Subject) -> None:
    """Try a black image; raise `UserError` where the query is not in the grid, or a layer shows no map."""
    side = subject.image_size
    recorder = AttentionRecorder(subject)
    recorder.add(torch.zeros(1, 3, side, side, device=subject.device))
    if len(recorder.layers) != len(subject.layers):
        raise UserError(f"{subject.opened.name!r}: not every layer of attention shows one map for an image.")


def _record(subject: Subject, bars: Bars) -> AttentionRecorder:
    recorder = AttentionRecorder(subject)
    bar = bars.begin("comparing attention maps", subject.number_of_batches(subject.compared_rows), 0)
    for images, _ in subject.batches(subject.compared_rows):
        if len(images):
            recorder.add(images)
        bars.advance(bar)
    return recorder


def _score(subject: Subject, bars: Bars) -> Scores:
    scores = Scores()
    passes = sum(2 * layer.heads for layer in subject.layers)
    bar = bars.begin("leaving out heads", passes * subject.number_of_batches(subject.scored_rows), 0)
    for images, labels in subject.batches(subject.scored_rows):
        if len(images):
            add_scores(scores, subject, images, labels, lambda: bars.advance(bar))
    return scores


def add_scores(
    scores: Scores, subject: Subject, images: Tensor, labels: Tensor, progress: Callable[[], object]
) -> None:
    """Count the matching predictions of a batch (paper sec. 2.2, Figs. 3 and 4).

    Args:
        scores: Counts of the batches before, which are added to.
        subject: What is studied.
        images: The batch `(B, 3, S, S)`.
        labels: The dataset's labels `(B,)`.
        progress: Called after each forward pass without heads.
    """
    model = subject.opened.model
    with torch.no_grad():
        intact = model(images).argmax(-1)
    targets = labels if subject.reference.labels == "dataset" else intact
    for layer, logits in ablations(model, subject.layers, images, progress):  # logits (2, heads, B, classes)
        matching = (logits.argmax(-1) == targets).sum(-1).cpu()
        scores.matching[layer.name] = scores.matching.get(layer.name, 0) + matching
    scores.intact += int((intact == targets).sum())
    scores.images += len(images)
