"""Object detection and instance segmentation with a SHViT, and their metrics."""

from dataclasses import asdict
from typing import Any

from torch import Tensor

from shvit_pl.data.objects import rendering
from shvit_pl.data.objects.checks import NO_MASKS
from shvit_pl.data.transforms import Batch
from shvit_pl.designs.cost import Cost
from shvit_pl.designs.detector import MASKS, detector_cost
from shvit_pl.designs.paper_results import detector_row
from shvit_pl.display import counted
from shvit_pl.errors import UserError
from shvit_pl.models import weights
from shvit_pl.models.detection.anchors import best_possible_recall
from shvit_pl.models.detection.detectors import build_detector, ids_and_scores
from shvit_pl.models.detection.starting import load_detector
from shvit_pl.modules import base
from shvit_pl.modules.average_precision import AveragePrecision, Results
from shvit_pl.modules.config import DetectionConfig
from shvit_pl.runs.folder import EMA

_LEAST, _GOOD = 2, 8  # images of a batch, for BatchNorm
_LOGGED = ("map", "map_50", "map_75", "map_small", "map_medium", "map_large", "mar_100")


class DetectionModule(base.TrainedModule):
    """RetinaNet or Mask R-CNN on a SHViT, with losses, metrics and optimizer; made of a `DetectionConfig`.

    Logged: `train/loss` and its parts of a batch, `train/loss_epoch` (the epoch's mean), `train/lr`, and under `val/`
    and `test/` COCO's `map`, `map_50`, `map_75`, `map_small`, `map_medium`, `map_large` and `mar_100` (fractions), for
    masks too behind `mask_`, and with `_ema` behind their names for the averaged weights.
    """

    task = "detection"
    settings_type = DetectionConfig
    headline = "val/map"
    config: DetectionConfig
    category_ids: list[int] | None = None
    """The dataset's own number of each class."""
    best_scores: dict[str, float | None]
    """The score of the best F1 in the last validation, by `val` and `val_ema`."""
    images_per_device = 0
    precision: dict[str, AveragePrecision]
    results: dict[str, Results]
    """Of the last evaluation, by `val`, `test`, and `val_ema`, `test_ema`."""

    @property
    def has_masks(self) -> bool:
        """Whether the detector finds masks."""
        return self.config.detector.name in MASKS

    def use_data(self, data: Any, stage: str) -> None:
        """Check that this model fits to data after its `setup`, and take the classes; raises `UserError` else."""
        super().use_data(data, stage)
        if self.has_masks and stage != "predict" and not data.chosen.has_masks:
            why = next((note for note in data.chosen.notes if note.startswith(NO_MASKS)), "boxes only")
            raise UserError(
                f"data.path {data.config.path!r}: {why}, and model.detector.name {self.config.detector.name} "
                "learns masks. Give --model.detector.name retinanet, or name the field of the masks by --data.mask_key."
            )
        if self.config.compile and data.config.scales and stage == "fit":
            raise UserError(
                f"model.compile true: with data.scales {data.config.scales}, each size would be compiled anew. Leave "
                "one of both out."
            )
        data.with_masks = self.has_masks
        if stage == "fit":
            self.images_per_device = data.config.batch_size
            self._check_batch(self.images_per_device)
        if stage == "fit" or self.category_ids is None:
            self.category_ids = data.category_ids or list(range(len(self.class_names or ())))  # of images alone: none

    def _check_batch(self, images: int) -> None:
        """Raise `UserError` for a single image, of which BatchNorm would take its statistics."""
        starts = self.init_note or self.config.init_from
        frozen = self.config.freeze_bn is True or (self.config.freeze_bn == "auto" and starts)
        if images < _LEAST and not frozen:
            raise UserError(
                f"data.batch_size {images}: BatchNorm learns its statistics from {_LEAST} images or more. Give more, "
                "start from weights (--model.init_from), or keep the statistics as they are (--model.freeze_bn true)."
            )

    def structure(self, config: DetectionConfig) -> dict[str, Any]:
        """Return the settings on which the network's tensors and what they mean depend, by their flags."""
        names = ("name", "width", "convs", "norm", "anchor_ratios")
        detector = {name: getattr(config.detector, name) for name in names} | {"anchor_scale": config.detector.scale}
        return super().structure(config) | {f"model.detector.{name}": value for name, value in detector.items()}

    def build(self, classes: int) -> Any:
        """Make the detector for so many classes, and its metrics."""
        detector = build_detector(self.design, self.config.detector, classes)
        detector.backbone.net.set_grad_checkpointing(self.config.grad_checkpointing)
        endings = ("", EMA) if self.config.ema.decay > 0 else ("",)
        stages = [f"{stage}{ending}" for stage in ("val", "test") for ending in endings]
        self.precision = {stage: AveragePrecision(classes, self.has_masks) for stage in stages}
        self.results, self.best_scores = {}, {}
        return detector

    @property
    def best_score(self) -> float | None:
        """The score of the best F1 in the validation of the weights that are evaluated; None if unknown."""
        return self.best_scores.get(f"val{EMA}" if self.config.use_ema else "val")

    def findings(self) -> dict[str, Any]:
        """Return what the last evaluation has found beyond its metrics: AP by class, and the scores of the best F1."""
        names, found = self.class_names or [], dict[str, Any]()
        for stage, results in self.results.items():
            ending = EMA if stage.endswith(EMA) else ""
            for kind, values in (("class_ap", results.class_ap), ("mask_class_ap", results.mask_class_ap)):
                if values:
                    found[f"{kind}{ending}"] = dict(zip(names, values, strict=True))
            found[f"best_score{ending}"] = results.score
        return found

    def result_rows(self, findings: dict[str, Any]) -> dict[str, str]:
        """Return a row of a run's last table: the score above which detections are drawn."""
        score = findings.get("best_score")
        return {} if score is None else {"score": f"{score:.3f} has the best F1; predict --draw draws what is above it"}

    def compiled(self) -> Any:
        """Return the part that `compile` compiles: backbone and pyramid; what follows depends on the image."""
        return self.model.backbone

    def load(self, source: str) -> weights.LoadReport:
        """Load weights into detector or backbone; raises `UserError` when they are of another design."""
        return load_detector(self.model, source, averaged=self.config.use_ema)

    def take_weights(self) -> None:
        """Load the weights of `init_from` with the numbers of their classes, and the score of the best F1."""
        super().take_weights()
        ids, self.best_scores = ids_and_scores(str(self.config.init_from))
        self.category_ids = ids or self.category_ids

    def costs(self, data: Any) -> dict[str, Cost]:
        """Return parameters, and MACs for a square image of the data's shorter side, by part."""
        return detector_cost(self.design, self.config.detector, len(self.class_names or ()), data.side)

    def cost(self, data: Any) -> Cost:
        """Return parameters, and MACs for a square image of the data's shorter side."""
        return sum(self.costs(data).values(), Cost())

    def facts(self, data: Any) -> dict[str, Any]:
        """Return what is known of the network, for `summary.json`."""
        parts = {part: {"params": cost.params, "macs": cost.macs} for part, cost in self.costs(data).items()}
        paper = detector_row(self.design, self.config.detector)
        boxes, labels, sizes = data.sampled_objects()
        recall = best_possible_recall(self.config.detector, boxes, labels, sizes, self.class_names or [])
        return {
            **super().facts(data),
            "detector": vars(self.config.detector),
            "parts": parts,
            "anchor_recall": recall,
            "paper": paper and asdict(paper),
        }

    def table(self, facts: dict[str, Any]) -> dict[str, str]:
        """Return the rows of a run's table that are about the network, by what is known of the run."""
        design, detector = facts["design"], self.config.detector
        norm = ", GroupNorm" if detector.norm == "group" else ""
        costs = [
            f"{part} {cost['params'] / 1e6:.2f} M parameters, {cost['macs'] / 1e9:.2f} GMACs"
            for part, cost in facts["parts"].items()
        ]
        images = self.images_per_device
        few = ", which are few: better start from weights (--model.init_from)" if images < _GOOD else ""
        statistics = "kept as they are" if self.freezes_bn else f"learned from batches of {images} images{few}"
        paper = detector_row(self.design, detector)
        return {
            "design": f"{design['name']}: patch {design['patch_size']}, {self.design.stages} stages, "
            f"{', '.join(design['mixers'])}",
            "detector": f"{detector.name}: strides {' '.join(map(str, detector.levels))}, {detector.anchors} anchors "
            f"at each position, {detector.width} wide, {counted(detector.convs, 'convolution')}{norm}",
            "anchors": _anchors_row(facts["anchor_recall"]),
            "cost": f"{'; '.join(costs)}, at {facts['dataset']['image_size']} px square",
            "BatchNorm": f"statistics {statistics} (model.freeze_bn {str(self.config.freeze_bn).lower()})",
            **({"the paper": paper.line} if paper else {}),
        }

    def counted(self, batch: Batch) -> int:
        """Return the number of images of an evaluated batch that count."""
        return sum(batch["counted"])

    # ---- steps

    def forward(self, images: Tensor, sizes: list[tuple[int, int]]) -> Any:
        """Map normalized images `(B, 3, H, W)`, padded from their sizes, to what is found in each, in their pixels."""
        return self.model(self._prepared(images), sizes)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the sum of the detector's losses."""
        images, objects = batch["image"], batch["objects"]
        losses = self.model(self._prepared(images), batch["sizes"], objects)
        loss: Tensor = sum(losses.values())
        self._add_loss(loss, len(images))
        parts = {f"train/{_part(name)}": value.detach() for name, value in losses.items()}
        self.log_dict({"train/loss": loss, **parts, "train/lr": self._lr()}, batch_size=len(images))
        return loss

    def validation_metrics(self) -> list[str]:
        """Return the names of what a validation logs, where the data has such objects."""
        kinds = ("", "mask_") if self.has_masks else ("",)
        endings = ("", EMA) if self.config.ema.decay > 0 else ("",)
        return [f"val/{kind}{name}{ending}" for ending in endings for kind in kinds for name in _LOGGED]

    def reset_metrics(self) -> None:
        """Begin all metrics anew."""
        for metric in self.precision.values():
            metric.reset()

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Update the metrics under `val/`; returns what is `found` in the original images, and `found_ema`."""
        return self._evaluate(batch, "val")

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Update the metrics under `test/`; returns the same as a validation."""
        return self._evaluate(batch, "test")

    def on_validation_epoch_end(self) -> None:
        """Log the metrics."""
        self._log_results("val")

    def on_test_epoch_end(self) -> None:
        """Log the metrics."""
        self._log_results("test")

    def predict_step(self, batch: Batch, batch_idx: int) -> list[dict[str, Any]]:
        """Return what is found in the original images, without those that can't be decoded."""
        found = self._found(self.evaluated, batch)
        return [each for each, broken in zip(found, batch["broken"], strict=True) if not broken]

    def _evaluate(self, batch: Batch, stage: str) -> dict[str, Any]:
        outputs = {"found": self._found(self.model, batch)}
        if self.ema is not None:
            outputs[f"found{EMA}"] = self._found(self.ema, batch)
        counted = [index for index, counts in enumerate(batch["counted"]) if counts]
        truth = [batch["truth"][index] for index in counted]
        for name, found in outputs.items():
            metric = self.precision[f"{stage}{name.removeprefix('found')}"]
            metric.update([found[index] for index in counted], truth)
        return outputs

    def _log_results(self, stage: str) -> None:
        for name, metric in self.precision.items():
            if name.removesuffix(EMA) == stage:
                self.results[name] = results = metric.compute()
                if stage == "val":
                    self.best_scores[name] = results.score
                ending = EMA if name.endswith(EMA) else ""
                values = {f"{stage}/{key}{ending}": value for key, value in results.metrics.items()}
                self.log_dict(values, sync_dist=True)  # all processes have the same, but Lightning would warn

    def _found(self, network: Any, batch: Batch) -> list[dict[str, Any]]:
        """Return what a network finds, in pixels of the original images."""
        found = network(self._prepared(batch["image"]), batch["sizes"])
        return [rendering.in_original(*each) for each in zip(found, batch["sizes"], batch["size"], strict=True)]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the dataset's own numbers of the classes, and the scores of the best F1."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["category_ids"], checkpoint["best_scores"] = self.category_ids, self.best_scores

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the dataset's own numbers of the classes, and the scores of the best F1."""
        super().on_load_checkpoint(checkpoint)
        self.category_ids = checkpoint.get("category_ids") or self.category_ids
        self.best_scores = checkpoint.get("best_scores", {})


def _anchors_row(recall: dict[str, Any]) -> str:
    """Return how many objects have an anchor that they can be matched with, and what would have more."""
    least = min(recall["by_class"], key=recall["by_class"].get)
    fewest = f"{recall['by_class'][least]:.1%} of {least}"
    row = f"{recall['all']:.1%} of the training objects overlap one by an IoU of 0.5 or more (fewest: {fewest})"
    if "better_scale" in recall:
        row += f"; {recall['better']:.1%} with --model.detector.anchor_scale {recall['better_scale']:g}"
    return row


def _part(name: str) -> str:
    """Return one form of torchvision's names of losses: `classification` and `loss_mask` become `loss_...`."""
    return f"loss_{name.removeprefix('loss_')}"
