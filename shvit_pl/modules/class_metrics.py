"""What accuracy hides: the classes one by one, what is confused with what, and how far confidence can be trusted."""

import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics.classification import (
    MulticlassAUROC,
    MulticlassCalibrationError,
    MulticlassConfusionMatrix,
    MulticlassStatScores,
)
from torchmetrics.utilities import dim_zero_cat

from shvit_pl.data.decoding import IGNORED
from shvit_pl.modules.reliability import BINS

NAMES = ("acc1_macro", "f1_macro", "precision_macro", "auroc", "ece")
_MOST_RANKED = 100  # classes up to which all probabilities are kept, which the area under the ROC curve needs
_MOST_CONFUSED = 2000  # classes up to which there is a confusion matrix (32 MB)
_MOST_CONFUSIONS = 10


def metric_names(classes: int) -> list[str]:
    """Return the names of the metrics for so many classes."""
    return [name for name in NAMES if name != "auroc" or classes <= _MOST_RANKED]


class ClassMetrics(nn.Module):
    """Metrics of an evaluation by class and by confidence; images of `IGNORED` labels don't count.

    With t_k the rightly classified images of class k, n_k its images and p_k those predicted as k: recall t_k / n_k,
    precision t_k / p_k (0 for a class that is never predicted, as in scikit-learn) and F1 2 t_k / (n_k + p_k). Their
    means (`..._macro`) are over the classes that have images; the mean recall, `acc1_macro`, is balanced accuracy.
    `auroc` is the mean of each class's area under the ROC curve against all others, up to 100 classes, and `ece` the
    expected calibration error by 15 bins of equal width (Guo et al. 2017, equation 3).
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        options: dict[str, Any] = {"ignore_index": IGNORED, "validate_args": False}
        self.counts = MulticlassStatScores(classes, average=None, **options)
        self.confusion = MulticlassConfusionMatrix(classes, **options) if classes <= _MOST_CONFUSED else None
        self.calibration = MulticlassCalibrationError(classes, n_bins=BINS, **options)
        self.ranking = MulticlassAUROC(classes, average=None, **options) if classes <= _MOST_RANKED else None

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Count logits `(B, classes)` and labels `(B,)`."""
        probabilities = logits.float().softmax(-1).nan_to_num()
        for metric in self._all():
            metric.update(probabilities, labels)

    def reset(self) -> None:
        """Begin anew."""
        for metric in self._all():
            metric.reset()

    def _all(self) -> list[Any]:
        return [each for each in (self.counts, self.confusion, self.calibration, self.ranking) if each is not None]

    def values(self) -> dict[str, float]:
        """Return the metrics by name, over all processes; not a number without images."""
        rows = self.of_classes()
        present = rows["images"] > 0
        means = {"acc1_macro": "recall", "f1_macro": "f1", "precision_macro": "precision", "auroc": "auroc"}
        found = {name: float(rows[row][present].mean()) for name, row in means.items() if row in rows}
        return {**found, "ece": float(self.calibration.compute()) if bool(present.any()) else float("nan")}

    def of_classes(self) -> dict[str, Tensor]:
        """Return `images`, `precision`, `recall`, `f1` and, up to 100 classes, `auroc` of each class `(classes,)`.

        Those of a class without images mean nothing; without images of others, its area is not a number.
        """
        right, false, _, _, images = self.counts.compute().double().cpu().unbind(1)
        predicted = right + false
        rows = {
            "images": images,
            "precision": right / predicted.clamp(min=1),
            "recall": right / images.clamp(min=1),
            "f1": 2 * right / (images + predicted).clamp(min=1),
        }
        if self.ranking is not None and images.sum() > 0:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # of classes without images, which are left out
                areas = self.ranking.compute().double().cpu()
            rows["auroc"] = areas.masked_fill(images == images.sum(), float("nan"))
        return rows

    def table(self, names: list[str]) -> list[dict[str, Any]]:
        """Return a row for each class: its name, images and figures, which are None where there are no images."""
        rows = self.of_classes()
        figures = {key: values for key, values in rows.items() if key != "images"}
        return [
            {
                "class": name,
                "images": int(rows["images"][index]),
                **{
                    key: None if not rows["images"][index] or values[index].isnan() else round(float(values[index]), 4)
                    for key, values in figures.items()
                },
            }
            for index, name in enumerate(names)
        ]

    def confusions(self, names: list[str]) -> list[dict[str, Any]]:
        """Return the ten commonest confusions: true and predicted class, images, and their share of the true class.

        None of more than 2,000 classes, whose matrix would take much memory.
        """
        if self.confusion is None:
            return []
        matrix = self.confusion.compute().cpu()
        wrong = matrix - matrix.diagonal().diag()
        counts, places = wrong.flatten().topk(min(_MOST_CONFUSIONS, wrong.numel()))
        pairs = [divmod(place, len(matrix)) for place in places.tolist()]
        return [
            {
                "true": names[true],
                "predicted": names[predicted],
                "images": count,
                "share": round(count / int(matrix[true].sum()), 4),
            }
            for count, (true, predicted) in zip(counts.tolist(), pairs, strict=True)
            if count > 0
        ]

    def reliability(self) -> dict[str, Tensor]:
        """Return `confidence`, `accuracy` and `images` of the 15 bins, each `(15,)`; a bin without images has zeros."""
        with self.calibration.sync_context():  # which holds what all processes have seen
            states: list[Any] = [self.calibration.confidences, self.calibration.accuracies]
            confidences, right = (dim_zero_cat(values).double().cpu() for values in states)
        bins = (confidences * BINS).long().clamp(max=BINS - 1)
        images = torch.bincount(bins, minlength=BINS).double()
        sums = [torch.bincount(bins, values, BINS) for values in (confidences, right)]
        confidence, accuracy = (values / images.clamp(min=1) for values in sums)
        return {"confidence": confidence, "accuracy": accuracy, "images": images}
