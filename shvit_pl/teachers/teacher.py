"""A teacher of distillation: any trained classifier, run on the student's images, and its accuracy on labeled ones."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor, nn

from shvit_pl.errors import UserError, one_line
from shvit_pl.models import network_names, open_network
from shvit_pl.models.weights import NoAverageError
from shvit_pl.teachers.classes import KnownNames, mapped_classes, match_classes, read_class_map
from shvit_pl.teachers.config import DistillConfig


class Teacher:
    """A frozen classifier with its own normalization, resolution and classes, opened by the name in its settings.

    Not an `nn.Module`: a module that holds one does not register it, so that it is in no optimizer, no average, no
    `state_dict` and no checkpoint, and no `.train()` reaches it.

    Args:
        config: The user's settings.
        class_names: The data's classes, index by index.
        mean: Mean of the normalization of the student's images, per channel.
        std: Its standard deviation.

    Raises:
        UserError: for a source that can't be had or is no classifier, an impossible size, and classes that don't fit.
    """

    feature_dim: int
    """Number of pooled features; 0 where it gives none."""
    size: int
    """Side of its input in pixels."""
    columns: Tensor | None
    """Its index of each of the data's classes `(classes of the data,)`; None for the same order."""

    def __init__(
        self, config: DistillConfig, class_names: Sequence[str], mean: Sequence[float], std: Sequence[float]
    ) -> None:
        class_map = None if config.class_map is None else read_class_map(config.class_map)
        with _flags_in_errors(config):
            network = open_network.open_network(
                _find(config), averaged=config.use_ema, pretrained=True, weights=config.weights, resample=True
            )
        self.source, self.size = config.source, config.teacher_size or network.image_size
        self._config, self._network = config, network.model.requires_grad_(False)
        if network.in_chans != len(mean) and (network.in_chans, len(mean)) != (3, 1):
            raise UserError(
                f"model.distill.teacher {config.source!r}: it takes {network.channels} images (channels), and the data's "
                f"are {channels_named(len(mean))} (data.channels). Give a teacher of the same; for one of rgb, gray is "
                "repeated."
            )
        classes, self.feature_dim = probe(network, config)
        known = KnownNames(network.class_names, network.descriptions) if network.class_names else None
        if class_map is None:
            columns, self._match_note = match_classes(config.source, classes, known, class_names)
        else:
            columns, self._match_note = mapped_classes(class_map, classes, known, class_names)
        self.columns = None if columns == list(range(classes)) else torch.tensor(columns)
        # x * std_s + mean_s are the student's pixels; less mean_t and over std_t they are the teacher's: (1, C, 1, 1)
        mean_s, std_s, mean_t, std_t = (
            torch.tensor(values).view(1, -1, 1, 1) for values in (mean, std, network.mean, network.std)
        )
        self._scale, self._shift = std_s / std_t, (mean_s - mean_t) / std_t
        self._classify: Callable[[Tensor], Tensor] = self._network
        self._describe: Callable[[Tensor], tuple[Tensor, Tensor]] = partial(logits_and_features, self._network)
        if config.compile:
            self._classify, self._describe = torch.compile(self._classify), torch.compile(self._describe)
        self.to("cpu")

    @property
    def note(self) -> str:
        """One line: source, parameters, classes, size of the input, precision."""
        millions = sum(tensor.numel() for tensor in self._network.parameters()) / 1e6
        parts = [self.source, f"{millions:.1f} M parameters", self._match_note, f"{self.size} px", self.precision]
        return ", ".join(parts + ["compiled"] * self._config.compile)

    def to(self, device: torch.device | str) -> Self:
        """Move it; auto precision becomes bf16 where that device computes in it."""
        self.device = torch.device(device)
        self._network.to(self.device)
        self._scale, self._shift = self._scale.to(self.device), self._shift.to(self.device)
        self.columns = None if self.columns is None else self.columns.to(self.device)
        auto = "bf16" if computes_in_bf16(self.device) else "fp32"
        self.precision = auto if self._config.teacher_precision == "auto" else self._config.teacher_precision
        return self

    def logits(self, images: Tensor) -> Tensor:
        """Return float32 logits `(B, classes of the data)`, constants for autograd.

        The images `(B, 3, S, S)` are on the teacher's device, and normalized for the student.
        """
        with self._inference():
            logits = self._classify(self._own_view(images))
        return self._of_data(logits)

    def logits_and_features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return `logits`, and the pooled features that the classifier sees, float32 `(B, feature_dim)`."""
        with self._inference():
            logits, features = self._describe(self._own_view(images))
        return self._of_data(logits), _constant(features)

    def _of_data(self, logits: Tensor) -> Tensor:
        logits = _constant(logits)
        return logits if self.columns is None else logits[:, self.columns]

    @contextmanager
    def _inference(self) -> Iterator[None]:
        if self._network.training:  # whoever reached it has changed its mode
            self._network.eval()
        autocast = torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")
        with torch.inference_mode(), autocast:
            yield

    def _own_view(self, images: Tensor) -> Tensor:
        """Return the images `(B, 3, size, size)` in the teacher's resolution and normalization."""
        images = images.float()
        if images.shape[-2:] != (self.size, self.size):
            images = nn.functional.interpolate(images, (self.size, self.size), mode="bicubic", antialias=True)
        return torch.addcmul(self._shift, images, self._scale)


