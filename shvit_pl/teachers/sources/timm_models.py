"""What all teachers of timm have in common, wherever their weights come from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import timm

from shvit_pl.errors import UserError, one_line
from shvit_pl.hub_errors import use_cache_if_unreachable, why_no_model
from shvit_pl.models.opened_network import OpenedNetwork, opened_of_timm
from shvit_pl.teachers.config import DistillConfig


def create(config: DistillConfig, name: str, repo: str | None = None) -> OpenedNetwork:
    """A network by timm's own loading, with the classifier that it was trained with."""
    use_cache_if_unreachable()
    try:
        model = timm.create_model(name, pretrained=True)
    except (RuntimeError, KeyError, TypeError, AssertionError) as error:
        raise UserError(
            f"model.distill.teacher {config.source!r}: the weights there are not those of its network "
            f"({one_line(error)[:160]}). Give another teacher."
        ) from error
    except Exception as error:  # of the Hub's client, or of a download
        hint = "" if ":" in name else " A file with its weights goes in by --model.distill.weights."
        why = why_no_model(error, repo or config.source)
        raise UserError(f"model.distill.teacher {config.source!r}: {why}{hint}") from error
    return opened_of_timm(config.source, model)


def check_classifier(config: DistillConfig, cfg: Mapping[str, Any]) -> None:
    """Refuse before anything is fetched what can't be a teacher."""
    if cfg.get("num_classes") == 0:
        raise UserError(
            f"model.distill.teacher {config.source!r}: not a classifier (it has no classes, only features). Give a "
            "network that was trained to classify, such as regnety_160.deit_in1k."
        )


def refuse_average(config: DistillConfig) -> None:
    """Raise `UserError` for `use_ema`, of a source with one set of weights."""
    if config.use_ema:
        raise UserError(
            f"model.distill.use_ema true: {config.source!r} has one set of weights only; leave it out. It belongs to a "
            "checkpoint or run folder of ours, or to a file with an average by --model.distill.weights."
        )
