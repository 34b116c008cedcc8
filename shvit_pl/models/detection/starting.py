"""First weights of a detector: those of a backbone, of a detector of ours, or of an official one."""

from typing import Any

from shvit_pl.errors import UserError
from shvit_pl.models.detection.official import from_official, is_official
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
    if is_official(state):
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
