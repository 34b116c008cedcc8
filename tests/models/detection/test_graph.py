"""The graphs of RetinaNet: the same detections as the detector's, also in ONNX Runtime."""

import pytest
import torch

from shvit_pl.designs.design import NAMED
from shvit_pl.designs.detector import DetectorConfig
from shvit_pl.models.detection.graph import DenseDetector, Detector
from shvit_pl.models.detection.retinanet import RetinaNet

SIZE = (128, 160)


@pytest.fixture(scope="module")
def model():
    """A detector of which every weight is perturbed, so that it finds something of every class."""
    torch.manual_seed(0)
    made = RetinaNet(NAMED["tiny"], DetectorConfig(width=16, convs=1, score=0.3, detections=40), 3)
    for name, tensor in made.named_parameters():
        tensor.data += 0.1 * torch.randn_like(tensor)
        if name == "head.classification_head.cls_logits.bias":
            tensor.data[:] = -1.0
    return made.eval()


def images(count=1, seed=1):
    return torch.randn(count, 3, *SIZE, generator=torch.Generator().manual_seed(seed))


def assert_same(found, boxes, scores, labels):
    assert torch.equal(found["labels"], labels)
    assert (found["scores"] - scores).abs().max() < 1e-5
    assert (found["boxes"] - boxes).abs().max() < 1e-2


@torch.no_grad()
def test_the_graph_finds_what_the_detector_finds(model):
    for seed in range(5):
        picture = images(seed=seed)
        (found,) = model(picture, [SIZE])
        assert len(found["boxes"]) > 5
        assert_same(found, *Detector(model, SIZE)(picture))


@torch.no_grad()
def test_the_dense_graph_has_the_boxes_of_every_anchor(model):
    batch = images(3)
    boxes, scores = DenseDetector(model, SIZE)(batch)
    assert boxes.shape[:2] == scores.shape[:2]
    assert scores.shape[2] == 3
    for index, found in enumerate(model(batch, [SIZE] * 3)):
        for box, score, label in zip(found["boxes"], found["scores"], found["labels"], strict=True):
            near = (scores[index, :, label] - score).abs() < 1e-6
            assert ((boxes[index, near] - box).abs().amax(1) < 1e-3).any()


@pytest.mark.slow
@torch.no_grad()
def test_onnx_runtime_finds_the_same(model, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    names = ["boxes", "scores", "labels"]
    program = torch.onnx.export(
        Detector(model, SIZE), (images(),), input_names=["images"], output_names=names, dynamo=True, verbose=False
    )
    program.save(tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    for seed in range(5):
        (found,) = model(images(seed=seed), [SIZE])
        outputs = session.run(None, {"images": images(seed=seed).numpy()})
        assert_same(found, *map(torch.from_numpy, outputs))
