"""RetinaNet as one graph for images of a fixed size: decoding, and for a single image also NMS."""

import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import nms

from shvit_pl.models.detection.retinanet import RetinaNet

_CANDIDATES = 1000  # of a level, as torchvision takes before NMS


class DenseDetector(nn.Module):
    """All boxes of RetinaNet with their scores, for batches of any size.

    Args:
        model: The detector, in evaluation mode.
        size: Height and width of the images, padded.
    """

    anchors: Tensor

    def __init__(self, model: RetinaNet, size: tuple[int, int]) -> None:
        super().__init__()
        self.model, self.size = model, size
        images = torch.zeros(1, 3, *size)
        with torch.no_grad():
            maps = list(model.backbone(images).values())
        self.counts = model.counts(maps)
        (anchors,) = model.anchor_generator(ImageList(images, [size]), maps)
        self.register_buffer("anchors", anchors)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Map normalized images `(B, 3, H, W)` to boxes `(B, N, 4)` in pixels and scores `(B, N, classes)`."""
        outputs = self.model.head(list(self.model.backbone(images).values()))
        codes = outputs["bbox_regression"].float()
        boxes = self.model.box_coder.decode_single(codes.flatten(0, 1), self.anchors.repeat(codes.shape[0], 1))
        height, width = self.size
        limits = boxes.new_tensor([width, height, width, height])
        return boxes.view_as(codes).clamp(min=0).minimum(limits), outputs["cls_logits"].float().sigmoid()


class Detector(DenseDetector):
    """What RetinaNet finds in one image, after NMS; its score threshold and NMS are those of the model."""

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[override]
        """Map a normalized image `(1, 3, H, W)` to boxes `(D, 4)`, scores `(D,)` and classes `(D,)`, the best first."""
        boxes, scores = super().forward(images)
        parts = []
        for own_boxes, own_scores in zip(
            torch.split(boxes[0], self.counts), torch.split(scores[0], self.counts), strict=True
        ):
            classes = own_scores.shape[1]
            best, places = own_scores.flatten().topk(min(_CANDIDATES, own_scores.numel()))
            parts.append((own_boxes[places // classes], best, places % classes))
        boxes, scores, labels = (torch.cat(each) for each in zip(*parts, strict=True))
        apart = boxes + (labels * (max(self.size) + 1)).unsqueeze(1)  # classes don't suppress each other
        sure = torch.where(scores > self.model.score_thresh, scores, scores.new_zeros(()))
        kept = nms(apart, sure, self.model.nms_thresh)
        kept = kept[sure[kept] > 0][: self.model.detections_per_img]
        return boxes[kept], scores[kept], labels[kept]
