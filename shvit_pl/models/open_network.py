"""Networks opened by name, with their images, their classes and the run that trained them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from json import JSONDecodeError
from pathlib import Path
from typing import Any, Literal, NamedTuple

import timm
import yaml
from huggingface_hub import errors, hf_hub_download
from torch import Tensor, nn

from shvit_pl.compat import load_timm_config
from shvit_pl.designs.config import DesignConfig
from shvit_pl.designs.design import NAMED, TIMM_NAMES, Design, design_of
from shvit_pl.errors import UserError, error_prefix, one_line
from shvit_pl.hub_errors import go_offline_if_unreachable, why_no_model
from shvit_pl.models import weights as weight_files
from shvit_pl.models.network_names import DETECTORS, FOLDER, Kind, NetworkName, find_network, find_weights, not_a_shvit
from shvit_pl.models.shvit import ENTRY_POINT, SHViT, build_network
from shvit_pl.runs.folder import CONFIG, FinishedRun

_USE_DETECTOR = (
    "Give one of them; a detector is measured by shvit-pl validate, and used by shvit-pl predict or shvit_pl.load."
)
_CLASSIFIERS = ("head", "fc", "classifier", "head.fc", "head.l")  # names in files, where timm's own isn't there
_RESAMPLED = ("pos_embed", "relative_position_bias_table")  # timm resamples these if the images have another size
_DROPPED = ("head.weight", "fc.weight", "classifier.weight")  # timm drops these if the classes are others
_SHVITS = {ENTRY_POINT: None, **{timm_name: NAMED[name] for name, timm_name in TIMM_NAMES.items()}}


@dataclass(frozen=True)
class OpenedNetwork:
    """A network with its images, classes and origin."""

    name: str
    """The name that it was opened by, with the file of its weights."""
    model: nn.Module
    """On the CPU, `(B, 3, S, S)` to `(B, classes)`; by `open_network` in evaluation mode, with one classifier."""
    origin: Kind
    """Kind of its name; `hub` also for a folder of a repo's files."""
    image_size: int
    """Side in pixels of the images that it is made for."""
    mean: Sequence[float] = timm.data.IMAGENET_DEFAULT_MEAN
    """Mean of its normalization, per channel, for pixels from 0 to 1."""
    std: Sequence[float] = timm.data.IMAGENET_DEFAULT_STD
    """Standard deviation of its normalization."""
    crop_pct: float = 0.875
    """Share of the image that is left by the center crop, as in `eval_transform`."""
    resize: Literal["crop", "squash"] = "crop"
    """Way to bring images to its size, as in `eval_transform`."""
    class_names: list[str] | None = None
    """Names of its classes, index by index, where known."""
    descriptions: list[str] | None = None
    """Other names of the same classes, comma-separated, where known."""
    averaged: bool = False
    """True where the weights are a moving average."""
    fresh: bool = False
    """True for untrained weights: a design's, and those of a model of timm unless pretrained ones were asked for."""
    checkpoint: Path | None = None
    """The shvit-pl checkpoint that the weights are from."""
    data: Mapping[str, Any] | None = None
    """Data settings of the shvit-pl run that trained it; of another SHViT on the Hub, image size and crop."""

    @property
    def in_chans(self) -> int:
        """Channels of its images."""
        return len(self.mean)

    @property
    def channels(self) -> str | int:
        """The same as `data.channels` says it."""
        return {1: "gray", 3: "rgb"}.get(self.in_chans, self.in_chans)

    @property
    def pixels(self) -> str:
        """Its images in words, before they are normalized."""
        if self.in_chans == 3:
            return "RGB pixels from 0 to 1"
        limits = (self.data or {}).get("intensity_range")
        deep = f"those of {list(limits)} from 0 to 1" if limits else "those of 32 bits and floating-point as they are"
        kind = "gray pixels" if self.in_chans == 1 else f"{self.in_chans} channels"
        return f"{kind}, whole numbers of 8 or 16 bits from 0 to 1, {deep}"

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
    resample: bool = False,
) -> OpenedNetwork:
    """Open a network by name.

    Args:
        name: The name, as `network_names` explains it, or its meaning.
        averaged: Take averaged weights (default: a checkpoint's if its run's monitored metric is of them, a file's if
            it has them).
        pretrained: Load timm's weights of its own model.
        image_size: Side in pixels that a model of timm is built for, where it must know that (a ViT).
        weights: File of weights for a model of timm.
        model_kwargs: Changes of a model of timm, such as `num_heads`.
        resample: Let timm resample those weights where they are for images of another size.

    Raises `UserError` for a name of nothing, and for weights that can't be had.
    """
    source = find_network(name) if isinstance(name, str) else name
    if source.kind == "timm":
        size = {} if image_size is None else {"img_size": image_size}
        return _open_timm(source, averaged, pretrained, weights, {**size, **(model_kwargs or {})}, resample)
    if weights is not None:
        raise UserError(
            f"weights {weights!r}: only for timm:NAME, and {source.name!r} has its own weights. Leave the file out."
        )
    if source.kind == "design":
        design = NAMED[source.place]
        return OpenedNetwork(source.name, _evaluated(design, 1000), "design", design.image_size, fresh=True)
    return _open_checkpoint(source, averaged) if source.kind == "checkpoint" else _open_saved(source, averaged)


