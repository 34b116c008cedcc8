"""The settings of each task's module, in one place for flags, module and checkpoint; read without torch."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from math import isfinite
from typing import Any, Literal, Self, get_args

from shvit_pl.command_line.ranges import (
    Decay,
    FromOne,
    FromZero,
    NonNegative,
    Positive,
    Probability,
    Share,
    out_of_range,
)
from shvit_pl.designs.config import DesignConfig
from shvit_pl.designs.detector import DetectorConfig
from shvit_pl.errors import UserError, check_fields, collected, error_prefix, refuse
from shvit_pl.teachers.config import DistillConfig

Interval = Literal["step", "epoch"]
CountedWeights = Literal["balanced", "effective"]
COUNTED_WEIGHTS = get_args(CountedWeights)
ClassWeights = CountedWeights | list[float] | dict[str | int, float]


@dataclass(frozen=True)
class OptimConfig:
    """Optimizer and schedule."""

    name: str = "adamw"
    """Any timm optimizer."""
    lr: Positive = 1e-3
    """Peak learning rate at a global batch of reference_batch; scaled linearly with the global batch (paper: 1e-3, that
    is 4e-3 at its 2048)."""
    reference_batch: FromOne = 512
    """The global batch that lr is stated for (official detection: 16)."""
    weight_decay: NonNegative | Literal["auto"] = 0.025
    """Not applied to biases, normalization and other one-dimensional parameters; auto takes the paper's of the design
    (S1 0.025, S2 0.032, S3 0.035, S4 0.03)."""
    warmup_epochs: NonNegative = 5.0
    """Epochs of linear warm-up from warmup_lr; at most a fifth of the run."""
    warmup_steps: FromZero | None = None
    """Steps of it instead (official detection: 500)."""
    warmup_lr: NonNegative = 1e-6
    """Learning rate of the first step (not scaled)."""
    min_lr: NonNegative = 1e-5
    """Learning rate at the end of the cosine (not scaled)."""
    drops: list[int] | None = None
    """Epochs after each of which the rate is a tenth, instead of the cosine (official detection: [8, 11])."""
    interval: Interval = "step"
    """step follows warm-up and cosine at every step; epoch keeps one rate through an epoch, one epoch late, as the
    official code does."""
    agc: NonNegative = 0.0
    """Adaptive gradient clipping: largest norm of a unit's gradient, as a share of its weights' norm (official code:
    0.02); 0 is none."""
    layer_decay: Share | None = None
    """Factor on the learning rate from each layer to the one before it; null or 1 is none."""
    options: dict[str, Any] = field(default_factory=dict)
    """Further arguments of the optimizer, such as {betas: [0.9, 0.95]}."""

    def __post_init__(self) -> None:
        mistakes = list(out_of_range("model.optim", self))
        if self.drops is not None and (not self.drops or min(self.drops) < 1 or sorted(set(self.drops)) != self.drops):
            mistakes.append(f"model.optim.drops {self.drops}: allowed are rising numbers of epochs, such as [8, 11].")
        if self.interval == "epoch" and (self.drops is not None or self.warmup_steps is not None):
            own = "drops" if self.drops is not None else "warmup_steps"
            mistakes.append(f"model.optim.interval epoch: model.optim.{own} goes by steps; leave out one of the two.")
        for key in ("lr", "weight_decay", "layer_decay"):
            if key in self.options:
                mistakes.append(f"model.optim.options {self.options}: {key} has a flag, --model.optim.{key}.")
        refuse(mistakes)


@dataclass(frozen=True)
class DetectionOptimConfig(OptimConfig):
    """Optimizer and schedule of a detector; the rate and the decay are the official ones."""

    lr: Positive = 1e-4
    """Peak learning rate at a global batch of reference_batch; scaled linearly with the global batch."""
    reference_batch: FromOne = 16
    """The global batch that lr is stated for."""
    weight_decay: NonNegative | Literal["auto"] = 0.05
    """Not applied to biases, normalization and other one-dimensional parameters; auto takes the paper's of the design
    (S1 0.025, S2 0.032, S3 0.035, S4 0.03)."""


@dataclass(frozen=True)
class MixConfig:
    """Mixup and CutMix by timm; the paper's recipe has mixup 0.8 and cutmix 1.0."""

    mixup: NonNegative = 0.0
    """Parameter of Mixup's Beta distribution; 0 is none."""
    cutmix: NonNegative = 0.0
    """Parameter of CutMix's Beta distribution; 0 is none."""
    prob: Probability = 1.0
    """Probability of a batch (or pair, or image) to be mixed."""
    switch_prob: Probability = 0.5
    """Probability of CutMix where both are on."""
    mode: Literal["batch", "pair", "elem"] = "batch"
    """Images that share one draw: batch, pair or elem."""

    def __post_init__(self) -> None:
        refuse(out_of_range("model.mix", self))

    @property
    def active(self) -> bool:
        """True if images are mixed at all."""
        return (self.mixup > 0 or self.cutmix > 0) and self.prob > 0

    @property
    def description(self) -> str:
        """The mixing in words; empty for none."""
        kinds = {"Mixup": self.mixup, "CutMix": self.cutmix} if self.active else {}
        return ", ".join(f"{name} {value:g}" for name, value in kinds.items() if value)

    def check_batch_size(self, batch_size: int) -> None:
        """Raise `UserError` for an odd batch: images are mixed in pairs."""
        if self.active and batch_size % 2:
            raise UserError(
                f"data.batch_size {batch_size}: Mixup and CutMix need an even number; allowed are {batch_size - 1} or "
                f"{batch_size + 1}, or turn them off with --model.mix.mixup 0 --model.mix.cutmix 0."
            )


