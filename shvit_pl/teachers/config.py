"""The settings of a teacher and of how to learn from it (`model.distill.*`)."""

from dataclasses import dataclass, fields
from typing import Any, Literal

from shvit_pl.command_line.ranges import FromOne, Pixels, Probability, Temperature, Views, out_of_range
from shvit_pl.errors import refuse

Objective = Literal["hard", "soft", "soft_batchmean", "feature"]
Heads = Literal["dual", "single"]


@dataclass(frozen=True)
class DistillConfig:
    """Knowledge distillation, where a teacher is named; the defaults are the paper's (DeiT's recipe, paper Table 3)."""

    teacher: str | None = None
    """A timm model (regnety_160.deit_in1k), a shvit-pl checkpoint or run folder, or a Hub repo; null: none."""
    objective: Objective = "hard"
    """hard (the teacher's top class), soft (its distribution), soft_batchmean (soft, but timm's scale: as many times
    larger as there are classes) or feature (its pooled features)."""
    alpha: Probability = 0.5
    """Share of the distillation loss: (1 - alpha) of the labels' and alpha of the teacher's."""
    tau: Temperature = 1.0
    """Temperature of the soft objectives."""
    heads: Heads | None = None
    """dual (default, as in the paper): a second classifier learns from the teacher; single (default of feature): the
    only classifier does."""
    weights: str | None = None
    """File of the weights of a timm model, instead of those on the Hub."""
    use_ema: bool = False
    """Take the averaged weights of a shvit-pl checkpoint."""
    teacher_size: Pixels | None = None
    """Side of the teacher's input in pixels (default: what it was trained at)."""
    teacher_precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto is bf16 where the device computes in it, else fp32."""
    class_map: dict[str, Any] | str | None = None
    """For every class of the data the teacher's, by index or name; or a YAML or JSON file of that."""
    compile: bool = False
    """Compile the teacher with torch.compile."""
    check: bool = True
    """Measure the teacher on some validation images before the first step, and stop if it is no better than always
    predicting the most frequent class."""
    cache: str | None = None
    """Folder of the teacher's logits that `shvit-pl cache-teacher` has written; the teacher is then not run."""
    views: Views = 10
    """Augmented views of each image in the cache; epoch e trains on view e modulo views."""
    top_k: FromOne = 20
    """Logits per image in the cache; the rest of the probability is spread over the other classes."""

    def __post_init__(self) -> None:
        mistakes = list(out_of_range("model.distill", self))
        if self.teacher == "":
            mistakes.append("model.distill.teacher '': give a timm model, a checkpoint, a run folder or a Hub repo.")
        if self.cache == "":
            mistakes.append("model.distill.cache '': allowed is a folder.")
        changed = [each.name for each in fields(self) if getattr(self, each.name) != each.default]
        if self.teacher is None and changed and not mistakes:
            mistakes.append(
                f"model.distill.{changed[0]} {getattr(self, changed[0])!r}: there is no teacher. Name one with "
                "--model.distill.teacher, or leave this out."
            )
        if self.objective == "feature" and self.heads == "dual":
            mistakes.append("model.distill.heads dual: the objective feature has a single classifier; leave it out.")
        if self.cache is not None and self.objective == "feature":
            mistakes.append(
                f"model.distill.cache {self.cache!r}: contains logits, and the objective is feature. Leave the cache "
                "out, or set --model.distill.objective soft."
            )
        refuse(mistakes)

    @property
    def source(self) -> str:
        """The teacher, where there is one."""
        assert self.teacher is not None
        return self.teacher

    @property
    def dual(self) -> bool:
        """True for a second classifier."""
        return self.objective != "feature" and self.heads != "single"
