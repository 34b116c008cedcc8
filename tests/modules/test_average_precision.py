"""Average precision equals pycocotools', in one process and in two."""

import json

import numpy as np
import pytest
import torch
from torch import distributed, multiprocessing

from shvit_pl.command_line import parser
from shvit_pl.errors import UserError
from shvit_pl.modules.average_precision import AveragePrecision, Results, best_score
from tests.modules.detections import NAMES, annotations, by_pycocotools, coco_truth, hard_set

CLASSES = len(NAMES)


def measured(found, truth, masks=True, classes=CLASSES):
    metric = AveragePrecision(classes, masks)
    metric.update(found, truth)
    return metric.compute()


def rows(found, truth):
    return [
        row
        for each, image in zip(found, truth, strict=True)
        for row in annotations(each, json.loads(image["image_id"]), score=each["scores"])
    ]


@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_all_metrics_equal_those_of_pycocotools(masks, seed):
    found, truth = hard_set(seed=seed, masks=masks)
    results, data = measured(found, truth, masks), coco_truth(truth)
    assert set(results.metrics) >= {"map", "map_50", "map_75", "map_small", "map_medium", "map_large", "mar_100"}
    compared = 0
    for kind, prefix, class_ap in (("bbox", "", results.class_ap), ("segm", "mask_", results.mask_class_ap)):
        if kind == "segm" and not masks:
            assert class_ap == []
            continue
        stats, expected = by_pycocotools(data, rows(found, truth), kind)
        for name, value in stats.items():
            assert results.metrics[prefix + name] == pytest.approx(value, abs=1e-6)
        compared += len(stats)
        assert [ap is None for ap in class_ap] == [ap is None for ap in expected] == [False] * 3 + [True] * 2
        assert class_ap[:3] == pytest.approx(expected[:3], abs=1e-6)
    assert len(results.metrics) == compared
    assert all(0 <= value <= 1 for value in results.metrics.values())
    assert results.objects[3:] == [0, 0]


def test_the_order_of_images_and_of_updates_does_not_matter():
    found, truth = hard_set()
    metric = AveragePrecision(CLASSES, masks=True)
    for index in np.random.default_rng(0).permutation(len(found)):
        metric.update([found[index]], [truth[index]])
    assert metric.compute() == measured(found, truth)
    metric.reset()
    metric.update(found[:4], truth[:4])
    assert metric.compute() == measured(found[:4], truth[:4])


def test_what_is_absent_has_no_name():
    box, label = torch.tensor([[10.0, 10, 20, 30]]), torch.tensor([1])
    size = {"size": (64, 64)}
    truth = {"boxes": box, "labels": label, "area": torch.tensor([200.0]), "iscrowd": torch.tensor([False])}
    found = {"boxes": box, "labels": label, "scores": torch.tensor([0.75])}
    empty = {"boxes": box[:0], "labels": label[:0], "scores": torch.tensor([])}
    results = measured([found], [{**truth, **size, "image_id": '"a"'}], masks=False, classes=3)
    assert results.metrics == dict.fromkeys(["map", "map_small", "map_50", "map_75", "mar_100"], 1.0)
    assert (results.class_ap, results.objects, results.score) == ([None, 1.0, None], [0, 1, 0], 0.75)
    assert results.precision == [1.0] * 101
    results = measured([empty], [{**truth, **size, "image_id": '"a"'}], masks=False, classes=3)
    assert set(results.metrics.values()) == {0.0}
    assert (results.class_ap, results.score) == ([None, 0.0, None], None)
    truth = {name: values[:0] for name, values in truth.items()}
    nothing = Results(class_ap=[None] * 3, objects=[0] * 3)
    assert measured([found], [{**truth, **size, "image_id": "1"}], masks=False, classes=3) == nothing
    assert measured([], [], masks=False, classes=3) == nothing


def test_the_score_of_the_best_f1_is_that_of_counting():
    """Of two classes, of which one has found all its objects long before the other."""
    draw = np.random.default_rng(3)
    classes, reached_by = [], np.zeros((101, 2))
    for index, objects in enumerate((50, 20)):
        scores = np.sort(draw.uniform(0.2, 0.9, 80))[::-1].round(3)
        right = draw.random(80) < scores
        right[np.cumsum(right) > objects] = False
        classes.append((scores, right, objects))
        place = np.searchsorted(np.cumsum(right) / objects, np.linspace(0, 1, 101) - 1e-12)
        reached_by[place < 80, index] = scores[place[place < 80]]

    def f1(least):
        counts = [
            (right[scores >= least].sum(), (scores >= least).sum() + objects) for scores, right, objects in classes
        ]
        return np.mean([2 * right / both for right, both in counts])

    best = best_score(reached_by, [scores for scores, *_ in classes], [50, 20])
    assert f1(best) == max(map(f1, np.arange(200, 901) / 1000))
    assert 0.4 < best < 0.7
    assert best_score(np.zeros((101, 2)), [[0.5], []], [50, 20]) is None


def measure_share(rank, shares, path):
    distributed.init_process_group("gloo", init_method=f"file://{path}/store", rank=rank, world_size=len(shares))
    metric = AveragePrecision(CLASSES, masks=True)
    found, truth = hard_set()
    metric.update([found[index] for index in shares[rank]], [truth[index] for index in shares[rank]])
    results = metric.compute()
    own = len(metric.images)
    torch.save((results, own), f"{path}/{rank}.pt")
    distributed.destroy_process_group()


@pytest.mark.parametrize("shares", [(range(0, 12, 2), range(1, 12, 2)), ([11, 3, 2, 1, 0, 4, 5, 6], [10, 9, 8, 7])])
def test_two_processes_equal_one_also_with_unequal_shares(shares, tmp_path):
    multiprocessing.start_processes(measure_share, (shares, tmp_path), nprocs=2, start_method="fork")
    whole = measured(*hard_set())
    for rank, share in enumerate(shares):
        assert torch.load(tmp_path / f"{rank}.pt", weights_only=False) == (whole, len(share))


def test_states_stay_on_the_cpu_when_the_metric_moves():
    metric = AveragePrecision(CLASSES)
    found, truth = hard_set(2)
    metric.update(found, truth)
    before = metric.compute()
    moved = metric.to("meta")
    assert moved.device.type == "meta"
    moved._computed = None
    assert moved.compute() == before


def test_the_missing_extra_is_named(monkeypatch):
    monkeypatch.setattr(parser, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs faster_coco_eval, of an extra: pip install 'shvit-pl\[detection\]'"):
        AveragePrecision(3)