def _constant(outputs: Tensor) -> Tensor:
    """Return a float32 copy: autograd can't save a tensor of inference mode."""
    return outputs.to(torch.float32, copy=True)


def logits_and_features(model: Any, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits, and the pooled features `(B, F)` that the classifier sees, by timm's model contract."""
    maps = model.forward_features(images)
    return model.forward_head(maps), model.forward_head(maps, pre_logits=True)


def computes_in_bf16(device: torch.device) -> bool:
    """Return whether the device has instructions for bf16, instead of emulating it."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # not in older versions of torch
        return any(capabilities.get(name) for name in ("amx_bf16", "avx512_bf16", "bf16"))
    return False


# ---- opening


def identity_of(config: DistillConfig) -> dict[str, str]:
    """Return what a teacher's logits depend on besides the images and the data's class names, without building it.

    These are its weights (`NetworkName.identity`), size, precision and class map; raises `UserError` for a source that
    isn't there.
    """
    with _flags_in_errors(config):
        weights = _find(config).identity(None if config.weights is None else open_network.weights_file(config.weights))
    class_map = None if config.class_map is None else read_class_map(config.class_map)
    return {
        **weights,
        "size": str(config.teacher_size or "own"),
        "precision": config.teacher_precision,
        "averaged": str(config.use_ema),
        "class_map": json.dumps(class_map, sort_keys=True),
    }


def _find(config: DistillConfig) -> network_names.NetworkName:
    """Find what the teacher's name means."""
    name = config.source
    source = network_names.find_network(name, network_names.TEACHERS)
    if source.kind == "timm" and config.weights is None and source.settings().get("num_classes") == 0:
        raise UserError(_no_classifier(name, "it has no classes"))  # before its weights are fetched
    return replace(source, name=name)


@contextmanager
def _flags_in_errors(config: DistillConfig) -> Iterator[None]:
    """Put the flag before every refusal to open the teacher."""
    try:
        yield
    except NoAverageError as error:
        raise UserError(f"model.distill.use_ema true: {error} Leave it out.") from error
    except UserError as error:
        if str(error).startswith("weights "):
            raise UserError(f"model.distill.{error}") from error
        file = network_names.is_model_of_timm(config.source) or network_names.local_path(config.source).is_file()
        problem = f"model.distill.teacher {error}"
        if file and not config.weights:
            problem = problem.removesuffix(".").removesuffix(", or a file of weights")
            problem = f"{problem}. Or give a file of timm's weights by --model.distill.weights."
        raise UserError(problem) from error


@torch.no_grad()
def probe(network: open_network.OpenedNetwork, config: DistillConfig) -> tuple[int, int]:
    """Return a network's numbers of classes and of pooled features (0 for none), by running it on an empty image.

    Raises `UserError` unless it is a classifier of images of its size, with features where the objective needs them.
    """
    size = config.teacher_size or network.image_size
    image = torch.zeros(1, network.in_chans, size, size)
    try:
        logits: Any = network.model(image)
    except Exception as error:  # whatever a network runs into with a size that it isn't made for
        flag = f"teacher {config.source!r}: it" if config.teacher_size is None else f"teacher_size {size}: the teacher"
        raise UserError(
            f"model.distill.{flag} can't take images of {size} pixels ({one_line(error).rstrip('.')}). Give another "
            f"--model.distill.teacher_size (it was made for {network.image_size} pixels), or another teacher."
        ) from error
    problem = ""
    if not isinstance(logits, Tensor):
        problem = f"its output is a {type(logits).__name__} instead of a tensor"
    elif getattr(network.model, "num_classes", None) == 0:
        problem = "it has no classes"
    elif logits.ndim != 2 or logits.shape[1] < 2:
        problem = f"its output for an image is of shape {list(logits.shape)[1:]}, not one logit per class"
    if problem:
        raise UserError(f"model.distill.teacher {_no_classifier(config.source, problem)}")
    try:
        features = logits_and_features(network.model, image)[1]
        problem = "" if features.ndim == 2 else f"they are of shape {list(features.shape)[1:]}"
    except Exception as error:  # a network outside of timm's model contract
        problem = one_line(error)
    if problem and config.objective == "feature":
        raise UserError(
            f"model.distill.objective 'feature': the teacher {config.source!r} gives no pooled features ({problem}). "
            "Set --model.distill.objective soft, or give another teacher."
        )
    return logits.shape[1], 0 if problem else features.shape[1]


def _no_classifier(name: str, problem: str) -> str:
    return (
        f"{name!r}: not a classifier ({problem}). Give a network that was trained to classify, such as "
        "regnety_160.deit_in1k."
    )


# ---- accuracy


@dataclass(frozen=True)
class TeacherCheck:
    """A teacher's top-1 accuracy on so many labeled images, and the share of their most frequent class."""

    source: str
    top1: float
    majority: float
    images: int

    @property
    def threshold(self) -> float:
        """Top-1 that a teacher must exceed, m + 2 sqrt(m (1 - m) / n)."""
        return self.majority + 2 * (self.majority * (1 - self.majority) / self.images) ** 0.5

    def __str__(self) -> str:
        return (
            f"top-1 {self.top1:.4f} on {self.images} validation images (always predicting the most frequent class: "
            f"{self.majority:.4f})"
        )


def check_teacher(teacher: Teacher, batches: Iterable[dict[str, Any]]) -> TeacherCheck:
    """Measure a teacher on labeled batches, and refuse one that is no better than guessing.

    Guessing is to predict always the most frequent class: of n images, the top-1 is then that class's share m, with a
    standard error of sqrt(m (1 - m) / n). Refused is a top-1 of at most m + 2 standard errors.

    Args:
        teacher: On its device.
        batches: `image` `(B, 3, S, S)`, normalized for the student, and `label` `(B,)`, where -1 is not counted. They
            should hold all classes: the first images of data that are sorted by class prove nothing.

    Raises:
        UserError: as above, and for images that can't show anything: none with a label, or too few of too few classes.
    """
    labels, correct = [], 0
    for batch in batches:
        known = batch["label"] >= 0
        label = batch["label"][known].cpu()
        if len(label):
            predicted = teacher.logits(batch["image"][known].to(teacher.device)).argmax(dim=1)
            correct += int((predicted.cpu() == label).sum())
            labels.append(label)
    if not labels:
        raise _inconclusive("none of the validation images has a label")
    counts = torch.cat(labels).bincount()
    images = int(counts.sum())
    check = TeacherCheck(teacher.source, correct / images, int(counts.max()) / images, images)
    if check.threshold >= 1:
        raise _inconclusive(
            f"of {images} validation images, a share of {check.majority:.4f} is of one class, so that no teacher could "
            "be distinguished from one that always predicts it"
        )
    if check.top1 <= check.threshold:
        raise UserError(
            f"model.distill.teacher {check.source!r}: top-1 {check.top1:.4f} on {images} validation images, not above "
            f"{check.threshold:.4f} (always predicting the most frequent class gives {check.majority:.4f}). Likely "
            "reasons: another order of classes (--model.distill.class_map), untrained weights "
            "(--model.distill.weights), other data (--data.path), another size (--model.distill.teacher_size) or "
            "normalization. To skip this check, set --model.distill.check false."
        )
    return check


def _inconclusive(problem: str) -> UserError:
    return UserError(
        f"model.distill.check: {problem}. Give validation images of all classes, or set --model.distill.check false."
    )
