"""Published weights on somebody's ImageNet: the comparison that is printed."""

import pytest
import torch

from shvit_pl.callbacks.inference import PublishedAccuracy, comparison
from shvit_pl.designs.published import TIMM_TOP1


class Data:
    """As much of ImageNet's validation as the callback asks for."""

    def __init__(self, classes, images):
        self.class_names = ["name"] * classes
        self.images = images

    def rows(self, stage):
        return {"validate": self.images}[stage]


class Ran:
    """A trainer that has validated."""

    def __init__(self, acc1, data, limit=1.0):
        self.limit_val_batches = limit
        self.callback_metrics, self.datamodule = {"val/acc1": torch.tensor(acc1)}, data


@pytest.mark.parametrize(
    ("source", "classes", "images", "said"),
    [
        ("timm/shvit_s1.in1k", 1000, 50_000, ["72.78 %", "as published"]),
        ("hf-hub:timm/shvit_s1.in1k", 1000, 50_000, ["72.78 %", "as published"]),
        ("timm/shvit_s1.in1k", 10, 50_000, []),
        ("timm/shvit_s1.in1k", 1000, 100, []),
        ("user/name", 1000, 50_000, []),
    ],
)
def test_it_compares_on_imagenet_alone(source, classes, images, said, capsys):
    PublishedAccuracy(source).on_validation_end(Ran(0.7283, Data(classes, images)), None)
    printed = capsys.readouterr().out
    assert all(part in printed for part in said)
    assert bool(printed) == bool(said)


def test_a_part_of_imagenet_is_not_compared(capsys):
    PublishedAccuracy("timm/shvit_s1.in1k").on_validation_end(Ran(0.65, Data(1000, 50_000), limit=2), None)
    assert not capsys.readouterr().out


def test_what_is_expected_is_said_first(capsys):
    PublishedAccuracy("timm/shvit_s4.in1k").on_validation_start(None, None)
    assert "79.36 % top-1" in capsys.readouterr().out


def test_another_accuracy_is_said_to_be_another():
    assert "look at the images" in comparison(71.0, TIMM_TOP1["timm/shvit_s1.in1k"])
    assert "in order" in comparison(72.7, 72.78)
