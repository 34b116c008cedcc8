"""What is said where a study is not the paper's."""

import pytest
from torch import nn

from shvit_pl.analysis.heads.found.beside import reservations
from shvit_pl.analysis.heads.found.sums import Found
from shvit_pl.analysis.heads.reference import Reference
from shvit_pl.analysis.heads.subject import Subject
from shvit_pl.models.open_network import OpenedNetwork

DEIT = "timm:deit_tiny_patch16_224"


class Images:
    """A dataset as large as ImageNet's validation split, or not."""

    path = "imagenet"

    def __init__(self, rows=50_000, classes=1000):
        self.rows, self.class_names = rows, ["x"] * classes


def said(name=DEIT, fresh=False, images=None, pixels=224, labels="dataset", scored=50_000):
    opened = OpenedNetwork(name, nn.Identity(), "timm", 224, fresh=fresh)
    subject = Subject(opened, [], images or Images(), pixels, Reference(labels), [], [], 1, "cpu")
    return reservations(subject, Found(images=scored))


def test_the_papers_own_study_has_no_reservations():
    assert said() == []
    assert said(f"{DEIT}.fb_in1k") == []


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"fresh": True}, "the weights are fresh, not trained"),
        ({"name": "timm:vit_tiny_patch16_224"}, "the weights are not those of the authors"),
        ({"images": Images(360, 10)}, "the images are those of imagenet, not ImageNet's"),
        ({"pixels": 64}, "they have 64 px, not 224"),
        ({"scored": 1000}, "heads were left out on 1000 images, not 50000"),
        ({"labels": "network"}, "the agreement with the intact network is measured, not top-1"),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_each_difference_is_said(changes, told):
    assert said(**changes) == [told]
