"""Losses and metrics of many labels against values by hand: average precision, thresholds, F1, BCE, asymmetric loss."""

from math import exp, log
from types import SimpleNamespace

import pytest
import torch
from torch import tensor
from torch.nn.functional import one_hot

from shvit_pl.modules.classification import ClassificationModule, make_mixup
from shvit_pl.modules.config import MixConfig
from shvit_pl.modules.distillation import soft_by_class, soft_by_class_batchmean
from shvit_pl.modules.many_labels import LabelMetrics, best_thresholds, by_class, make_loss
from shvit_pl.teachers.teacher import check_teacher_of_sets
from tests.refusals import refused

# four images; the third class is in none of them
SCORES = tensor([[0.9, 0.2, 0.3], [0.8, 0.7, 0.6], [0.6, 0.4, 0.1], [0.3, 0.1, 0.2]], dtype=torch.float64)
TRUTH = tensor([[1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 0]], dtype=torch.bool)
CLASSES = {"design": {"name": "tiny"}, "class_names": ["a", "b", "c"], "many_labels": True}


def test_average_precision_is_the_mean_of_the_precision_at_each_hit():
    found = by_class(SCORES, TRUTH, [0.5, 0.5, 0.5])
    # a is ranked 1, 0, 1, 0: precision 1/1 and 2/3 at its hits; b: images 2 and 3 first
    assert found["ap"].tolist()[:2] == pytest.approx([(1 + 2 / 3) / 2, 1.0])
    assert found["ap"][2].isnan()
    assert found["images"].tolist() == [2, 2, 0]
    # at 0.5, a is predicted for three images, of which two have it; b for the second alone
    assert found["precision"].tolist()[:2] == pytest.approx([2 / 3, 1])
    assert found["recall"].tolist()[:2] == pytest.approx([1, 1 / 2])
    assert found["f1"].tolist()[:2] == pytest.approx([2 * 2 / (2 + 3), 2 * 1 / (2 + 1)])


def test_thresholds_lie_in_the_middle_below_the_cut_of_the_best_f1():
    # a: F1 of the first one, two, three images 2/3, 1/2, 4/5; b: 2/3, 1 (0.7 and 0.4); c has no image
    assert best_thresholds(SCORES, TRUTH).tolist() == pytest.approx([(0.6 + 0.3) / 2, (0.4 + 0.2) / 2, 0.5])
    tied = tensor([[0.8], [0.8], [0.4]], dtype=torch.float64)  # the two at 0.8 are taken together
    assert best_thresholds(tied, tensor([[True], [False], [True]])).tolist() == [0.2]  # all: 4/5; both at 0.8: 1/2
    equal = tensor([[0.9], [0.7], [0.5], [0.3]], dtype=torch.float64)  # F1 2/3 by one, or by all four
    assert best_thresholds(equal, tensor([[True], [False], [False], [True]])).tolist() == [0.8]


def test_means_leave_out_absent_classes_and_images_that_do_not_count():
    metrics = LabelMetrics(3)
    metrics.update(SCORES[:2].logit(), TRUTH[:2].float())
    metrics.update(SCORES[2:].logit(), TRUTH[2:].float())
    metrics.update(torch.full((1, 3), 9.0), torch.full((1, 3), -1.0))  # padding
    metrics.measure(finds=True)
    values = metrics.values()
    assert metrics.thresholds == pytest.approx([0.45, 0.3, 0.5], abs=1e-6)
    assert values["map"] == pytest.approx(((1 + 2 / 3) / 2 + 1) / 2)
    assert values["f1_macro"] == pytest.approx((4 / 5 + 1) / 2)
    assert values["f1_micro"] == pytest.approx(2 * (2 + 2) / (2 + 2 + 3 + 2))  # c's wrong prediction doesn't count
    shown = TRUTH.double() * SCORES + (~TRUTH) * (1 - SCORES)
    assert values["loss"] == pytest.approx(-sum(log(each) for each in shown.flatten().tolist()) / 12, rel=1e-5)
    first, *_, last = metrics.table(["a", "b", "c"])
    assert first == {
        "class": "a", "images": 2, "threshold": 0.45, "ap": 0.8333, "precision": 0.6667, "recall": 1.0, "f1": 0.8,
    }  # fmt: skip
    assert (last["images"], last["ap"], last["f1"]) == (0, None, None)
    metrics.reset()
    metrics.update(SCORES[:2].logit(), TRUTH[:2].float())
    metrics.measure(finds=False)  # by the thresholds from before: a for both images, b for the second
    assert metrics.thresholds == pytest.approx([0.45, 0.3, 0.5], abs=1e-6)
    assert metrics.values()["f1_macro"] == pytest.approx((2 / 3 + 1) / 2)


LOGITS, TARGETS = tensor([[2.0, -1.0]]), tensor([[1.0, 0.0]])


def sigmoid(x):
    return 1 / (1 + exp(-x))


def test_bce_is_the_mean_over_classes_of_smoothed_targets():
    p, q = sigmoid(2), sigmoid(-1)
    assert make_loss("bce", 0.0)(LOGITS, TARGETS).item() == pytest.approx(-(log(p) + log(1 - q)) / 2, rel=1e-6)
    # smoothing 0.2: targets 0.9 and 0.1
    smooth = -(0.9 * log(p) + 0.1 * log(1 - p) + 0.1 * log(q) + 0.9 * log(1 - q)) / 2
    assert make_loss("auto", 0.2)(LOGITS, TARGETS).item() == pytest.approx(smooth, rel=1e-6)


