"""The teacher of a distillation: any trained classifier, asked on the student's images."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from shvit_pl.errors import UserError, one_line
from shvit_pl.models.network_names import TIMM, NetworkName, find_network, is_model_of_timm, local_path
from shvit_pl.models.open_network import OpenedNetwork, open_network, weights_file
from shvit_pl.models.weights import NoAverageError
from shvit_pl.teachers.classes import ClassMatch, KnownNames, mapped_classes, match_classes, read_class_map
from shvit_pl.teachers.config import DistillConfig


class Teacher:
    """A frozen network with its own normalisation, resolution and classes.

    Not an `nn.Module`: a module that holds one does not register it, so that it is in no optimiser, no average, no
    `state_dict` and no checkpoint, and no `.train()` reaches it. Made by `open_teacher`.

    Attributes:
        source: As the user named it.
        size: Side of its input in pixels.
        classes: Number of classes of its own classifier.
        class_names: Their names, where known.
        columns: For each class of the data the teacher's index `(classes of the data,)`; None for the same order.
        feature_dim: Number of pooled features; 0 where it gives none.
        identity: What its answers depend on beside the images; see `identity_of`.
        device: Where it is.
        precision: fp32 or bf16.
    """

    def __init__(
        self,
        config: DistillConfig,
        network: OpenedNetwork,
        widths: Widths,
        match: ClassMatch,
        mean: Sequence[float],
        std: Sequence[float],
        identity: dict[str, str],
    ) -> None:
        self.source = config.source
        self.size = config.teacher_size or network.image_size
        self.classes = widths.classes
        self.class_names = network.class_names
        self.columns = None if match.columns == tuple(range(widths.classes)) else torch.tensor(match.columns)
        self.feature_dim = widths.features
        self.identity = identity
        self.device = torch.device("cpu")
        self.precision = "fp32"
        self._config = config
        self._match = match
        self._network = network.model
        self._scale, self._shift = _renormalisation(mean, std, network)
        self._settle()

    @property
    def note(self) -> str:
        """One line: source, parameters, classes, size of the input, precision."""
        millions = sum(tensor.numel() for tensor in self._network.parameters()) / 1e6
        parts = [self.source, f"{millions:.1f} M parameters", self._match.note, f"{self.size} px", self.precision]
        return ", ".join(parts + ["compiled"] * self._config.compile)

    def to(self, device: torch.device | str) -> Self:
        """Move it; auto precision becomes bf16 where that device computes in it."""
        self.device = torch.device(device)
        self._network.to(self.device)
        self.columns = None if self.columns is None else self.columns.to(self.device)
        if self._scale is not None and self._shift is not None:
            self._scale, self._shift = self._scale.to(self.device), self._shift.to(self.device)
        self._settle()
        return self

    def _settle(self) -> None:
        asked = self._config.teacher_precision
        self.precision = asked if asked != "auto" else "bf16" if computes_in_bf16(self.device) else "fp32"
        self._classify: Callable[[Tensor], Tensor] = self._network
        self._describe: Callable[[Tensor], tuple[Tensor, Tensor]] = partial(logits_and_features, self._network)
        if self._config.compile:
            self._classify, self._describe = torch.compile(self._classify), torch.compile(self._describe)

    def logits(self, images: Tensor) -> Tensor:
        """Logits of the data's classes.

        Args:
            images: `(B, 3, S, S)` on the teacher's device, normalised for the student.

        Returns:
            float32 `(B, classes of the data)`, constants for autograd.
        """
        with self._asking():
            answers = self._classify(self._own_view(images))
        return self._of_data(_constant(answers))

    def logits_and_features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """As `logits`, and beside them the pooled features that the classifier sees, float32 `(B, feature_dim)`."""
        with self._asking():
            answers, features = self._describe(self._own_view(images))
        return self._of_data(_constant(answers)), _constant(features)

    def _of_data(self, answers: Tensor) -> Tensor:
        return answers if self.columns is None else answers[:, self.columns]

    @contextmanager
    def _asking(self) -> Iterator[None]:
        if self._network.training:  # whoever reached it
            self._network.eval()
        autocast = torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")
        with torch.inference_mode(), autocast:
            yield

    def _own_view(self, images: Tensor) -> Tensor:
        """The same images in the teacher's resolution and normalisation."""
        images = images.float()
        if images.shape[-2:] != (self.size, self.size):
            images = F.interpolate(images, (self.size, self.size), mode="bicubic", antialias=True)
        if self._scale is None or self._shift is None:
            return images
        return torch.addcmul(self._shift, images, self._scale)