def _evaluated(design: Design, classes: int, in_chans: int = 3) -> SHViT:
    """Build a design as it is evaluated: with one classifier."""
    single = replace(design, distilled=False, drop_path=0.0)
    return build_network(single, num_classes=classes, in_chans=in_chans).eval()


# ---- a shvit-pl checkpoint or run folder


def _open_checkpoint(source: NetworkName, averaged: bool | None) -> OpenedNetwork:
    file = Path(source.place)
    content = weight_files.read_checkpoint(str(file), flag="", weights=True)
    model, data = content["model"], content["data"]
    if content["task"] != "classification":
        raise UserError(
            f"{source.name!r}: a network for {content['task']}, and this takes those that classify images. "
            f"{_USE_DETECTOR}"
        )
    if averaged is None:
        run = FinishedRun.of_checkpoint(file)
        averaged = run is not None and run.averaged
    if averaged and not model["ema"]["decay"]:
        raise weight_files.NoAverageError(f"{source.name!r}: it has no averaged weights (its model.ema.decay was 0).")
    channels = model.get("in_chans") or 3
    network = _evaluated(DesignConfig(**model["design"]).resolved, len(model["class_names"]), channels)
    state = weight_files.tensors_in(str(file), {"state_dict": content["weights"]}, averaged)
    _check_complete(weight_files.load_state(network, state, str(file)))
    return OpenedNetwork(
        source.name,
        network,
        "checkpoint",
        data["image_size"],
        mean=tuple(data.get("mean") or timm.data.IMAGENET_DEFAULT_MEAN),
        std=tuple(data.get("std") or timm.data.IMAGENET_DEFAULT_STD),
        crop_pct=data["crop_pct"],
        resize=data["resize"],
        class_names=list(model["class_names"]),
        averaged=averaged,
        checkpoint=file,
        data=data,
    )


def _check_complete(report: weight_files.LoadReport) -> None:
    if report.reinitialized:
        raise UserError(f"{report.source!r}: incomplete, it lacks {', '.join(report.reinitialized)}.")


# ---- a Hub repo, or a folder of the same files


class Pretrained(NamedTuple):
    """A SHViT in a Hub repo, or in a folder of the same files, as its config.json describes it."""

    design: Design
    """The design of the weights, perhaps with two classifiers."""
    class_names: list[str] | None
    """The repo's own names of the classes."""
    network: OpenedNetwork
    """The network before its weights are loaded; without own names, ImageNet's descriptions are its class names."""


def read_pretrained(name: str) -> Pretrained | None:
    """Read the description of weights in a repo or a folder; None for a single file, which has none.

    The name is as for `load_weights`. Raises `UserError` when they can't be had, or are not of a SHViT.
    """
    source = find_weights(name)
    return _pretrained(source, *_read_config(source)) if source.kind in ("folder", "hub") else None


