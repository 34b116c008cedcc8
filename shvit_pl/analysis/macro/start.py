"""From the options to the results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from shvit_pl.analysis.macro.figure import draw
from shvit_pl.analysis.macro.rows import make_rows, stage_facts
from shvit_pl.analysis.macro.study import Peaks, Study, study
from shvit_pl.analysis.macro.table import print_table
from shvit_pl.analysis.macro.text import describe, ratios, sentences
from shvit_pl.analysis.measuring import Measuring
from shvit_pl.analysis.outcome import check_output, write
from shvit_pl.analysis.running import conditions, explaining, prepared
from shvit_pl.deploy.measuring import origin, torch_dtype
from shvit_pl.deploy.timing import peaks
from shvit_pl.errors import UserError
from shvit_pl.models import SHViT
from shvit_pl.models.open_network import OpenedNetwork, open_network

STUDY = "macro"


def start(asked: Measuring, command: Sequence[str]) -> None:
    """Measure, print the table and what it says, and write the results.

    Args:
        asked: What is measured, and how.
        command: The command line.

    Raises:
        UserError: for what is not here or can't be measured, before anything is written.
    """
    folder = check_output(asked.output, STUDY)
    with prepared(asked, _open, torch.channels_last) as networks:
        under = conditions(asked, networks)
        with explaining(f"measuring {' '.join(asked.models)}"):
            limits = Peaks(*peaks(networks[0].device, torch_dtype(asked.dtype)))
            print(describe(under, limits), flush=True)
            studies = study(networks, asked.repeats)
    print_table(studies)
    said = list(sentences(studies, limits, under["image_size"]))
    print("\n".join(said))
    facts = {"conditions": under, "explained": _EXPLAINED, **_facts(studies, limits, under), **origin(command)}
    write(folder, STUDY, make_rows(studies), {**facts, "said": said}, draw(studies, limits, under, said))
    print(f"written: {folder}")


def _open(name: str) -> OpenedNetwork:
    opened = open_network(name)
    if not isinstance(opened.model, SHViT):
        raise UserError(
            f"{name!r}: its stages are not known here. Give a design (shvit-pl designs has them), or a run folder, "
            "checkpoint or Hub repo of shvit-pl; shvit-pl analyze runtime takes models of timm."
        )
    return opened


def _facts(studies: Sequence[Study], limits: Peaks, under: dict[str, Any]) -> dict[str, Any]:
    return {
        "peaks": {"flop_per_second": limits.flops, "bytes_per_second": limits.bytes, "ridge": limits.ridge},
        "designs": {each.name: stage_facts(each, limits) for each in studies},
        "ratios": ratios(studies, under["image_size"]),
    }


_EXPLAINED = {
    "macs": "of one image, in closed form, BatchNorm not fused",
    "bytes": "of a batch: the tensors that every ATen operator takes and returns: weights, feature maps, the scores "
    "and products of attention, copies, residual additions; views move nothing; as if nothing stayed in a cache "
    "between operators",
    "milliseconds": "of a batch: a part's share of the time in a network with hooks, times that of the whole network "
    "without; clock of the parts: CUDA events on a GPU, else the wall clock; medians",
    "receptive_field": "side in pixels of what the output sees; with attention the image; without the gates of "
    "squeeze-and-excitation",
    "downsampling": "with the convolutions and FFNs that flank it",
    "networks": "fused as they are deployed, channels-last, eager",
    "peaks": "FLOP/s of a large matrix product in the dtype; bytes/s of a large copy in float32, read and written",
    "paper": "images/s of its Fig. 2 and its tables: an A100 at batch 256, and ONNX Runtime or torch on a Xeon Gold "
    "5218R at batch 16",
}
