"""A network by name, ready to be used, and what is known of it: its images, its classes, the run that trained it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from json import JSONDecodeError
from pathlib import Path
from typing import Any, Literal

import timm
import yaml
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError
from timm.data import ImageNetInfo, infer_imagenet_subset
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import is_model, load_model_config_from_hf
from torch import Tensor, nn

from shvit_pl.compat import load_timm_config
from shvit_pl.designs.config import DesignConfig
from shvit_pl.designs.design import Design
from shvit_pl.designs.fingerprint import design_of
from shvit_pl.designs.named import NAMED, TIMM_NAMES
from shvit_pl.errors import UserError, error_prefix, one_line
from shvit_pl.hub_errors import use_cache_if_unreachable, why_no_model
from shvit_pl.models.checkpoint import read_checkpoint
from shvit_pl.models.create import build_network
from shvit_pl.models.network_names import FOLDER, Kind, NetworkName, find_network, local_file, repo_of, split_revision
from shvit_pl.models.shvit import ENTRY_POINT, SHViT
from shvit_pl.models.weights import LoadReport, NoAverageError, load_state, load_weights, read_tensors, tensors_in
from shvit_pl.runs.folder import CONFIG, SUMMARY, read_summary
from shvit_pl.runs.metrics import EMA

_CLASSES = 1000  # of a design without weights
_CLASSIFIERS = ("head", "fc", "classifier", "head.fc", "head.l")  # where a file has another name than timm's
_NAMELESS = (KeyError, TypeError, AttributeError, JSONDecodeError)  # of a config.json that names no network
_SHVITS = {ENTRY_POINT, *TIMM_NAMES.values()}


@dataclass(frozen=True)
class OpenedNetwork:
    """A network and what is known of it."""

    name: str
    """The name that it was opened by, with the file of its weights."""
    model: nn.Module
    """On the CPU, `(B, 3, S, S)` to `(B, classes)`; by `open_network` in evaluation mode, with one classifier."""
    origin: Kind
    """What it was opened from; `hub` also for a folder of a repo's files."""
    image_size: int
    """Side in pixels of the images that it is made for."""
    mean: Sequence[float] = IMAGENET_DEFAULT_MEAN
    """Mean of its normalization, per channel, for pixels from 0 to 1."""
    std: Sequence[float] = IMAGENET_DEFAULT_STD
    """Standard deviation of its normalization."""
    crop_pct: float = 0.875
    """Share of the image that is left by the center crop, as in `eval_transform`."""
    resize: Literal["crop", "squash"] = "crop"
    """How images are brought to its size, as in `eval_transform`."""
    class_names: list[str] | None = None
    """Names of its classes, index by index, where known."""
    descriptions: list[str] | None = None
    """Other names of the same classes, comma-separated, where known."""
    averaged: bool = False
    """True where the weights are a moving average."""
    fresh: bool = False
    """True where nothing was trained: a design's weights, and those of a model of timm unless asked for."""
    checkpoint: Path | None = None
    """The checkpoint of ours that the weights are from."""
    data: Mapping[str, Any] | None = None
    """Data settings of the run of ours that trained it, where they are told."""

    @property
    def weights(self) -> str:
        """The kind of its weights: fresh, trained or averaged."""
        if self.fresh:
            return "fresh"
        return "averaged" if self.averaged else "trained"


def open_network(
    name: str | NetworkName,
    averaged: bool | None = None,
    pretrained: bool = False,
    image_size: int | None = None,
    weights: str | None = None,
    model_kwargs: Mapping[str, Any] | None = None,
    as_teacher: bool = False,
) -> OpenedNetwork:
    """Open a network by name.

    Args:
        name: The name, as `network_names` explains it, or what it was found to mean.
        averaged: Take averaged weights (default: a checkpoint's if its run's monitored metric is of them, a file's if
            it has them).
        pretrained: Load the weights that timm has of its model.
        image_size: Side in pixels that a model of timm is built for, where it must know that (a ViT).
        weights: File of the weights of a model of timm.
        model_kwargs: What to change in a model of timm, such as `num_heads`.
        as_teacher: Refuse what has no classes before any weights are fetched, and let timm resample a file's weights
            to the network's size.

    Raises:
        UserError: for a name of nothing, and for weights that can't be had.
    """
    found = find_network(name) if isinstance(name, str) else name
    if weights is not None and found.kind != "timm":
        raise UserError(
            f"weights {weights!r}: it belongs to a model of timm, and {found.name!r} comes with its weights. Give a "
            "name of timm, or leave the file out."
        )
    if found.kind == "design":
        design = NAMED[found.place]
        return OpenedNetwork(found.name, _evaluated(design, _CLASSES), "design", design.image_size, fresh=True)
    if found.kind == "timm":
        size = {} if image_size is None else {"img_size": image_size}
        return _open_timm(found, averaged, pretrained, weights, {**size, **(model_kwargs or {})}, as_teacher)
    if found.kind == "checkpoint":
        return _open_checkpoint(found, averaged)
    return _open_saved(found, averaged, as_teacher)


