"""Detectors on a SHViT: feature pyramid, anchors, RetinaNet and Mask R-CNN."""
