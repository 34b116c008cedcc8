"""In what a study of a network differs from the paper's of the same network."""

from __future__ import annotations

from shvit_pl.analysis.heads.found.sums import Found
from shvit_pl.analysis.heads.subject import Subject
from shvit_pl.designs.published import IMAGENET_SIZE

_PIXELS = 224
_WEIGHTS = (  # trained by the authors of DeiT and Swin
    "timm:deit_tiny_patch16_224",
    "timm:deit_tiny_patch16_224.fb_in1k",
    "timm:swin_tiny_patch4_window7_224",
    "timm:swin_tiny_patch4_window7_224.ms_in1k",
)


def reservations(subject: Subject, found: Found) -> list[str]:
    """What is not as in the paper, each in a few words.

    Args:
        subject: What was studied, a network that the paper has.
        found: What was found.
    """
    opened, images = subject.opened, subject.images
    is_imagenet = (len(images.class_names), images.rows) == IMAGENET_SIZE
    few = is_imagenet and found.images < IMAGENET_SIZE[1]
    every = (
        ("the weights are fresh, not trained", opened.fresh),
        ("the weights are not those of the authors", not opened.fresh and opened.name not in _WEIGHTS),
        (f"the images are those of {subject.data}, not ImageNet's", not is_imagenet),
        (f"they have {subject.image_size} px, not {_PIXELS}", subject.image_size != _PIXELS),
        (f"heads were left out on {found.images} images, not {IMAGENET_SIZE[1]}", few),
        ("the agreement with the intact network is measured, not top-1", subject.reference.labels == "network"),
    )
    return [text for text, differs in every if differs]