def _constant(answers: Tensor) -> Tensor:
    """In float32; a copy, as autograd can't save a tensor of inference mode."""
    return answers.to(torch.float32, copy=True)


def open_teacher(
    config: DistillConfig, class_names: Sequence[str], mean: Sequence[float], std: Sequence[float]
) -> Teacher:
    """Open the teacher that the user named: on the CPU, frozen, in eval mode, once known to be a fitting classifier.

    Args:
        config: The user's settings.
        class_names: The data's, index by index.
        mean: Mean of the normalization of the student's images, per channel.
        std: Its standard deviation.

    Raises:
        UserError: for a source that can't be had or is no classifier, an impossible size, and classes that don't fit.
    """
    class_map = None if config.class_map is None else read_class_map(config.class_map)
    with _refusals(config):
        found = _find(config)
        network = open_network(found, config.use_ema, pretrained=True, weights=config.weights, as_teacher=True)
    network.model.requires_grad_(False)
    widths = probe(network, config)
    known = KnownNames(network.class_names, network.descriptions) if network.class_names else None
    if class_map is None:
        match = match_classes(config.source, widths.classes, known, class_names)
    else:
        match = mapped_classes(class_map, widths.classes, known, class_names)
    return Teacher(config, network, widths, match, mean, std, identity_of(config, found))


def identity_of(config: DistillConfig, found: NetworkName | None = None) -> dict[str, str]:
    """Return what a teacher's answers depend on beside the images and the data's class names, without building it.

    Its weights (`NetworkName.identity`), size, precision and class map.

    Args:
        config: The user's settings.
        found: What the teacher's name means, where that is known already.

    Raises:
        UserError: for a source that isn't there.
    """
    with _refusals(config):
        found = found or _find(config)
        weights = found.identity(None if config.weights is None else weights_file(config.weights))
    class_map = None if config.class_map is None else read_class_map(config.class_map)
    settings = {
        "size": str(config.teacher_size or "own"),
        "precision": config.teacher_precision,
        "averaged": str(config.use_ema),
        "class_map": json.dumps(class_map, sort_keys=True),
    }
    return {**weights, **settings}


def _find(config: DistillConfig) -> NetworkName:
    """Find what the teacher's name means; a name of timm needs no prefix, and comes before files and folders."""
    name = config.source
    found = find_network(f"{TIMM}{name}" if is_model_of_timm(name) else name)
    if found.kind == "design":
        raise UserError(f"{name!r}: a design, without weights. Train it with shvit-pl fit, and give its run folder.")
    return replace(found, name=name)


@contextmanager
def _refusals(config: DistillConfig) -> Iterator[None]:
    """Name the flag in every refusal to open the teacher."""
    try:
        yield
    except NoAverageError as error:
        raise UserError(f"model.distill.use_ema true: {error} Leave it out.") from error
    except UserError as error:
        if str(error).startswith("weights "):
            raise UserError(f"model.distill.{error}") from error
        file = is_model_of_timm(config.source.removeprefix(TIMM)) or local_path(config.source).is_file()
        hint = " Weights of a model of timm go in by --model.distill.weights." if file and not config.weights else ""
        raise UserError(f"model.distill.teacher {error}{hint}") from error