def _read_config(source: NetworkName) -> tuple[dict[str, Any], str, dict[str, Any]]:
    """Read timm's settings of a saved network, its name at timm, and its arguments there."""
    try:
        if source.kind == "folder":
            read = load_timm_config(Path(source.place))
        else:
            go_offline_if_unreachable()
            read = timm.models.load_model_config_from_hf(source.place)
    except (KeyError, TypeError, AttributeError, JSONDecodeError) as error:
        raise _foreign(source, "it names no architecture of timm") from error
    except Exception as error:  # the Hub's client raised it
        raise UserError(f"{source.name!r}: {why_no_model(error, source.place)}") from error
    if str(read[1]).startswith(DETECTORS):
        raise UserError(f"{source.name!r}: a detector, and this takes networks that classify images. {_USE_DETECTOR}")
    return read


def _pretrained(source: NetworkName, cfg: dict[str, Any], architecture: str, arguments: dict[str, Any]) -> Pretrained:
    if architecture not in _SHVITS:
        raise not_a_shvit(source.name, architecture)
    try:
        design = _SHVITS[architecture] or design_of(arguments)  # without timm's additional arguments
        own, classes = [str(name) for name in cfg.get("label_names") or ()] or None, int(cfg["num_classes"])
        names, descriptions = class_names(cfg, classes)
        labels = own or descriptions
        if own is None and names and descriptions:  # ImageNet's ids are no labels to show, but names to find
            descriptions = [f"{name}, {text}" for name, text in zip(names, descriptions, strict=True)]
        channels = int(cfg["input_size"][0])
        data = {"crop_pct": cfg["crop_pct"], **_data_of_run(source), "image_size": int(cfg["input_size"][-1])}
        if channels != 3:
            data |= {"channels": channels if channels > 1 else "gray", "mean": [*cfg["mean"]], "std": [*cfg["std"]]}
        network = OpenedNetwork(
            source.name,
            _evaluated(design, classes, channels),
            "hub",
            data["image_size"],
            mean=tuple(cfg["mean"]),
            std=tuple(cfg["std"]),
            crop_pct=data["crop_pct"],
            resize=data.get("resize", "crop"),
            class_names=labels,
            descriptions=descriptions,
            data=data,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise _foreign(source, one_line(error)) from error
    return Pretrained(design, own, network)


def class_names(cfg: Mapping[str, Any], classes: int) -> tuple[list[str] | None, list[str] | None]:
    """Return names and descriptions of the classes: those in timm's settings, or ImageNet's for as many classes."""
    names = cfg.get("label_names")
    if names:
        texts = cfg.get("label_descriptions") or {}
        return list(map(str, names)), [str(texts.get(name, name)) for name in names]
    subset = timm.data.infer_imagenet_subset({"num_classes": classes})
    if subset is None:
        return None, None
    info = timm.data.ImageNetInfo(subset)
    return info.label_names(), info.label_descriptions()


def _data_of_run(source: NetworkName) -> dict[str, Any]:
    """Read the data settings of the run that made the weights; empty where there are none."""
    try:
        path = Path(source.place) / CONFIG
        if source.kind == "hub":
            repo, _, revision = source.place.partition("@")
            path = Path(hf_hub_download(repo, CONFIG, revision=revision or None))
        return dict(yaml.safe_load(path.read_text())["data"])
    except (errors.EntryNotFoundError, OSError):
        return {}


def _foreign(source: NetworkName, reason: str) -> UserError:
    return UserError(
        f"{source.name!r}: not saved by timm or shvit-pl push (config.json: {reason[:120]}). Give another repo or "
        "folder, or a file of weights and the flags of its design."
    )


def _open_saved(source: NetworkName, averaged: bool | None) -> OpenedNetwork:
    _refuse_average(source, averaged)
    cfg, architecture, arguments = _read_config(source)
    if architecture not in _SHVITS:
        if not timm.is_model(architecture):
            raise UserError(
                f"{source.name!r}: its network {architecture!r} is not known to timm {timm.__version__}. Give another, "
                "or install the version that saved it."
            )
        prefix = FOLDER if source.kind == "folder" else "hf-hub:"
        model = _create(source, f"{prefix}{source.place}", source.place)
        return replace(_opened_timm(source.name, model), origin="hub")
    network = _pretrained(source, cfg, architecture, arguments).network
    assert isinstance(network.model, SHViT)
    _check_complete(weight_files.load_weights(network.model, source.name))
    return network


def _refuse_average(source: NetworkName, averaged: bool | None) -> None:
    if averaged:
        raise weight_files.NoAverageError(f"{source.name!r}: it has no averaged weights.")


# ---- a model of timm


def _open_timm(
    source: NetworkName,
    averaged: bool | None,
    pretrained: bool,
    weights: str | None,
    changes: Mapping[str, Any],
    resample: bool,
) -> OpenedNetwork:
    name = source.name
    if weights is not None:
        name = f"{name} ({Path(weights).name})"
        model = _create_with_weights(source, weights, averaged, changes, resample)
    else:
        repo = source.place
        if pretrained:
            repo = source.pretrained_settings().get("hf_hub_id") or repo
            _refuse_average(source, averaged)
        model = _create(source, source.place, repo, pretrained, **changes)
    opened = _opened_timm(name, model)
    size = int(changes.get("img_size") or opened.image_size)
    return replace(opened, image_size=size, fresh=not (pretrained or weights))


def _create(source: NetworkName, model_name: str, repo: str, pretrained: bool = True, **changes: Any) -> Any:
    """Build a network by timm's own loading, with the classifier that it was trained with."""
    if pretrained:
        go_offline_if_unreachable()
    try:
        return timm.create_model(model_name, pretrained=pretrained, **changes)
    except Exception as error:
        if pretrained and not isinstance(error, RuntimeError | KeyError | TypeError | AssertionError):
            raise UserError(f"{source.name!r}: {why_no_model(error, repo)}") from error  # the Hub's client raised it
        problem = f"timm can't build it ({one_line(error)[:160]})"  # these settings or weights don't fit
        raise UserError(f"{source.name!r}: {problem}. Give another network.") from error


def _create_with_weights(
    source: NetworkName, weights: str, averaged: bool | None, changes: Mapping[str, Any], resample: bool
) -> Any:
    file = weights_file(weights)
    with error_prefix("weights "):
        state = weight_files.read_tensors(weights, file, averaged)
    overlay = {"state_dict": state, "num_classes": _classes_in(state, source.settings()), "label_offset": 0}
    try:  # timm maps the keys of the authors' own files to its own
        model = timm.create_model(source.place, pretrained=True, pretrained_cfg_overlay=overlay, **changes)
    except Exception as error:  # whatever timm's mapping of keys, or a model of timm, runs into
        raise UserError(
            f"weights {weights!r}: not weights of {source.place!r} ({one_line(error)[:160]}). Give the name of their "
            "network."
        ) from error
    model.pretrained_cfg.pop("state_dict")
    for key, here in model.state_dict().items():
        there = state.get(key, here)
        if there.shape != here.shape and key.endswith(_DROPPED if resample else _DROPPED + _RESAMPLED):
            raise UserError(
                f"weights {weights!r}: {key} is {list(there.shape)} in the file and {list(here.shape)} in "
                f"{source.place!r}. Give the image size and classes of the weights, or the name of their network."
            )
    return model


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
    """Return a network of timm in evaluation mode, with its settings."""
    cfg = model.pretrained_cfg
    names, descriptions = class_names(cfg, model.num_classes)
    return OpenedNetwork(
        name,
        model.eval(),
        "timm",
        int(cfg["input_size"][-1]),
        mean=tuple(cfg["mean"]),
        std=tuple(cfg["std"]),
        crop_pct=float(cfg["crop_pct"]),
        class_names=names,
        descriptions=descriptions,
    )
