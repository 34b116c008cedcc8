"""From the request to the results: look, measure, write."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from shvit_pl.analysis.heads.folder import FOUND, check_folder, claimed
from shvit_pl.analysis.heads.found.findings import Findings
from shvit_pl.analysis.heads.found.sums import Found
from shvit_pl.analysis.heads.looking import Looker, add_sights
from shvit_pl.analysis.heads.report.text import describe, print_findings
from shvit_pl.analysis.heads.report.write import write
from shvit_pl.analysis.heads.request import Request
from shvit_pl.analysis.heads.scoring import add_scores
from shvit_pl.analysis.heads.settings import settings_of
from shvit_pl.analysis.heads.subject import Subject
from shvit_pl.display.terminal import Bars


def study(subject: Subject, request: Request, command: Sequence[str]) -> Findings:
    """Measure what is not measured yet, print what was found, and write it all into the folder.

    Args:
        subject: What is studied.
        request: What was asked for.
        command: The command line.

    Raises:
        UserError: for what does not fit together, before the folder is touched.
    """
    folder, settings = request.output, settings_of(subject, request)
    check_folder(folder, settings, request.overwrite)
    looker = Looker(subject, request)
    looker.check()
    print(describe(subject, request), flush=True)
    with claimed(folder, settings) as found:
        try:
            _measure(subject, looker, found, folder / FOUND)
        except KeyboardInterrupt:
            print(f"kept in {folder}: {_so_far(subject, found)}; the same command goes on", file=sys.stderr)
            raise
        findings = Findings(subject, request, found)
        write(findings, folder, settings, command)
    print_findings(findings)
    print(f"written: {folder}")
    return findings


def _measure(subject: Subject, looker: Looker, found: Found, file: Path) -> None:
    if found.looked or found.scored:
        print(f"going on: {_so_far(subject, found)}")
    with Bars() as bars:
        _look(subject, looker, found, file, bars)
        _score(subject, found, file, bars)


def _look(subject: Subject, looker: Looker, found: Found, file: Path, bars: Bars) -> None:
    total = subject.number_of_batches(subject.looked_at)
    bar = bars.begin("comparing attention maps", total, found.looked)
    for images, _ in subject.batches(subject.looked_at, found.looked):
        if len(images):
            add_sights(found, looker.look(images), subject.pixels(images), looker.request.image)
            found.grid = looker.grid
        found.looked += 1
        found.save(file)
        bars.advance(bar)


def _score(subject: Subject, found: Found, file: Path, bars: Bars) -> None:
    passes = sum(2 * layer.heads for layer in subject.layers)
    total = subject.number_of_batches(subject.scored)
    bar = bars.begin("leaving out heads", passes * total, passes * found.scored)
    for images, labels in subject.batches(subject.scored, found.scored):
        if len(images):
            add_scores(found, subject, images, labels, lambda: bars.advance(bar))
        found.scored += 1
        found.save(file)


def _so_far(subject: Subject, found: Found) -> str:
    """How much has been found."""
    looked, scored = (subject.number_of_batches(rows) for rows in (subject.looked_at, subject.scored))
    return f"{found.looked} of {looked} batches compared, {found.scored} of {scored} measured"
