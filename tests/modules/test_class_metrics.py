"""Metrics by class and confidence are what one computes by hand, and what scikit-learn has."""

import pytest
import torch
from sklearn import metrics as sklearn

from shvit_pl.modules.class_metrics import ClassMetrics, metric_names
from tests.modules.test_classification import module_of

# true class, predicted class and its probability, of three classes; the third class has no image
SEEN = [(0, 0, 0.9), (0, 0, 0.7), (0, 0, 0.7), (0, 1, 0.6), (1, 1, 0.9), (1, 2, 0.5)]


def logits_of(predicted, probability, classes):
    rest = (1 - probability) / (classes - 1)
    return torch.full((classes,), rest).index_fill_(0, torch.tensor(predicted), probability).log()


def measured(seen=SEEN, classes=3):
    metrics = ClassMetrics(classes)
    logits = torch.stack([logits_of(predicted, probability, classes) for _, predicted, probability in seen])
    labels = torch.tensor([true for true, _, _ in seen])
    metrics.update(torch.cat([logits, logits[:1]]), torch.cat([labels, torch.tensor([-1])]))  # the last doesn't count
    return metrics


def test_classes_without_images_count_in_no_mean():
    values = measured().values()
    assert values["acc1_macro"] == pytest.approx((3 / 4 + 1 / 2) / 2)
    assert values["precision_macro"] == pytest.approx((3 / 3 + 1 / 2) / 2)
    assert values["f1_macro"] == pytest.approx((2 * 3 / (4 + 3) + 2 * 1 / (2 + 2)) / 2)
    rows = measured().table(["a", "b", "c"])
    assert rows[1] == {"class": "b", "images": 2, "precision": 0.5, "recall": 0.5, "f1": 0.5, "auroc": rows[1]["auroc"]}
    assert rows[2] == {"class": "c", "images": 0, "precision": None, "recall": None, "f1": None, "auroc": None}


def test_the_calibration_error_is_the_mean_gap_of_the_bins():
    # bins of 1/15: two of 0.9 (all right), two of 0.7 (all right), 0.6 (wrong), 0.5 (wrong)
    gaps = [(2, 0.1), (2, 0.3), (1, 0.6), (1, 0.5)]
    assert measured().values()["ece"] == pytest.approx(sum(count * gap for count, gap in gaps) / 6, abs=1e-6)
    bins = measured().reliability()
    assert bins["images"].tolist() == [0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 2, 0, 0, 2, 0]
    assert bins["accuracy"][[7, 9, 10, 13]].tolist() == [0, 0, 1, 1]
    assert bins["confidence"][[7, 9, 10, 13]].tolist() == pytest.approx([0.5, 0.6, 0.7, 0.9])


def test_the_commonest_confusions_are_named_with_their_share():
    assert measured([*SEEN, (0, 1, 0.8)]).confusions(["a", "b", "c"]) == [
        {"true": "a", "predicted": "b", "images": 2, "share": 0.4},
        {"true": "b", "predicted": "c", "images": 1, "share": 0.5},
    ]


@pytest.mark.parametrize("classes", [2, 5])
def test_all_are_scikit_learns(classes):
    generator = torch.Generator().manual_seed(classes)
    logits = torch.randn(200, classes, generator=generator)
    labels = torch.randint(classes, (200,), generator=generator)
    metrics = ClassMetrics(classes)
    for part in range(0, 200, 50):  # by batches
        metrics.update(logits[part : part + 50], labels[part : part + 50])
    values, predicted, probabilities = metrics.values(), logits.argmax(1), logits.double().softmax(1)
    assert values["acc1_macro"] == pytest.approx(sklearn.balanced_accuracy_score(labels, predicted), abs=1e-6)
    assert values["f1_macro"] == pytest.approx(sklearn.f1_score(labels, predicted, average="macro"), abs=1e-6)
    expected = sklearn.precision_score(labels, predicted, average="macro", zero_division=0)
    assert values["precision_macro"] == pytest.approx(expected, abs=1e-6)
    given = probabilities[:, 1] if classes == 2 else probabilities
    area = sklearn.roc_auc_score(labels, given, multi_class="ovr", average="macro")
    assert values["auroc"] == pytest.approx(area, abs=1e-6)


def test_many_classes_have_no_area_under_the_curve_and_no_images_no_metric():
    assert "auroc" not in metric_names(101)
    assert "auroc" in metric_names(100)
    many = ClassMetrics(101)
    many.update(torch.zeros(2, 101), torch.tensor([0, 1]))
    assert many.values().keys() == set(metric_names(101))
    most = ClassMetrics(2001)
    most.update(torch.eye(2001)[:3], torch.tensor([0, 1, 1]))
    assert (most.confusion, most.confusions([])) == (None, [])
    assert most.values()["acc1_macro"] == pytest.approx((1 + 1 / 2) / 2)
    empty = ClassMetrics(3)
    empty.update(torch.zeros(1, 3), torch.tensor([-1]))
    assert all(value != value for value in empty.values().values())


def test_a_class_alone_has_no_area_under_the_curve():
    metrics = measured([(0, 0, 0.9), (0, 1, 0.6)])
    assert metrics.values()["auroc"] != metrics.values()["auroc"]
    assert metrics.values()["acc1_macro"] == 0.5
    assert metrics.table(["a", "b", "c"])[0]["auroc"] is None


def _measure_a_part(rank, folder):
    torch.distributed.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)
    metrics = measured(SEEN[:2] if rank == 0 else SEEN[2:])
    torch.save((metrics.values(), metrics.reliability()), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_every_process_has_the_values_and_bins_of_all(tmp_path):
    torch.multiprocessing.spawn(_measure_a_part, (tmp_path,), nprocs=2)
    values, bins = measured().values(), measured().reliability()
    for rank in range(2):
        theirs, their_bins = torch.load(tmp_path / f"{rank}.pt")
        assert theirs == pytest.approx(values)
        assert all(torch.equal(their_bins[name], bins[name]) for name in bins)


def test_a_batch_without_labeled_images_leaves_a_users_metric_as_it_was():
    module = module_of(metrics=["MulticlassMatthewsCorrCoef"])
    labels = torch.arange(8) % 3
    module._measure("val", torch.nn.functional.one_hot(labels, 10).float(), labels)
    module._measure("val", torch.zeros(8, 10), torch.full((8,), -1))
    assert module.users_metrics["val"]["MulticlassMatthewsCorrCoef"].compute() == 1.0
