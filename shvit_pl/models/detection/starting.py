"""First weights of a detector: those of a backbone, of a detector of ours, or of an official one."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from shvit_pl.errors import UserError
from shvit_pl.models.weights import LoadReport, load_state, misfits, read_weights, timm_key

_OF_CLASSES = (  # layers that depend on the number of classes
    "head.classification_head.cls_logits.",
    "roi_heads.box_predictor.",
    "roi_heads.mask_predictor.mask_fcn_logits.",
)


def load_detector(model: Any, source: str, averaged: bool = False) -> LoadReport:
    """Load weights into a detector: all of them, or of another network's the backbone.

    Args:
        model: A detector on the design that the weights were trained with.
        source: A name of weights, as of `load_weights`: of a classification, whose backbone is taken; of a detection
            of ours, with the same classes or others; or an official checkpoint of RetinaNet or Mask R-CNN.
        averaged: Take the moving average that is held with them.

    Returns:
        What was loaded, and what is fresh.

    Raises:
        UserError: when the source can't be read, or is of another design or detector. The model is then unchanged.
    """
    _, state = read_weights(source, averaged)
    if _is_official(state):
        state = from_official(state)
    if not any(key.startswith("backbone.net.") for key in state):
        report = load_state(model.backbone.net, {timm_key(key): value for key, value in state.items()}, source)
        left_out = ("the classifier",) if report.unexpected else ()
        return LoadReport(source, report.loaded, ("pyramid and heads (the source is a backbone)",), left_out)
    own = model.state_dict()
    fresh = [key for key in own if key.startswith(_OF_CLASSES) and key in state and own[key].shape != state[key].shape]
    wanted, given = ({key: tensors[key] for key in tensors if key not in fresh} for tensors in (own, state))
    if problems := misfits(wanted, given):
        raise UserError(
            f"{source!r}: these weights are of another design or detector ({problems}). Nothing was loaded; set "
            "model.design and model.detector to theirs."
        )
    model.load_state_dict({**own, **given})
    reinitialized = (f"the layers of classes ({len(fresh)} tensors; the source has other classes)",) if fresh else ()
    return LoadReport(source, len(state) - len(fresh), reinitialized)


# ---- official checkpoints, which are mmdetection's, by our names

_HEADS = (
    # RetinaNet
    (r"bbox_head\.cls_convs\.(\d+)\.conv", r"head.classification_head.conv.\1.0"),
    (r"bbox_head\.reg_convs\.(\d+)\.conv", r"head.regression_head.conv.\1.0"),
    (r"bbox_head\.retina_cls", "head.classification_head.cls_logits"),
    (r"bbox_head\.retina_reg", "head.regression_head.bbox_reg"),
    # Mask R-CNN
    (r"rpn_head\.rpn_conv", "rpn.head.conv.0.0"),
    (r"rpn_head\.rpn_cls", "rpn.head.cls_logits"),
    (r"rpn_head\.rpn_reg", "rpn.head.bbox_pred"),
    (r"roi_head\.bbox_head\.shared_fcs\.0", "roi_heads.box_head.fc6"),
    (r"roi_head\.bbox_head\.shared_fcs\.1", "roi_heads.box_head.fc7"),
    (r"roi_head\.bbox_head\.fc_cls", "roi_heads.box_predictor.cls_score"),
    (r"roi_head\.bbox_head\.fc_reg", "roi_heads.box_predictor.bbox_pred"),
    (r"roi_head\.mask_head\.convs\.(\d+)\.conv", r"roi_heads.mask_head.\1.0"),
    (r"roi_head\.mask_head\.upsample", "roi_heads.mask_predictor.conv5_mask"),
    (r"roi_head\.mask_head\.conv_logits", "roi_heads.mask_predictor.mask_fcn_logits"),
)
_PARTS = ("neck.", "bbox_head.", "rpn_head.", "roi_head.")  # of a detector, in an official checkpoint
_BACKGROUND_LAST = "roi_heads.box_predictor.cls_score."
_WITHOUT_BACKGROUND = ("roi_heads.box_predictor.bbox_pred.", "roi_heads.mask_predictor.mask_fcn_logits.")
_OF_A_BOX = {"roi_heads.box_predictor.bbox_pred.": 4}  # rows of each class


def _is_official(state: Mapping[str, Tensor]) -> bool:
    """Return whether tensors are those of an official detector."""
    return any(key.startswith(_PARTS) for key in state)


def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of an official checkpoint by our names, for a detector of the same shape.

    Its classes keep their order. In Mask R-CNN, torchvision's background comes first where the official one comes
    last, and has boxes and masks that are never looked at: zeros.
    """
    finer = sum(re.fullmatch(r"neck\.extra_trans_convs\.\d+\.conv\.weight", key) is not None for key in state)
    laterals = sum(re.fullmatch(r"neck\.lateral_convs\.\d+\.conv\.weight", key) is not None for key in state)
    renamed = {_our_name(key, finer, laterals): value for key, value in state.items()}
    for key, value in renamed.items():
        if key.startswith(_BACKGROUND_LAST):
            renamed[key] = value.roll(1, dims=0)
        elif key.startswith(_WITHOUT_BACKGROUND):
            rows = _OF_A_BOX.get(key.removesuffix("weight").removesuffix("bias"), 1)
            renamed[key] = torch.cat([torch.zeros_like(value[:rows]), value])
    return renamed


def _our_name(key: str, finer: int, laterals: int) -> str:
    """Rename a tensor, where `finer` levels lie below the finest of the stages that have `laterals`."""
    if key.startswith("backbone."):
        return f"backbone.net.{timm_key(key.removeprefix('backbone.'))}"
    if of_neck := re.fullmatch(r"neck\.(\w+)\.(\d+)\.conv\.(\w+)", key):
        kind, number, tensor = of_neck[1], int(of_neck[2]), of_neck[3]
        place = {
            "lateral_convs": f"laterals.{number}",
            "fpn_convs": f"outputs.{finer + number}" if number < laterals else f"downs.{number - laterals}",
            "extra_trans_convs": f"ups.{number}",  # each begins where the one before ends
            "extra_fpn_convs": f"outputs.{number}",  # the finest first
        }.get(kind)
        return f"backbone.pyramid.{place}.{tensor}" if place else key
    for pattern, ours in _HEADS:
        name, count = re.subn(rf"^{pattern}(?=\.)", ours, key)
        if count:
            return name
    return key
