"""The results in TensorBoard: curves over the layers, and the figures."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

from shvit_pl.analysis.heads.folder import EVENTS
from shvit_pl.analysis.heads.found.findings import Findings
from shvit_pl.analysis.heads.report.tables import layer_rows

_CURVES = ("similarity_pct", "without_one_change", "one_alone_change")


def write_events(findings: Findings, pictures: Mapping[str, bytes], folder: Path) -> None:
    """Write an events file, in place of an earlier one; a layer's number is the step of its scalars."""
    with TemporaryDirectory(prefix=".events.", dir=folder) as partial:
        _write(findings, pictures, partial)
        old = list(folder.glob(EVENTS))
        for new in Path(partial).glob(EVENTS):
            new.replace(folder / new.name)
        for events in old:
            events.unlink()


def _write(findings: Findings, pictures: Mapping[str, bytes], folder: str) -> None:
    with SummaryWriter(folder) as writer:
        for row in layer_rows(findings):
            for name in (*_CURVES, *(f"paper_{name}" for name in _CURVES)):
                if row.get(name) is not None:
                    writer.add_scalar(f"heads/{name}", row[name], row["layer"])
        for name, png in pictures.items():
            writer.add_image(f"heads/{name}", np.asarray(Image.open(BytesIO(png)).convert("RGB")), dataformats="HWC")
        writer.add_text("heads/findings", "\n\n".join([findings.title, *findings.sentences]))