def test_the_asymmetric_loss_is_that_of_the_paper():
    # equations 5 to 7: (1 - p)^1 log p for a positive, and with p_m = max(p - 0.05, 0): p_m^4 log(1 - p_m)
    p, q = sigmoid(2), sigmoid(-1) - 0.05
    expected = -((1 - p) * log(p) + q**4 * log(1 - q)) / 2
    assert make_loss("asymmetric", 0.0)(LOGITS, TARGETS).item() == pytest.approx(expected, rel=1e-5)
    easy = make_loss("asymmetric", 0.0)(tensor([[-3.0, -3.0]]), tensor([[0.0, 0.0]]))
    assert sigmoid(-3) < 0.05
    assert easy.item() == pytest.approx(0, abs=1e-9)  # below the margin


def test_bce_of_single_labels_smooths_over_all_classes():
    module = ClassificationModule(design={"name": "tiny"}, class_names=["a", "b"], loss="bce", label_smoothing=0.2)
    p, q = sigmoid(2), sigmoid(-1)  # targets 0.9 and 0.1
    expected = -(0.9 * log(p) + 0.1 * log(1 - p) + 0.1 * log(q) + 0.9 * log(1 - q)) / 2
    assert module.loss_of_labels(LOGITS, tensor([0])).item() == pytest.approx(expected, rel=1e-6)


def test_soft_targets_of_a_teacher_are_compared_class_by_class():
    teacher = tensor([[0.0, 1.0]])
    student = tensor([[2.0, -1.0]])

    def divergence(p, q):
        return p * log(p / q) + (1 - p) * log((1 - p) / (1 - q))

    plain = [divergence(sigmoid(t), sigmoid(s)) for t, s in ((0, 2), (1, -1))]
    assert soft_by_class(student, teacher).item() == pytest.approx(sum(plain) / 2, rel=1e-5)
    assert soft_by_class_batchmean(student, teacher).item() == pytest.approx(sum(plain), rel=1e-5)
    warm = [4 * divergence(sigmoid(t / 2), sigmoid(s / 2)) for t, s in ((0, 2), (1, -1))]
    assert soft_by_class(student, teacher, 2.0).item() == pytest.approx(sum(warm) / 2, rel=1e-5)
    assert soft_by_class(teacher, teacher).item() == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize("mode", ["batch", "pair", "elem"])
def test_mixing_mixes_the_shares_of_labels_as_the_images(mode):
    images = torch.zeros(2, 3, 8, 8)
    images[1] = 1.0
    labels = tensor([[1.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
    mixup = make_mixup(MixConfig(mixup=1.0, mode=mode), 3, 0.2, many=True)
    mixed, targets = mixup(images.clone(), labels)
    for image, target in zip(mixed, targets, strict=True):
        share = image.mean().item()  # of the second image
        smooth = labels * 0.8 + 0.1
        torch.testing.assert_close(target, (1 - share) * smooth[0] + share * smooth[1], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"loss": "cross_entropy"}, "model.loss cross_entropy: ... Give bce or asymmetric"),
        ({"metrics": ["MulticlassAccuracy"]}, "model.metrics: they are of images with one label"),
    ],
)
def test_settings_of_single_labels_are_refused(settings, words):
    with refused(words):
        ClassificationModule(**CLASSES, **settings)
    assert ClassificationModule(**CLASSES, loss="asymmetric").many_labels


def test_the_asymmetric_loss_of_single_labels_is_refused():
    with refused("model.loss asymmetric: it is for any number of labels"):
        ClassificationModule(design={"name": "tiny"}, class_names=["a", "b"], loss="asymmetric")


def test_batches_of_a_users_own_have_0_and_1_by_class():
    module = ClassificationModule(**CLASSES)
    images = torch.zeros(2, 3, 64, 64)
    batch = module.training_batch((images, tensor([[1, 0, 1], [0, 0, 0]])))
    assert batch["target"].tolist() == [[1, 0, 1], [0, 0, 0]]
    with refused("of many labels, those of an image are 0 or 1 for each class, (2, 3); found torch.int64 of shape [2]"):
        module.training_batch((images, tensor([0, 1])))
    with refused("there is the label 2; of many labels, each is 0 or 1 by class"):
        module.training_batch((images, 2 * one_hot(tensor([0, 1]), 3)))


def test_a_teacher_is_measured_against_its_own_answers_dealt_to_other_images():
    labels = (torch.rand(60, 3, generator=torch.Generator().manual_seed(0)) < 0.4).float()
    batch = {"image": labels.clone(), "label": labels}
    knows = SimpleNamespace(source="t", device="cpu", logits=lambda images: 4 * images - 2)
    check = check_teacher_of_sets(knows, [batch, {"image": -labels[:2], "label": torch.full((2, 3), -1.0)}])
    assert (check.map, check.images) == (1.0, 60)
    assert 0.3 < check.dealt < 0.7
    assert "mean average precision 1.0000 on 60 validation images" in str(check)
    blind = SimpleNamespace(source="t", device="cpu", logits=torch.zeros_like)
    with refused("model.distill.teacher 't': mean average precision ... so it is no better than guessing"):
        check_teacher_of_sets(blind, [batch])