def _evaluated(design: Design, classes: int) -> SHViT:
    """Build a design as it is evaluated: with one classifier."""
    return build_network(replace(design, distilled=False, drop_path=0.0), num_classes=classes).eval()


# A checkpoint or run folder of ours


def _open_checkpoint(found: NetworkName, averaged: bool | None) -> OpenedNetwork:
    file = Path(found.place)
    content = read_checkpoint(str(file), flag="", weights=True)
    model, data = content["model"], content["data"]
    if averaged is None:
        averaged = _monitored_average(file)
    if averaged and not model["ema"]["decay"]:
        raise NoAverageError(f"{found.name!r}: it has no averaged weights (its model.ema.decay was 0).")
    return OpenedNetwork(
        found.name,
        network_of_checkpoint(file, content, averaged),
        "checkpoint",
        data["image_size"],
        crop_pct=data["crop_pct"],
        resize=data["resize"],
        class_names=list(model["class_names"]),
        averaged=averaged,
        checkpoint=file,
        data=data,
    )


def network_of_checkpoint(checkpoint: Path, content: dict[str, Any], averaged: bool) -> SHViT:
    """Build the network of a checkpoint of ours, in evaluation mode; two classifiers are merged into one, exactly.

    Args:
        checkpoint: The file.
        content: What `read_checkpoint` returns, with its weights.
        averaged: Take its averaged weights.

    Raises:
        UserError: for a checkpoint that is not whole.
    """
    settings, name = content["model"], str(checkpoint)
    model = _evaluated(DesignConfig(**settings["design"]).resolve(), len(settings["class_names"]))
    state = tensors_in(name, {"state_dict": content["weights"]}, averaged)
    _check_whole(load_state(model, state, name))
    return model


def _check_whole(report: LoadReport) -> None:
    if report.reinitialised:
        raise UserError(f"{report.source!r}: not whole, it lacks {', '.join(report.reinitialised)}.")


def _monitored_average(checkpoint: Path) -> bool:
    """Return whether the run of a checkpoint monitored the averaged weights."""
    folder = checkpoint.parent.parent
    return (folder / SUMMARY).is_file() and str(read_summary(folder)["monitor"]).endswith(EMA)


# A Hub repo, or a folder of the same files


@dataclass(frozen=True)
class Pretrained:
    """What a Hub repo, or a folder of the same files, says of its weights."""

    design: Design
    """The SHViT."""
    classes: int
    """Number of classes."""
    class_names: list[str] | None
    """The repo's own names of the classes."""
    labels: list[str] | None
    """The repo's own names, or ImageNet's descriptions where it has none and as many classes."""
    other_names: list[str] | None
    """Other names of the same classes, comma-separated, where known."""
    data: dict[str, Any]
    """Settings of `data`: all of the run that `shvit-pl push` has pushed, else image size and crop."""
    normalization: tuple[Sequence[float], Sequence[float]]
    """Mean and standard deviation per channel, for pixels from 0 to 1."""


def read_pretrained(source: str) -> Pretrained | None:
    """Read what a repo or a folder says of its weights; None for a single file, which says nothing.

    Args:
        source: As `load_weights` takes it.

    Raises:
        UserError: when it can't be had, or is not of a SHViT.
    """
    file = local_file(source)
    if file is not None and not (file.parent / "config.json").is_file():
        return None
    place = repo_of(source) if file is None else str(file.parent)
    found = NetworkName(source, "hub" if file is None else "folder", place)
    return _pretrained(found, *_read_config(found))


def _read_config(found: NetworkName) -> tuple[dict[str, Any], str, dict[str, Any]]:
    """Read timm's settings of a saved network, its name at timm, and its arguments there."""
    try:
        if found.kind == "folder":
            return load_timm_config(Path(found.place))
        use_cache_if_unreachable()
        return load_model_config_from_hf(found.place)
    except _NAMELESS as error:
        raise _foreign(found, "it does not say which network of timm it is") from error
    except Exception as error:  # of the Hub's client
        raise UserError(f"{found.name!r}: {why_no_model(error, found.place)}") from error


