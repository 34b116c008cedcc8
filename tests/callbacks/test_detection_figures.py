"""Figures of a detector's run: what is drawn, when, and where it goes."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image

from shvit_pl.callbacks import detection_figures, drawing
from shvit_pl.callbacks.detection_figures import DetectionFigures, class_rows, draw_class_ap, draw_precision_recall
from shvit_pl.callbacks.summary import RunSummary
from shvit_pl.files import read_rows
from shvit_pl.modules.average_precision import AveragePrecision, Results
from tests.modules.detections import CATEGORIES, NAMES, SIZE, hard_set


def measured(found, truth):
    metric = AveragePrecision(len(NAMES), masks=True)
    metric.update(found, truth)
    return metric.compute()


@pytest.fixture
def run(tmp_path):
    """A trainer in a fit, whose monitor is of the averaged weights, and its module."""
    summary = RunSummary("fit", "val/map_ema", {})
    trainer = SimpleNamespace(
        callbacks=[summary],
        callback_metrics={"train/loss_epoch": torch.tensor(1.0), "val/map": torch.tensor(0.5)},
        current_epoch=0,
        datamodule=SimpleNamespace(mean=(0.5,) * 3, std=(0.25,) * 3),
        fit_loop=SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=SimpleNamespace(is_last_batch=True))),
        global_step=10,
        is_global_zero=True,
        loggers=[TensorBoardLogger(tmp_path, name="", version="run", default_hp_metric=False)],
        sanity_checking=False,
        state=SimpleNamespace(fn="fit"),
    )
    module = SimpleNamespace(class_names=NAMES, category_ids=CATEGORIES, results={})
    return trainer, module, summary


def validate(figures, trainer, module, found, truth, padding=()):
    figures.on_validation_start(trainer, module)
    for first in range(0, len(truth), 3):
        part = truth[first : first + 3]
        batch = {
            "image": torch.zeros(len(part), 3, 160, 192),
            "sizes": [(SIZE[0] // 2, SIZE[1] // 2)] * len(part),
            "truth": part,
            "counted": [index not in padding for index in range(first, first + len(part))],
        }
        averaged = found[first : first + 3]
        outputs = {"found": [drawing.above(each, 2.0) for each in averaged], "found_ema": averaged}
        figures.on_validation_batch_end(trainer, module, outputs, batch, 0)
    figures.on_validation_end(trainer, module)


def test_detections_are_of_the_monitored_weights_and_files_of_the_best_epoch(run, tmp_path, monkeypatch):
    (trainer, module, summary), (found, truth) = run, hard_set(12)
    drawn, logged = [], []
    draw = drawing.draw_objects
    monkeypatch.setattr(
        detection_figures,
        "draw_objects",
        lambda image, objects, *args: drawn.append(objects) or draw(image, objects, *args),
    )
    monkeypatch.setattr(
        trainer.loggers[0].experiment, "add_image", lambda name, image, step, **options: logged.append(name)
    )
    module.results = {"val": None, "val_ema": measured(found, truth)}
    score = module.results["val_ema"].score
    figures, folder = DetectionFigures(), tmp_path / "run" / "figures"
    summary.improved = False
    validate(figures, trainer, module, found, truth, padding=[0])
    assert logged == ["detections"]
    assert not folder.exists()
    assert drawn[::2] == truth[1:9]
    for shown, each in zip(drawn[1::2], found[1:9], strict=True):
        assert len(shown["labels"]) == len(shown["rles"]) == (each["scores"] >= score).sum()
    summary.improved = True
    validate(figures, trainer, module, found, truth)
    assert logged == ["detections", "detections", "class_ap", "precision_recall"]
    figures.on_fit_end(trainer, module)
    names = {"detections.png", "class_ap.png", "precision_recall.png", "class_ap.csv", "curves.png"}
    assert {path.name for path in folder.iterdir()} == names
    assert figures.curves == {"train/loss": [(1.0, 1.0)] * 2, "val/map": [(1.0, 0.5)] * 2}
    rows = read_rows(folder / "class_ap.csv")
    assert [row["class"] for row in rows] == NAMES
    assert [row["category_id"] for row in rows] == [str(number) for number in CATEGORIES]
    assert [(row["objects"], row["ap"], row["mask_ap"]) for row in rows[3:]] == [("0", "-", "-")] * 2
    assert float(rows[1]["ap"]) == pytest.approx(module.results["val_ema"].class_ap[1], abs=1e-4)


def test_nothing_is_drawn_outside_of_a_fit(run, tmp_path):
    (trainer, module, _), (found, truth) = run, hard_set(3)
    for change in ({"state": SimpleNamespace(fn="validate")}, {"sanity_checking": True}, {"loggers": []}):
        figures = DetectionFigures()
        validate(figures, SimpleNamespace(**{**vars(trainer), **change}), module, found, truth)
    assert not (tmp_path / "run" / "figures").exists()


def test_the_first_batch_is_drawn_once_with_boxes_and_masks(run, tmp_path):
    trainer, module, _ = run
    mask = torch.zeros(1, 64, 64, dtype=torch.uint8)
    mask[0, 8:24, 8:40] = 1
    objects = {"boxes": torch.tensor([[8.0, 8, 40, 24]]), "labels": torch.tensor([1]), "masks": mask}
    nothing = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long), "masks": mask[:0]}
    batch = {"image": torch.zeros(2, 3, 64, 64), "sizes": [(64, 64), (32, 64)], "objects": [objects, nothing]}
    figures = DetectionFigures()
    for _ in range(2):
        figures.on_train_batch_end(trainer, module, None, batch, 0)
    picture = np.asarray(Image.open(tmp_path / "run" / "figures" / "inputs.png"))
    colored = (picture.max(axis=2).astype(int) - picture.min(axis=2) > 20).any(axis=0)
    assert colored[:364].any()
    assert not colored[364:].any()


def test_boxes_are_scaled_from_the_size_that_they_are_in_and_the_highest_score_is_on_top():
    image = torch.full((3, 50, 100), 255, dtype=torch.uint8)
    found = {
        "boxes": torch.tensor([[200.0, 100, 600, 300], [200, 100, 600, 300]]),
        "labels": torch.tensor([2, 0]),
        "scores": torch.tensor([0.9, 0.4]),
    }
    picture = drawing.draw_objects(image, found, NAMES, size=(500, 1000), side=1000)
    assert picture.shape == (500, 1000, 3)
    assert tuple(picture[200, 200]) == tuple(picture[299, 400]) == drawing._rgb(2)
    assert tuple(picture[200, 198]) == (255, 255, 255)
    assert picture[-1].min() == 255


def test_a_class_without_objects_has_a_dash_and_many_classes_fit():
    results = Results({"map_50": 0.5}, [0.25, None], [], [4, 0], [0.5] * 101)
    assert class_rows(results, ["a", "b"], [7, 9])[1] == {"class": "b", "category_id": 9, "objects": 0, "ap": "-"}
    assert [text.get_text() for text in draw_class_ap(results, ["a", "b"]).axes[0].texts] == ["0.25", "-"]
    many = Results({}, [index / 100 for index in range(100)], [], [1] * 100)
    axes = draw_class_ap(many, [str(index) for index in range(100)]).axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == [str(index) for index in range(59, -1, -1)]
    assert axes.get_title() == "the 60 lowest of 100 classes with objects"
    assert len(draw_precision_recall(results).axes[0].lines) == 1
    assert len(draw_precision_recall(Results()).axes[0].lines) == 0