@dataclass(frozen=True)
class EmaConfig:
    """Moving average of weights and buffers, evaluated in addition to the weights (`val/acc1_ema`)."""

    decay: Decay = 0.0
    """Share of the average that a step keeps; 0 is no average (the official code's: 0.99996)."""
    warmup_power: Probability = 2 / 3
    """The decay of step t is at most 1 - t^-power, for the average to forget the first weights: 1 is the plain mean of
    all steps so far, 0 is no warm-up."""

    def __post_init__(self) -> None:
        refuse(out_of_range("model.ema", self))


@dataclass(frozen=True)
class TrainingConfig:
    """Model and training recipe, whatever the network learns."""

    design: DesignConfig = field(default_factory=DesignConfig)
    """The design of the network."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    """Optimizer and schedule."""
    ema: EmaConfig = field(default_factory=EmaConfig)
    """Moving average of the weights."""
    freeze_bn: bool | Literal["auto"] = False
    """Keep the running statistics of BatchNorm as they are (its weights and biases still learn); auto does with weights
    from init_from."""
    grad_checkpointing: bool = False
    """Compute activations again in the backward pass instead of keeping them: less memory."""
    compile: bool = False
    """Compile the network with torch.compile."""
    channels_last: bool | Literal["auto"] = "auto"
    """Keep images and weights channels-last in memory; auto does on a CPU, and on a GPU in 16 bits."""
    init_from: str | None = None
    """Weights to start from: a Hub repo, timm:shvit_s1, a .safetensors, an official .pth, or a shvit-pl checkpoint."""
    use_ema: bool = False
    """Take the averaged weights of init_from, and predict with those of the checkpoint."""
    class_names: list[str] | None = None
    """Class names, index by index; taken from the data by default."""

    def __post_init__(self) -> None:
        mistakes = [*out_of_range("model", self), *self._contradictions()]
        if isinstance(self.class_names, str | int):
            mistakes.append(f"model.class_names {self.class_names!r}: allowed is a list of names, such as [cat, dog].")
        refuse(mistakes)

    def _contradictions(self) -> Iterator[str]:
        """Yield a message for each mistake of a task's own."""
        yield from ()

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> Self:
        """Make a config of settings whose sections may be plain dicts, as a checkpoint holds them."""
        sections: dict[str, Any] = {each.name: each.default_factory for each in fields(cls)}
        check_fields(sections, settings, "model")
        values, mistakes = dict(settings), list[str]()
        for name, value in settings.items():
            section = sections[name]
            if not isinstance(section, type) or isinstance(value, section):
                continue
            values[name] = section()  # the defaults, if the section is wrong
            with collected(mistakes):
                known = [each.name for each in fields(section)]
                if not isinstance(value, Mapping):
                    raise UserError(
                        f"model.{name} {value!r}: allowed is a dict with some of {', '.join(known)}, or an "
                        f"object of {section.__name__}."
                    )
                check_fields(known, value, f"model.{name}")
                values[name] = section(**value)
        with collected(mistakes):
            config = cls(**values)
        refuse(mistakes)
        return config


