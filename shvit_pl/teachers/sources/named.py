"""A model of timm by its name, with timm's pretrained weights or those of a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import timm
from timm.models import get_pretrained_cfg, split_model_name_tag
from torch import Tensor

from shvit_pl.errors import UserError, did_you_mean, one_line
from shvit_pl.models.opened_network import OpenedNetwork, opened_of_timm
from shvit_pl.teachers.config import DistillConfig
from shvit_pl.teachers.sources.files import file_hash, read_weights, weights_file
from shvit_pl.teachers.sources.timm_models import check_classifier, create, refuse_average

_CLASSIFIERS = ("head", "fc", "classifier", "head.fc", "head.l")  # where the file has another name than timm's


@dataclass(frozen=True)
class NamedModel:
    """A model of timm by its name, with timm's pretrained weights or those of a file."""

    config: DistillConfig

    def identity(self) -> dict[str, str]:
        """The name with its tag, and where timm has the weights, or the file's SHA-256."""
        name = split_model_name_tag(self.config.source)[0]
        if self.config.weights is not None:
            return {"timm": name, "weights": file_hash(weights_file(self.config))}
        cfg = self._pretrained()
        origin = {"tag": cfg.get("tag"), "hf_hub_id": cfg.get("hf_hub_id"), "url": cfg.get("url")}
        return {"timm": name, **{key: str(value) for key, value in origin.items() if value}}

    def build(self) -> OpenedNetwork:
        """The network with its weights; raises `UserError` when they can't be had or are of another network."""
        if self.config.weights is not None:
            return self._from_file()
        check_classifier(self.config, self._pretrained())
        refuse_average(self.config)
        return create(self.config, self.config.source, self._pretrained().get("hf_hub_id"))

    def _pretrained(self) -> dict[str, Any]:
        """The settings of timm's pretrained weights."""
        cfg = _settings(self.config)
        if any(cfg.get(key) for key in ("hf_hub_id", "url", "file")):
            return cfg
        name = split_model_name_tag(self.config.source)[0]
        raise UserError(
            f"model.distill.teacher {self.config.source!r}: timm has no pretrained weights of it. Give yours with "
            f"--model.distill.weights FILE, or a model that has some, such as regnety_160.deit_in1k"
            f"{did_you_mean(name, timm.list_models(pretrained=True))}."
        )

    def _from_file(self) -> OpenedNetwork:
        state, cfg = read_weights(self.config), _settings(self.config)
        overlay = {"state_dict": state, "num_classes": _classes_of(state, cfg), "label_offset": 0}
        try:  # timm maps the keys of the authors' own files to its own
            model = timm.create_model(self.config.source, pretrained=True, pretrained_cfg_overlay=overlay)
        except Exception as error:  # whatever timm's mapping of keys runs into
            raise UserError(
                f"model.distill.weights {self.config.weights!r}: these are not weights of {self.config.source!r} "
                f"({one_line(error)[:160]}). Give --model.distill.teacher the name of the network that they are of."
            ) from error
        model.pretrained_cfg.pop("state_dict")
        return opened_of_timm(self.config.source, model)


def _settings(config: DistillConfig) -> dict[str, Any]:
    """What timm says of a name; raises `UserError` for a tag that it doesn't have."""
    try:
        cfg = get_pretrained_cfg(config.source)
    except RuntimeError as error:
        name = split_model_name_tag(config.source)[0]
        known = timm.list_pretrained(f"{name}.*")
        raise UserError(
            f"model.distill.teacher {config.source!r}: timm has no such weights of {name}"
            f"{did_you_mean(config.source, known)}; there are {', '.join(known) or 'none'}."
        ) from error
    return cfg.to_dict() if cfg else {}


def _classes_of(state: Mapping[str, Tensor], cfg: Mapping[str, Any]) -> int:
    """Rows of the classifier in a file, or timm's own number where the file's classifier isn't found."""
    own = cfg.get("classifier") or ()
    for name in (*((own,) if isinstance(own, str) else own), *_CLASSIFIERS):
        weight = state.get(f"{name}.weight")
        if weight is not None and weight.ndim in (2, 4):
            return len(weight)
    return int(cfg.get("num_classes", 1000))