def _pretrained(found: NetworkName, cfg: dict[str, Any], architecture: str, arguments: dict[str, Any]) -> Pretrained:
    try:
        design = _saved_design(architecture, arguments)
        own = [str(name) for name in cfg.get("label_names") or ()] or None
        classes = int(cfg["num_classes"])
        names, descriptions = class_names(cfg, classes)
        data = {"crop_pct": cfg["crop_pct"], **_data_of_run(found), "image_size": int(cfg["input_size"][-1])}
        normalization = tuple(cfg["mean"]), tuple(cfg["std"])
    except (KeyError, TypeError, ValueError) as error:
        raise _foreign(found, one_line(error)) from error
    other_names = descriptions
    if own is None and names and descriptions:  # ImageNet's: the labels are the descriptions, the others are its ids
        other_names = [f"{name}, {text}" for name, text in zip(names, descriptions, strict=True)]
    return Pretrained(design, classes, own, own or descriptions, other_names, data, normalization)


def _saved_design(architecture: str, arguments: Mapping[str, Any]) -> Design:
    named = {timm_name: NAMED[name] for name, timm_name in TIMM_NAMES.items()}
    if architecture in named:
        return named[architecture]
    if architecture != ENTRY_POINT:
        raise ValueError(f"it is a {architecture}, and what is needed is a SHViT")
    return design_of({"design": arguments})  # timm adds arguments of its own


def class_names(cfg: Mapping[str, Any], classes: int) -> tuple[list[str] | None, list[str] | None]:
    """Return names and descriptions of the classes: those in timm's settings, or ImageNet's for as many classes."""
    names = cfg.get("label_names")
    if names:
        texts = cfg.get("label_descriptions") or {}
        return list(map(str, names)), [str(texts.get(name, name)) for name in names]
    subset = infer_imagenet_subset({"num_classes": classes})
    if subset is None:
        return None, None
    info = ImageNetInfo(subset)
    return info.label_names(), info.label_descriptions()


def _data_of_run(found: NetworkName) -> dict[str, Any]:
    """Read the data settings of the run that made the weights, where they are told."""
    try:
        if found.kind == "folder":
            path = Path(found.place) / CONFIG
        else:
            repo, revision = split_revision(found.place)
            path = Path(hf_hub_download(repo, CONFIG, revision=revision))
        return dict(yaml.safe_load(path.read_text())["data"])
    except (EntryNotFoundError, OSError):
        return {}


def _foreign(found: NetworkName, reason: str) -> UserError:
    return UserError(
        f"{found.name!r}: not a network as timm or shvit-pl push saves it (config.json: {reason[:120]}). Give another "
        "repo or folder, or a file of weights with the design that they are of."
    )


def _open_saved(found: NetworkName, averaged: bool | None, as_teacher: bool) -> OpenedNetwork:
    if averaged:
        raise NoAverageError(f"{found.name!r}: it holds one set of weights, none of them averaged.")
    cfg, architecture, arguments = _read_config(found)
    if architecture not in _SHVITS:
        return _open_saved_timm(found, cfg, architecture, as_teacher)
    pretrained = _pretrained(found, cfg, architecture, arguments)
    model = _evaluated(pretrained.design, pretrained.classes)
    _check_whole(load_weights(model, found.name))
    data, (mean, std) = pretrained.data, pretrained.normalization
    return OpenedNetwork(
        found.name,
        model,
        "hub",
        data["image_size"],
        mean,
        std,
        crop_pct=data["crop_pct"],
        resize=data.get("resize", "crop"),
        class_names=pretrained.labels,
        descriptions=pretrained.other_names,
        data=data if "path" in data else None,
    )


def _open_saved_timm(found: NetworkName, cfg: Mapping[str, Any], architecture: str, as_teacher: bool) -> OpenedNetwork:
    if not is_model(architecture):
        raise UserError(
            f"{found.name!r}: its network {architecture!r} is not known to timm {timm.__version__}. Give another, or "
            "install the version that it was made with."
        )
    _check_classes(found, cfg, as_teacher)
    prefix = FOLDER if found.kind == "folder" else "hf-hub:"
    return replace(_opened_timm(found.name, _create(found, f"{prefix}{found.place}", found.place)), origin="hub")


# A model of timm