def computes_in_bf16(device: torch.device) -> bool:
    """Whether the device has instructions for bf16, instead of emulating it."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # not in older versions of torch
        return any(capabilities.get(name) for name in ("amx_bf16", "avx512_bf16", "bf16"))
    return False


def _renormalisation(
    mean: Sequence[float], std: Sequence[float], network: OpenedNetwork
) -> tuple[Tensor | None, Tensor | None]:
    """Factor and summand `(1, 3, 1, 1)` from the student's normalisation to the teacher's; None where they agree."""
    student, teacher = ((tuple(mean), tuple(std)), (tuple(network.mean), tuple(network.std)))
    if student == teacher:
        return None, None
    (mean_s, std_s), (mean_t, std_t) = (map(torch.tensor, pair) for pair in (student, teacher))
    return (std_s / std_t).view(1, -1, 1, 1), ((mean_s - mean_t) / std_t).view(1, -1, 1, 1)


@dataclass(frozen=True)
class Widths:
    """Numbers of classes and of pooled features; 0 features where the network doesn't give them."""

    classes: int
    features: int


def logits_and_features(model: Any, images: Tensor) -> tuple[Tensor, Tensor]:
    """Logits, and the pooled features `(B, F)` that the classifier sees, by timm's model contract."""
    maps = model.forward_features(images)
    return model.forward_head(maps), model.forward_head(maps, pre_logits=True)


@torch.no_grad()
def probe(network: OpenedNetwork, config: DistillConfig) -> Widths:
    """Ask a network about one empty image; raises `UserError` unless it is a classifier of images of its size."""
    size = config.teacher_size or network.image_size
    try:
        image = torch.zeros(1, 3, size, size)
        answer = network.model(image)
    except Exception as error:  # whatever a network runs into with a size that it isn't made for
        raise _cannot_take(size, network, config, one_line(error).rstrip(".")) from error
    problem = _why_no_classifier(answer, getattr(network.model, "num_classes", None))
    if problem:
        raise UserError(
            f"model.distill.teacher {config.source!r}: not a classifier ({problem}). Give a network that was trained "
            "to classify, such as regnety_160.deit_in1k."
        )
    return Widths(answer.shape[1], _feature_width(network.model, image, config))


def _cannot_take(size: int, network: OpenedNetwork, config: DistillConfig, reason: str) -> UserError:
    if config.teacher_size is None:
        return UserError(
            f"model.distill.teacher {config.source!r}: it can't take images of {size} pixels ({reason}). Give their "
            "side with --model.distill.teacher_size, or another teacher."
        )
    return UserError(
        f"model.distill.teacher_size {size}: the teacher can't take images of this size ({reason}). Leave it out for "
        f"the {network.image_size} pixels that the teacher was trained at."
    )


def _why_no_classifier(answer: Any, declared: int | None) -> str:
    if isinstance(answer, tuple | list):
        return f"it answers with {len(answer)} tensors instead of one"
    if not isinstance(answer, Tensor):
        return f"it answers with a {type(answer).__name__}"
    if declared == 0:
        return "it has no classes"
    if answer.ndim != 2:
        return f"its answer to an image is of shape {list(answer.shape)[1:]}, instead of one number per class"
    return "it has a single output" if answer.shape[1] < 2 else ""


def _feature_width(model: nn.Module, image: Tensor, config: DistillConfig) -> int:
    try:
        _, features = logits_and_features(model, image)
        if features.ndim == 2:
            return features.shape[1]
        reason = f"they are of shape {list(features.shape)[1:]}"
    except Exception as error:  # a network outside of timm's model contract
        reason = one_line(error)
    if config.objective == "feature":
        raise UserError(
            f"model.distill.objective 'feature': the teacher {config.source!r} gives no pooled features ({reason}). "
            "Set --model.distill.objective soft, or give another teacher."
        )
    return 0
