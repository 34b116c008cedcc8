"""RetinaNet and Mask R-CNN: they train and find, on every design, with classes that begin at 0."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from shvit_pl.designs.config import resolve_design
from shvit_pl.designs.design import NAMED
from shvit_pl.designs.detector import DetectorConfig, detector_cost
from shvit_pl.errors import UserError
from shvit_pl.models.blocks import Block
from shvit_pl.models.detection.mask_rcnn import MaskRCNN
from shvit_pl.models.detection.retinanet import RetinaNet

DETECTORS = {"retinanet": RetinaNet, "mask_rcnn": MaskRCNN}
CLASSES = 3
LOSSES = {
    "retinanet": {"classification", "bbox_regression"},
    "mask_rcnn": {"loss_objectness", "loss_rpn_box_reg", "loss_classifier", "loss_box_reg", "loss_mask"},
}


def detector(name, **settings):
    return DetectorConfig(name, **{"width": 32, "convs": 2, **settings})


def make(name, design=NAMED["tiny"], **settings):
    torch.manual_seed(0)
    return DETECTORS[name](design, detector(name, **settings), CLASSES)


def scene(objects=((10.0, 20.0, 70.0, 90.0, 2), (60.0, 60.0, 120.0, 100.0, 0))):
    """Two images, the second without an object, and their targets."""
    boxes = torch.tensor([box[:4] for box in objects]).reshape(-1, 4)
    masks = torch.zeros(len(objects), 128, 128, dtype=torch.uint8)
    for mask, (left, top, right, bottom) in zip(masks, boxes.long().tolist(), strict=True):
        mask[top:bottom, left:right] = 1
    images = torch.randn(2, 3, 128, 128) * 0.2
    images[0, :, boxes[0, 1].long() : boxes[0, 3].long(), boxes[0, 0].long() : boxes[0, 2].long()] += 2
    labels = torch.tensor([box[4] for box in objects])
    nothing = {"boxes": torch.zeros(0, 4), "labels": labels[:0], "masks": masks[:0]}
    return images, [(128, 128), (128, 96)], [{"boxes": boxes, "labels": labels, "masks": masks}, nothing]


def test_retinanets_fixed_numbers_are_the_official_ones():
    model = RetinaNet(NAMED["tiny"], DetectorConfig(), CLASSES)
    matcher, coder = model.proposal_matcher, model.box_coder
    assert (matcher.high_threshold, matcher.low_threshold, matcher.allow_low_quality_matches) == (0.5, 0.4, True)
    assert tuple(coder.weights) == (1, 1, 1, 1)
    assert (model.score_thresh, model.nms_thresh, model.topk_candidates, model.detections_per_img) == (
        *(0.05, 0.5),
        *(1000, 100),
    )
    assert model.anchor_generator.num_anchors_per_location() == [9] * 5


def test_mask_rcnns_fixed_numbers_are_the_official_ones():
    model = MaskRCNN(NAMED["tiny"], DetectorConfig("mask_rcnn"), CLASSES)
    rpn, heads = model.rpn, model.roi_heads
    assert (rpn.proposal_matcher.high_threshold, rpn.proposal_matcher.low_threshold) == (0.7, 0.3)
    assert (rpn.fg_bg_sampler.batch_size_per_image, rpn.fg_bg_sampler.positive_fraction) == (256, 0.5)
    model.eval()
    assert (rpn.pre_nms_top_n(), rpn.post_nms_top_n(), rpn.nms_thresh) == (1000, 1000, 0.7)
    model.train()
    assert (rpn.pre_nms_top_n(), rpn.post_nms_top_n()) == (2000, 1000)
    assert rpn.anchor_generator.num_anchors_per_location() == [3] * 5
    assert [sizes[0] for sizes in rpn.anchor_generator.sizes] == [32, 64, 128, 256, 512]
    assert (heads.proposal_matcher.high_threshold, heads.proposal_matcher.low_threshold) == (0.5, 0.5)
    assert (heads.fg_bg_sampler.batch_size_per_image, heads.fg_bg_sampler.positive_fraction) == (512, 0.25)
    assert [1 / weight for weight in heads.box_coder.weights] == [0.1, 0.1, 0.2, 0.2]
    assert (heads.score_thresh, heads.nms_thresh, heads.detections_per_img) == (0.05, 0.5, 100)
    assert (heads.box_head.fc6.out_features, heads.box_head.fc7.out_features) == (1024, 1024)
    pooled = heads.box_roi_pool, heads.mask_roi_pool
    assert [(pool.output_size, pool.sampling_ratio, pool.strides) for pool in pooled] == [
        ((7, 7), 0, (4, 8, 16, 32)),
        ((14, 14), 0, (4, 8, 16, 32)),
    ]


@pytest.mark.parametrize("settings", [{}, {"norm": "group"}, {"convs": 4}], ids=str)
@pytest.mark.parametrize("name", DETECTORS)
def test_every_parameter_learns_also_where_an_image_has_no_object(name, settings):
    model = make(name, **settings)
    losses = model(*scene())
    assert losses.keys() == LOSSES[name]
    total = sum(losses.values())
    assert torch.isfinite(total)
    total.backward()
    assert [key for key, tensor in model.named_parameters() if tensor.grad is None] == []
    images, sizes, (_, nothing) = scene()
    assert torch.isfinite(sum(model(images, sizes, [nothing, nothing]).values()))


def gradients(model):
    """Gradients of a step by name; where regions are drawn, by the same draws."""
    torch.manual_seed(1)
    sum(model(*scene()).values()).backward()
    return {key: tensor.grad for key, tensor in model.named_parameters()}


@pytest.mark.parametrize("name", DETECTORS)
def test_gradient_checkpointing_changes_no_gradient(name):
    plain, saving = make(name), make(name)
    saving.backbone.net.set_grad_checkpointing(True)
    calls = []
    for model in (plain, saving):
        block = next(module for module in model.backbone.net.modules() if isinstance(module, Block))
        block.register_forward_pre_hook(lambda *_, model=model: calls.append(model))
    expected = gradients(plain)
    for key, gradient in gradients(saving).items():
        torch.testing.assert_close(gradient, expected[key], msg=key)
    assert calls == [plain, saving, saving]  # computed once more for the gradients


@pytest.mark.parametrize("name", DETECTORS)
def test_in_bfloat16_and_channels_last_losses_and_what_is_found_are_in_float32(name):
    model = make(name, score=0.0).to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        losses = model(*scene())
        assert {loss.dtype for loss in losses.values()} == {torch.float32}
        assert torch.isfinite(sum(losses.values()))
        images, sizes, _ = scene()
        for found in model.eval()(images, sizes):
            assert found["boxes"].dtype == found["scores"].dtype == torch.float32
            assert torch.isfinite(found["boxes"]).all()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "settings"), [("retinanet", {}), ("mask_rcnn", {"regions": 16})])
def test_it_finds_what_it_has_learned_within_the_image(name, settings):
    model = make(name, norm="group", **settings)
    images, sizes, targets = scene()
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    for _ in range(120):
        optimizer.zero_grad()
        sum(model(images, sizes, targets).values()).backward()
        optimizer.step()
    model.eval()
    model.backbone.net.train()  # BatchNorm: statistics of these two images
    with torch.no_grad():
        found, nothing = model(images, sizes)
    best = found["scores"].argmax()
    assert found["labels"][best] in (0, 2)
    matching = targets[0]["boxes"][targets[0]["labels"] == found["labels"][best]][0]
    assert (found["boxes"][best] - matching).abs().max() < 12
    assert (nothing["scores"] < found["scores"][best]).all()
    assert (found["boxes"] >= 0).all()
    assert (found["boxes"] <= 128).all()
    if name == "mask_rcnn":
        assert found["masks"].shape == (len(found["scores"]), 1, 28, 28)


@pytest.mark.parametrize("name", DETECTORS)
@pytest.mark.parametrize("patch", [4, 8, 16])
@pytest.mark.parametrize("stages", [3, 4])
def test_every_design_takes_the_same_detector(name, patch, stages):
    model = make(name, resolve_design("tiny", patch_size=patch, stages=stages))
    assert model.backbone.levels == DetectorConfig(name).levels
    assert model(*scene()).keys() == LOSSES[name]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"width": 20, "norm": "group"}, "model.detector.width 20: with norm group, allowed are multiples of 8."),
        (
            {"name": "mask_rcnn", "box_loss": "giou"},
            "box_loss giou: for retinanet; mask_rcnn has smooth L1",
        ),
        ({"anchor_ratios": ()}, r"model.detector.anchor_ratios \[\]: allowed are numbers above 0, one or more."),
        ({"anchor_ratios": (1.0, -2.0)}, r"model.detector.anchor_ratios \[1.0, -2.0\]: allowed are numbers above 0"),
        ({"regions": 8}, "model.detector.regions 8: retinanet has none; leave it out, or give name mask_rcnn."),
        ({"convs": 0}, "model.detector.convs 0: allowed are whole numbers from 1"),
        ({"score": 1.5}, "model.detector.score 1.5: allowed are numbers from 0 to 1"),
        ({"nms": 0.0}, "model.detector.nms 0.0: allowed are numbers above 0 and at most 1"),
    ],
    ids=str,
)
def test_a_wrong_setting_is_refused_by_its_name(settings, message):
    with pytest.raises(UserError, match=message):
        DetectorConfig(**settings)


def test_retinanet_learns_no_background_in_a_crowd():
    model, (images, sizes, (_, nothing)) = make("retinanet"), scene()
    everywhere = {**nothing, "crowds": torch.tensor([[0.0, 0.0, 128.0, 128.0]])}
    plain, covered = (model(images, sizes, [each, each])["classification"] for each in (nothing, everywhere))
    assert covered < plain / 3  # what is left are anchors that lie mostly outside of the image


def test_mask_rcnn_learns_no_background_in_a_crowd():
    model, (_, _, (target, nothing)) = make("mask_rcnn"), scene()
    boxes = torch.tensor([[0.0, 0, 20, 20], [4, 0, 24, 20], [60, 60, 120, 100], [11, 0, 31, 20]])
    crowd = {"crowds": torch.tensor([[0.0, 0.0, 20.0, 20.0]])}  # over all, most, none and less than half of a box
    for each, expected in ((target, [-1, -1, 1, 0]), (nothing, [-1, -1, 0, 0])):
        labels, _ = model.rpn.assign_targets_to_anchors([boxes], [{**each, **crowd}])
        assert labels[0].tolist() == expected
        model.roi_heads._targets = [{**each, **crowd}]
        own = each["boxes"], each["labels"] + 1
        _, labels = model.roi_heads.assign_targets_to_proposals([boxes], *([each] for each in own))
        assert labels[0].tolist() == expected


@pytest.mark.parametrize("name", DETECTORS)
@pytest.mark.parametrize("norm", ["none", "group"])
@pytest.mark.parametrize("design", [{}, {"patch_size": 4, "stages": 4}], ids=str)
def test_its_cost_in_closed_form_is_what_torch_counts(name, norm, design):
    design = resolve_design("tiny", **design)
    model = make(name, design, norm=norm).eval()
    costs = detector_cost(design, detector(name, norm=norm), CLASSES, 128)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.backbone(torch.randn(1, 3, 128, 128))
    assert counter.get_total_flops() / 2 == costs["backbone"].macs + costs["pyramid"].macs
    assert sum(each.params for each in costs.values()) == sum(each.numel() for each in model.parameters())
    if name == "retinanet":
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(torch.randn(1, 3, 128, 128), [(128, 128)])
        assert counter.get_total_flops() / 2 == sum(each.macs for each in costs.values())
    else:
        maps = model.backbone(torch.randn(1, 3, 128, 128))
        regions = torch.randn(1000, 32, 7, 7), torch.randn(100, 32, 14, 14)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model.rpn.head(list(maps.values()))
            model.roi_heads.box_predictor(model.roi_heads.box_head(regions[0]))
            model.roi_heads.mask_predictor(model.roi_heads.mask_head(regions[1]))
        assert counter.get_total_flops() / 2 == costs["head"].macs
