"""Weights of classes are those of their formulas, and weigh each class's share of a target in the loss."""

import pytest
import torch
from torch.nn import functional as F

from shvit_pl import DistillConfig
from shvit_pl.modules.class_weights import balance, class_weights
from shvit_pl.modules.config import ClassificationConfig, MixConfig
from tests.modules.conftest import batch_of, student_of
from tests.modules.test_classification import module_of
from tests.refusals import refused

NAMES, COUNTS = ["cat", "dog", "eel"], [60, 30, 10]


@pytest.mark.parametrize(
    ("asked", "weights"),
    [
        ("balanced", [100 / 180, 100 / 90, 100 / 30]),  # n / (K n_k)
        ([1.0, 2.0, 4.0], [1 / 1.6, 2 / 1.6, 4 / 1.6]),  # their mean over the images is (60 + 60 + 40) / 100
        ({"eel": 5.0}, [1 / 1.4, 1 / 1.4, 5 / 1.4]),  # (60 + 30 + 50) / 100
        ({"eel": 0.0}, [1 / 0.9, 1 / 0.9, 0.0]),  # (60 + 30) / 100
    ],
)
def test_weights_have_the_mean_1_over_the_training_images(asked, weights):
    assert class_weights(asked, NAMES, COUNTS).tolist() == pytest.approx(weights, rel=1e-6)


def test_effective_weights_go_with_the_effective_number_of_images():
    # (1 - 0.9999) / (1 - 0.9999^n): for 100,000 images 1.0000454e-4, for 100 images 1.0049665e-2
    weights = class_weights("effective", ["many", "few"], [100_000, 100])
    assert float(weights[1] / weights[0]) == pytest.approx(1.0049665e-2 / 1.0000454e-4, rel=1e-5)
    assert float((weights * torch.tensor([100_000, 100])).sum() / 100_100) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("asked", "counts", "words"),
    [
        ([1.0, 2.0], COUNTS, "it has 2 numbers, and there are 3 classes (cat; dog; eel)"),
        ({"cow": 2.0}, COUNTS, "no class cow ... the 3 classes are cat; dog; eel"),
        ("balanced", [60, 0, 10], "1 of 3 classes have no training image (dog)"),
        ("effective", None, "can't be counted in this data"),
        ({"cat": 0.0, "dog": 0.0}, [1, 1, 0], "all classes with training images have the weight 0"),
    ],
)
def test_weights_of_other_classes_or_none_are_refused(asked, counts, words):
    with refused(words):
        class_weights(asked, NAMES, counts)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ([1.0, -1.0], "model.class_weights -1: allowed are numbers from 0"),
        ([0.0, 0.0], "model.class_weights of 2 classes, all 0: allowed are numbers from 0"),
        ([1.0, float("inf")], "model.class_weights inf: allowed"),
        ("equal", "model.class_weights 'equal': allowed are balanced, effective, a list"),
    ],
)
def test_values_that_are_no_weights_are_refused(asked, words):
    with refused(words):
        ClassificationConfig(class_weights=asked)


def test_by_name_a_class_may_be_left_out():
    assert ClassificationConfig(class_weights={"eel": 0.0}).class_weights == {"eel": 0.0}


def weighted(**settings):
    module = module_of(class_weights=[float(each) for each in range(1, 11)], **settings).eval()
    return module, torch.arange(1, 11) / 5.5  # of mean 1


def test_hard_labels_are_weighted_as_torch_does():
    module, weights = weighted(label_smoothing=0.0)
    batch = batch_of()
    loss = module.training_step(batch, 0)
    each = F.cross_entropy(module(batch["image"]), batch["label"], reduction="none")
    torch.testing.assert_close(loss, (weights[batch["label"]] * each).mean())


def test_shares_of_smoothed_and_mixed_labels_are_each_weighted():
    module, weights = weighted(label_smoothing=0.1)
    batch = batch_of()
    logs = module(batch["image"]).log_softmax(1)
    shares = 0.9 * F.one_hot(batch["label"], 10) + 0.01
    expected = -(weights * shares * logs).sum(1).mean()
    torch.testing.assert_close(module.training_step(batch, 0), expected)
    module, weights = weighted(mix=MixConfig(mixup=0.8))
    shares = torch.rand(8, 10).softmax(1)
    mixed = {"image": batch["image"], "label": batch["label"], "target": shares}
    expected = -(weights * shares * module(batch["image"]).log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(module.training_step(mixed, 0), expected)


def test_in_distillation_they_weigh_the_labels_part_alone(teacher):
    losses, batch = {}, batch_of()
    for weights in (None, [float(each) for each in range(1, 11)]):
        module, _ = student_of(DistillConfig(**teacher[1]), class_weights=weights)
        module.eval()
        logged = {}
        module.log_dict = lambda values, logged=logged, **options: logged.update(values)
        module.training_step(batch, 0)
        losses[weights is None] = logged
    torch.testing.assert_close(losses[True]["train/loss_distill"], losses[False]["train/loss_distill"])
    assert not torch.allclose(losses[True]["train/loss_task"], losses[False]["train/loss_task"])
    with refused("model.class_weights: they weigh the labels' part"):
        ClassificationConfig(class_weights="balanced", distill=DistillConfig("t", alpha=1.0))
    ClassificationConfig(class_weights="balanced", distill=DistillConfig("t", alpha=0.5))


@pytest.mark.parametrize(
    ("counts", "asked", "sampler", "words"),
    [
        ([60, 30, 0, 10], None, "random", "largest to smallest 6 : 1"),
        (
            [200, 10],
            None,
            "random",
            "largest to smallest 20 : 1; the small ones may be neglected: try --model.class_weights balanced, or "
            "--data.sampler balanced",
        ),
        ([200, 10], "balanced", "random", "largest to smallest 20 : 1; weighed in the loss (model.class_weights bal"),
        ([200, 10], None, "balanced", "largest to smallest 20 : 1; drawn equally often (data.sampler balanced)"),
    ],
)
def test_a_line_says_the_ratio_and_above_10_what_to_do(counts, asked, sampler, words):
    assert balance(counts, asked, sampler)["balance"].startswith(words)
    assert balance(None, asked, sampler) == {}
