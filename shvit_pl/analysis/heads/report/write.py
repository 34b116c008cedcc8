"""The results of a study, each file whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from shvit_pl.analysis.heads.folder import HEADS, LAYERS
from shvit_pl.analysis.heads.found.findings import Findings
from shvit_pl.analysis.heads.report.board import write_events
from shvit_pl.analysis.heads.report.figures import draw_figures
from shvit_pl.analysis.heads.report.tables import head_rows, layer_rows
from shvit_pl.deploy.measuring import machine
from shvit_pl.display.plots import as_png
from shvit_pl.files import replacing, write_rows, write_whole
from shvit_pl.runs.folder import FIGURES, SUMMARY


def write(findings: Findings, folder: Path, settings: Mapping[str, Any], command: Sequence[str]) -> None:
    """Write tables, summary, figures and TensorBoard events.

    Args:
        findings: What was found.
        folder: Of the study.
        settings: Those of the study.
        command: The command line.
    """
    pictures = {name: as_png(figure) for name, figure in draw_figures(findings).items()}
    for name, rows in ((HEADS, head_rows(findings)), (LAYERS, layer_rows(findings))):
        with replacing(folder / name) as partial:
            write_rows(partial, rows, line_end="\n")
    files = {f"{FIGURES}/{name}.png": png for name, png in pictures.items()}
    files[SUMMARY] = (json.dumps(_summary(findings, settings, command), indent=2) + "\n").encode()
    for name, content in files.items():
        write_whole(folder / name, content)
    write_events(findings, pictures, folder)


def _summary(findings: Findings, settings: Mapping[str, Any], command: Sequence[str]) -> dict[str, Any]:
    subject = findings.subject
    under = machine(subject.device)
    return {
        "command": list(command),
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "settings": dict(settings),
        "environment": {name: under[name] for name in ("python", "system", "threads", "device_type")},
        "network": {"origin": subject.opened.origin, "layers": len(subject.layers)},
        "data": {"validation": subject.images.data.split_note, "classes": len(subject.images.class_names)},
        "score": {"name": findings.score, "measured": subject.reference.sentence, "intact_pct": findings.intact},
        "images_compared": len(findings.layers[0].similarities),
        "images_measured": findings.found.images,
        "findings": findings.sentences,
        "paper": _paper(findings),
        "layers": layer_rows(findings),
    }


def _paper(findings: Findings) -> dict[str, Any] | None:
    paper = findings.paper
    if paper is None:
        return None
    differs = findings.reservations
    return {"network": paper.network, "top1": paper.top1, "confidence": paper.confidence, "not_the_same_study": differs}
