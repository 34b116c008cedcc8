"""The settings of a classification, in one place for flags, module and checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, Self

from shvit_pl.designs.config import DesignConfig
from shvit_pl.errors import UserError
from shvit_pl.modules.averaging import EmaConfig
from shvit_pl.modules.mix_config import MixConfig
from shvit_pl.modules.optim import OptimConfig
from shvit_pl.teachers.config import DistillConfig


@dataclass(frozen=True)
class ClassificationConfig:
    """The network, and how it learns."""

    design: DesignConfig = field(default_factory=DesignConfig)
    """Which SHViT."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    """Optimizer and schedule."""
    mix: MixConfig = field(default_factory=MixConfig)
    """Mixup and CutMix."""
    ema: EmaConfig = field(default_factory=EmaConfig)
    """Moving average of the weights."""
    distill: DistillConfig = field(default_factory=DistillConfig)
    """The teacher, and how to learn from it."""
    label_smoothing: float = 0.1
    """Share of the target spread over all classes."""
    freeze_bn: bool = False
    """Keep the running statistics of BatchNorm as they are; its weights and biases still learn."""
    grad_checkpointing: bool = False
    """Compute activations again in the backward pass instead of keeping them: less memory."""
    compile: bool = False
    """Compile the network with torch.compile."""
    channels_last: bool | Literal["auto"] = "auto"
    """Keep images and weights channels-last in memory; auto does on a CPU, and on a GPU in 16 bits."""
    init_from: str | None = None
    """Weights to start from: a Hub repo, a .safetensors, an official .pth, or a checkpoint of ours."""
    use_ema: bool = False
    """Take the averaged weights of init_from, and predict with those of the checkpoint."""
    class_names: list[str] | None = None
    """Class names, index by index; taken from the data by default."""

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 1:
            raise UserError(f"model.label_smoothing {self.label_smoothing}: allowed is from 0 to below 1.")
        if self.distill.objective == "feature" and self.compile:
            raise UserError(
                "model.compile true: with the objective feature the student is asked for its features, which is not "
                "compiled. Leave it out, or set --model.distill.objective soft."
            )
        if self.distill.teacher is not None:
            object.__setattr__(self, "design", _with_heads(self.design, self.distill))

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> Self:
        """Make a config of settings whose sections may be plain dicts, as a checkpoint holds them."""
        sections: dict[str, Any] = {each.name: each.default_factory for each in fields(cls)}
        values = {
            name: sections[name](**value) if name in sections and isinstance(value, Mapping) else value
            for name, value in settings.items()
        }
        return cls(**values)


def _with_heads(design: DesignConfig, distill: DistillConfig) -> DesignConfig:
    """Return the design with as many classifiers as the distillation asks for."""
    if distill.dual:
        if design.distilled is False:
            raise UserError(
                "model.design.distilled false: model.distill.heads dual needs the second classifier. Leave it out, or "
                "set --model.distill.heads single."
            )
        return replace(design, distilled=True)
    if design.distilled:
        raise UserError(
            "model.design.distilled true: nothing would teach the second classifier with model.distill.heads single "
            "or the objective feature. Leave it out."
        )
    return design
