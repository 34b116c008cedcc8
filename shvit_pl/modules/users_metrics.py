"""Metrics of torchmetrics, or a user's own, that a config names by class path."""

import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from importlib import import_module
from inspect import signature
from typing import Any

import torch
from torchmetrics import Metric, MetricCollection

from shvit_pl.errors import UserError, did_you_mean, one_line
from shvit_pl.modules import class_metrics
from shvit_pl.runs.folder import EMA

FLAG = "model.metrics"
_HOME = "torchmetrics.classification"
_NAME = re.compile(r"[A-Za-z]\w*")
_TAKEN = ("acc1", "acc5", "loss", *class_metrics.NAMES)


def make_users_metrics(entries: Sequence[str | Mapping[str, Any]], classes: int) -> dict[str, Metric]:
    """Make the metrics that `entries` name, by what they are logged as.

    An entry is a class path, or a mapping with `class_path` and perhaps `init_args` and `name`, without which the name
    is the class's. A class of `torchmetrics.classification` needs no path; `num_classes` and `task` are filled in where
    a class takes them.

    Raises:
        UserError: for a class that isn't there or refuses its arguments, and one that doesn't make a single number of
            logits `(B, classes)` and labels `(B,)`.
    """
    made = dict[str, Metric]()
    for entry in entries:
        settings: Mapping[str, Any] = {"class_path": entry} if isinstance(entry, str) else entry
        if not {"class_path"} <= settings.keys() <= {"class_path", "init_args", "name"}:
            raise UserError(f"{FLAG} {entry}: allowed are class paths, and mappings of class_path, init_args and name.")
        path = str(settings["class_path"])
        kind = _class(path)
        name = str(settings.get("name", kind.__name__))
        if name in made:
            raise UserError(f"{FLAG} {path}: {name} is there twice; give one another name, such as name: {name}_2.")
        if name in _TAKEN or name.endswith(EMA) or hasattr(MetricCollection, name) or not _NAME.fullmatch(name):
            raise UserError(
                f"{FLAG} {path}: name {name!r}: allowed are letters, digits and _ without {EMA} at the end, and not "
                f"{', '.join(_TAKEN)}, which are logged already. Give another, such as name: my_metric."
            )
        made[name] = _checked(path, kind, dict(settings.get("init_args") or {}), classes)
    return made


def _class(path: str) -> Any:
    package, _, name = path.rpartition(".")
    try:
        module = import_module(package or _HOME)
    except Exception as error:  # whatever a user's file raises
        raise UserError(f"{FLAG} {path}: {package} can't be imported ({one_line(error)}). Mend the path.") from error
    kind = getattr(module, name, None)
    if not (isinstance(kind, type) and issubclass(kind, Metric)):
        hint = did_you_mean(name, [each for each, value in vars(module).items() if isinstance(value, type)])
        raise UserError(f"{FLAG} {path}: no metric {name} in {package or _HOME}{hint}; give one that is there.")
    return kind


def _checked(path: str, kind: Any, arguments: dict[str, Any], classes: int) -> Metric:
    """Make a metric, and try it on two images of each class."""
    takes = {*signature(kind.__init__).parameters, *signature(kind.__new__).parameters}
    known = {"num_classes": classes, "task": "multiclass"}
    arguments = {name: value for name, value in known.items() if name in takes} | arguments
    try:
        metric: Metric = kind(**arguments)
    except Exception as error:  # every metric has its own way to refuse
        raise UserError(f"{FLAG} {path}: {one_line(error)} Give other init_args, or leave it out.") from error
    labels = torch.arange(2 * classes) % classes
    try:
        tried = deepcopy(metric)
        tried.update(torch.nn.functional.one_hot(labels, classes).float(), labels)
        value = tried.compute()
    except Exception as error:
        raise UserError(
            f"{FLAG} {path}: it doesn't take logits (B, {classes}) and labels (B,) ({one_line(error)}). Give another."
        ) from error
    if not isinstance(value, torch.Tensor) or value.numel() != 1:
        raise UserError(
            f"{FLAG} {path}: it makes no single number; give init_args that do, such as average: macro, or another."
        )
    return metric