def _open_timm(
    found: NetworkName,
    averaged: bool | None,
    pretrained: bool,
    weights: str | None,
    changes: Mapping[str, Any],
    as_teacher: bool,
) -> OpenedNetwork:
    name = found.name
    if weights is not None:
        model = _create_with_weights(found, weights, averaged, changes, as_teacher)
        name = f"{name} ({Path(weights).name})"
    elif pretrained:
        cfg = found.pretrained_settings()
        _check_classes(found, cfg, as_teacher)
        if averaged:
            raise NoAverageError(f"{name!r}: it holds one set of weights, none of them averaged.")
        model = _create(found, found.place, cfg.get("hf_hub_id") or found.place, **changes)
    else:
        try:
            model = timm.create_model(found.place, **changes)
        except Exception as error:  # whatever a model of timm asks for
            raise UserError(f"{name!r}: timm can't build it ({one_line(error)[:160]}).") from error
    opened = _opened_timm(name, model)
    size = int(changes.get("img_size") or opened.image_size)
    return replace(opened, image_size=size, fresh=not (pretrained or weights))


def _check_classes(found: NetworkName, cfg: Mapping[str, Any], as_teacher: bool) -> None:
    if as_teacher and cfg.get("num_classes") == 0:
        raise UserError(
            f"{found.name!r}: not a classifier (it has no classes, only features). Give a network that was trained to "
            "classify, such as timm:regnety_160.deit_in1k."
        )


def _create(found: NetworkName, model_name: str, repo: str, **changes: Any) -> Any:
    """Build a network by timm's own loading, with the classifier that it was trained with."""
    use_cache_if_unreachable()
    try:
        return timm.create_model(model_name, pretrained=True, **changes)
    except (RuntimeError, KeyError, TypeError, AssertionError) as error:
        raise UserError(
            f"{found.name!r}: timm can't build it with these weights ({one_line(error)[:160]}). Give another network."
        ) from error
    except Exception as error:  # of the Hub's client, or of a download
        raise UserError(f"{found.name!r}: {why_no_model(error, repo)}") from error


def _create_with_weights(
    found: NetworkName, weights: str, averaged: bool | None, changes: Mapping[str, Any], as_teacher: bool
) -> Any:
    file = weights_file(weights)
    with error_prefix("weights "):
        state = read_tensors(weights, file, averaged)
    overlay = {"state_dict": state, "num_classes": _classes_in(state, found.settings()), "label_offset": 0}
    try:  # timm maps the keys of the authors' own files to its own
        model = timm.create_model(found.place, pretrained=True, pretrained_cfg_overlay=overlay, **changes)
    except Exception as error:  # whatever timm's mapping of keys, or a model of timm, runs into
        raise _other_weights(found, weights, one_line(error)[:160]) from error
    for key, tensor in model.state_dict().items():
        if not as_teacher and key in state and state[key].shape != tensor.shape:
            shapes = f"{key} is of shape {list(state[key].shape)}, not {list(tensor.shape)}"
            raise _other_weights(found, weights, shapes)
    model.pretrained_cfg.pop("state_dict")
    return model


def _other_weights(found: NetworkName, weights: str, reason: str) -> UserError:
    return UserError(
        f"weights {weights!r}: these are not weights of {found.place!r} ({reason}). Give the name of the network that "
        "they are of."
    )


def weights_file(weights: str) -> Path:
    """Return the file of weights of that name; raises `UserError` when it isn't there."""
    path = Path(weights).expanduser()
    if path.is_file():
        return path
    problem = "a folder" if weights and path.is_dir() else "no such file"
    raise UserError(f"weights {weights!r}: {problem}. Give a .safetensors, .pth or .ckpt file.")


def _classes_in(state: Mapping[str, Tensor], cfg: Mapping[str, Any]) -> int:
    """Return the rows of the classifier in a file, or timm's own number where the file's classifier isn't found."""
    own = cfg.get("classifier") or ()
    for name in (*((own,) if isinstance(own, str) else own), *_CLASSIFIERS):
        weight = state.get(f"{name}.weight")
        if weight is not None and weight.ndim in (2, 4):
            return len(weight)
    return int(cfg.get("num_classes", 1000))


def _opened_timm(name: str, model: Any) -> OpenedNetwork:
    """Return a network of timm in evaluation mode, with what its settings say of it."""
    cfg = model.pretrained_cfg
    names, descriptions = class_names(cfg, model.num_classes)
    return OpenedNetwork(
        name,
        model.eval(),
        "timm",
        int(cfg["input_size"][-1]),
        tuple(cfg["mean"]),
        tuple(cfg["std"]),
        float(cfg["crop_pct"]),
        class_names=names,
        descriptions=descriptions,
    )
