"""What top-1 is measured against: the dataset's labels, or what the intact network says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from shvit_pl.analysis.heads.request import Labels
from shvit_pl.deploy.images import RealImages
from shvit_pl.errors import UserError
from shvit_pl.models.open_network import OpenedNetwork, class_names
from shvit_pl.teachers.classes import KnownNames


@dataclass(frozen=True)
class Reference:
    """What a network's answers are compared with.

    Attributes:
        labels: The dataset's labels, or what the intact network says.
        why: Of the intact network, why.
    """

    labels: Labels
    why: str = ""

    @property
    def score(self) -> str:
        """What the share of matching answers is called."""
        return "top-1" if self.labels == "dataset" else "agreement with the intact network"

    @property
    def brief(self) -> str:
        """Likewise, in a word."""
        return self.score.partition(" with")[0]

    @property
    def sentence(self) -> str:
        """What is measured, and why."""
        if self.labels == "dataset":
            return "top-1 against the dataset's labels"
        return f"no accuracy, but the agreement with the intact network, as {self.why}"


def reference(opened: OpenedNetwork, images: RealImages, asked: Labels | None) -> Reference:
    """Choose what fits, or what was asked for.

    Raises:
        UserError: where labels were asked for that the network can't give.
    """
    why = _why_not(opened, images)
    if asked == "network":
        return Reference("network", "--labels network asks for it")
    if asked is None:
        return Reference("network", why) if why else Reference("dataset")
    ours, theirs = _classes(opened), len(images.class_names)
    if ours != theirs:
        raise UserError(
            f"--labels dataset: the network has {ours} classes and {images.path!r} has {theirs}. Give --data of its "
            "classes, or leave --labels out."
        )
    return Reference("dataset")


def _why_not(opened: OpenedNetwork, images: RealImages) -> str:
    """Why the dataset's labels are not the network's; empty where they are."""
    ours, theirs = _classes(opened), len(images.class_names)
    if opened.fresh:
        return "the weights are fresh"
    if ours != theirs:
        return f"the network has {ours} classes, and {images.path} has {theirs}"
    if opened.class_names is None:
        return "the names of the network's classes are not known"
    if not same_classes(opened.class_names, images.class_names):
        return f"the network's classes are not those of {images.path}"
    return ""


def _classes(opened: OpenedNetwork) -> int:
    classes: Any = opened.model.num_classes
    return int(classes)


def same_classes(ours: list[str], theirs: list[str]) -> bool:
    """Whether two lists name the same classes in the same order.

    ImageNet's may be ids in one and descriptions in the other; two of its classes share a description, so a few names
    may be ambiguous, but none may stand elsewhere.
    """
    if ours == theirs:
        return True
    names, descriptions = class_names({}, len(ours))
    known = KnownNames(ours, descriptions if names == ours else None)
    found = [known.find(name) for name in theirs]
    elsewhere = any(index not in (place, None) for place, index in enumerate(found))
    return not elsewhere and found.count(None) < len(found) / 10
