"""Published weights on somebody's ImageNet: the comparison that is printed."""

from types import SimpleNamespace

import pytest
import torch

from shvit_pl.callbacks.inference import PublishedAccuracy


def ran(acc1, classes, images, limit):
    """As much of a trainer that has validated as the callback asks for."""
    data = SimpleNamespace(class_names=["name"] * classes, rows={"validate": images}.get)
    metrics = {"val/acc1": torch.tensor(acc1)}
    return SimpleNamespace(limit_val_batches=limit, callback_metrics=metrics, datamodule=data)


@pytest.mark.parametrize(
    ("source", "acc1", "classes", "images", "limit", "said"),
    [
        ("timm/shvit_s1.in1k", 0.7283, 1000, 50_000, 1.0, "measured: 0.7283, published: 0.7278; "),
        ("hf-hub:timm/shvit_s1.in1k", 0.7283, 1000, 50_000, 1.0, "this copy of ImageNet is correct"),
        ("timm:shvit_s1", 0.71, 1000, 50_000, 1.0, "check the images"),
        ("timm/shvit_s1.in1k", 0.7283, 1000, 50_000, 2, None),  # a part of the images
        ("timm/shvit_s1.in1k", 0.7283, 1000, 100, 1.0, None),
        ("timm/shvit_s1.in1k", 0.7283, 10, 50_000, 1.0, None),
        ("user/name", 0.7283, 1000, 50_000, 1.0, None),
    ],
)
def test_it_compares_on_all_of_imagenet_alone(source, acc1, classes, images, limit, said, capsys):
    PublishedAccuracy(source).on_validation_end(ran(acc1, classes, images, limit), None)
    printed = capsys.readouterr().out
    assert said in printed if said else not printed


def test_what_is_expected_is_printed_first(capsys):
    PublishedAccuracy("timm/shvit_s4.in1k").on_validation_start(None, None)
    assert "top-1 0.7936 on ImageNet-1k's 50000 images" in capsys.readouterr().out