@dataclass(frozen=True)
class ClassificationConfig(TrainingConfig):
    """Model and training recipe."""

    mix: MixConfig = field(default_factory=MixConfig)
    """Mixup and CutMix."""
    distill: DistillConfig = field(default_factory=DistillConfig)
    """Knowledge distillation."""
    label_smoothing: Decay = 0.1
    """Share of the target spread over all classes."""
    metrics: list[str | dict[str, Any]] = field(default_factory=list)
    """Further metrics of torchmetrics, by class path or as class_path, init_args and name, by which it is logged."""
    class_weights: ClassWeights | None = None
    """Weights of the classes in the loss: balanced (by 1 / images), effective (by the effective number of images, beta
    0.9999), a number for each class in their order, or {name: number}, where a class that isn't named has 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.distill.teacher is not None and self.distill.dual:
            object.__setattr__(self, "design", replace(self.design, distilled=True))

    def _contradictions(self) -> Iterator[str]:
        distill, distilled = self.distill, self.design.distilled
        if isinstance(self.class_names, list) and len(self.class_names) < 2:
            yield f"model.class_names {self.class_names}: classification needs two classes or more."
        if distill.teacher is not None and distill.alpha == 1 and self.class_weights is not None:
            yield (
                "model.class_weights: they weigh the labels' part of the loss, and model.distill.alpha 1 leaves none. "
                "Leave them out, or set --model.distill.alpha 0.5."
            )
        yield from self._weight_mistakes()
        if distill.objective == "feature" and self.compile:
            yield (
                "model.compile true: the objective feature reads the student's features, which are not compiled. Leave "
                "it out, or set --model.distill.objective soft."
            )
        if distill.teacher is not None and distill.dual and distilled is False:
            yield (
                "model.design.distilled false: model.distill.heads dual needs the second classifier. Leave it out, or "
                "set --model.distill.heads single."
            )
        if distill.teacher is not None and not distill.dual and distilled:
            yield (
                "model.design.distilled true: the second classifier would learn nothing with model.distill.heads "
                "single or the objective feature. Leave it out."
            )

    def _weight_mistakes(self) -> Iterator[str]:
        weights = self.class_weights
        if weights is None or weights in COUNTED_WEIGHTS:
            return
        if not isinstance(weights, list | dict):
            ways = f"{', '.join(COUNTED_WEIGHTS)}, a list of numbers and {{name: number}}"
            yield f"model.class_weights {weights!r}: allowed are {ways}."
            return
        values = list(weights.values() if isinstance(weights, dict) else weights)
        wrong = [value for value in values if not (isfinite(value) and value >= 0)]
        if wrong or (isinstance(weights, list) and not any(values)):  # classes that aren't named have 1
            shown = f"{wrong[0]:g}" if wrong else f"of {len(values)} classes, all 0"
            yield f"model.class_weights {shown}: allowed are numbers from 0, of which one is above 0."

    def check_sampling(self, data: Any) -> None:
        """Raise `UserError` where the weights need counts that a stream lacks, or the sampler equalizes already."""
        asked = f"model.class_weights {self.class_weights}"
        if self.class_weights not in COUNTED_WEIGHTS:
            return
        if data.streaming:
            raise UserError(f"{asked}: the images of a stream's classes aren't known. Give numbers, or leave it out.")
        if data.sampler != "random":
            raise UserError(
                f"{asked}: data.sampler {data.sampler} draws all classes equally often already, and both would correct "
                "twice. Leave out one of the two."
            )

    def check_image_size(self, side: int | Literal["auto"]) -> None:
        """Raise `UserError` for mistakes in the design, or when images of this side in pixels are too small for it."""
        with error_prefix("model.design."):
            design = self.design.resolved
        with error_prefix("data."):
            design.check_image_size(design.image_size if side == "auto" else side)


@dataclass(frozen=True)
class DetectionConfig(TrainingConfig):
    """Model and training recipe."""

    optim: DetectionOptimConfig = field(default_factory=DetectionOptimConfig)
    freeze_bn: bool | Literal["auto"] = "auto"
    detector: DetectorConfig = field(default_factory=DetectorConfig)
    """The detector on the network."""

    def _contradictions(self) -> Iterator[str]:
        if self.design.distilled:
            yield "model.design.distilled true: a detector has no classifier of images; leave it out."
