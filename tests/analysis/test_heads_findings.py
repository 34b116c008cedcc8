"""The paper's scores, which head is called important, and the paper's numbers beside the networks that they are of."""

from statistics import mean
from types import SimpleNamespace

import pytest
import timm
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from shvit_pl.analysis.command import HeadsOptions
from shvit_pl.analysis.heads_findings import Findings, LayerResult, Scores, paper_heads
from shvit_pl.analysis.heads_report import run
from shvit_pl.analysis.heads_subject import Reference, Subject
from shvit_pl.models.open_network import OpenedNetwork
from tests.analysis.studies import facts, heads, rows

DEIT = "timm:deit_tiny_patch16_224"


def layer(without, alone, intact=70.0):
    return LayerResult(1, "attn", intact, torch.rand(4, len(without)), tuple(without), tuple(alone))


@pytest.mark.parametrize(
    ("without", "alone", "important", "redundant"),
    [
        ((60, 69, 50), (10, 5, 65), 2, 1),
        ((66, 69, 70), (20, 25, 10), 1, 2),  # both scores count: 0 is missed by 3 more than 1, which does 5 more alone
        ((60, 60, 70), (10, 10, 5), None, 2),  # worth the same
        ((60,), (70,), None, None),
    ],
)
def test_important_is_what_is_missed_most_and_does_most_alone(without, alone, important, redundant):
    result = layer(without, alone)
    assert (result.important, result.redundant) == (important, redundant)


def test_a_layer_has_the_score_of_its_best_head_and_the_spread_of_its_images():
    result = layer(without=(60, 69.5, 50), alone=(10, 5, 65))
    assert (result.change_without, result.change_alone) == (-0.5, -5)
    similarities = torch.tensor([[10.0, 30.0], [40.0, 60.0]])
    result = LayerResult(1, "attn", 70, similarities, (1, 2), (1, 2))
    assert result.similarity == 35
    assert result.spread == pytest.approx(torch.tensor([20.0, 50.0]).std().item())
    assert result.head_similarity(1) == 45
    assert (layer((60,), (70,)).similarity, layer((60,), (70,)).spread) == (None, None)


@pytest.mark.parametrize(
    ("predicted", "targets", "intact", "labels", "words"),
    [
        ((50, 50), (50, 50), 52, "dataset", "0.5200 of the intact network is no better than chance (0.5000)"),
        ((50, 50), (50, 50), 70, "dataset", ""),
        ((100, 0), (95, 5), 95, "dataset", "no better than chance (0.9500)"),  # the most frequent class always
        ((90, 10), (100, 0), 90, "dataset", ""),  # images of a single class
        ((100, 0), (100, 0), 100, "network", "the intact network predicts the same class for every image"),
        ((99, 1), (99, 1), 100, "network", ""),
    ],
)
def test_a_score_that_cannot_fall_is_called_blind(predicted, targets, intact, labels, words):
    counts = torch.tensor([predicted, targets], dtype=torch.float)
    findings = Findings(subject(labels=labels), None, Scores(images=100, intact=intact, by_class=counts))
    assert (words in findings.blind) if words else findings.blind == ""


def test_outputs_that_are_no_numbers_are_blind():
    scores = Scores()
    scores.add(torch.tensor([[0.0, torch.nan]]), torch.tensor([1]))
    assert "not finite" in Findings(subject(), None, scores).blind


def data_of(rows, classes):
    return SimpleNamespace(path="imagenet", rows=rows, class_names=["x"] * classes)


IMAGENET = data_of(50_000, 1000)


def subject(name=DEIT, fresh=False, images=IMAGENET, pixels=224, labels="dataset"):
    opened = OpenedNetwork(name, nn.Identity(), "timm", 224, fresh=fresh)
    return Subject(HeadsOptions(name), opened, [], images, pixels, Reference(labels), [], [], "cpu")


@pytest.mark.parametrize(
    ("changes", "scored", "expected"),
    [
        ({}, 50_000, []),
        ({"name": f"{DEIT}.fb_in1k"}, 50_000, []),
        ({"fresh": True}, 50_000, ["the weights are fresh, not trained"]),
        ({"name": "timm:vit_tiny_patch16_224"}, 50_000, ["the weights are not those of the authors"]),
        ({"images": data_of(rows=360, classes=10)}, 50_000, ["the images are from imagenet, not ImageNet"]),
        ({"pixels": 64}, 50_000, ["the images have 64 px, not 224"]),
        ({}, 1000, ["heads were removed on 1000 images, not 50000"]),
        ({"labels": "network"}, 50_000, ["the agreement with the intact network is measured, not top-1"]),
    ],
)
def test_each_difference_from_the_paper_is_named(changes, scored, expected):
    assert Findings(subject(**changes), None, Scores(images=scored)).differences == expected


def deit(heads, **options):
    return VisionTransformer(patch_size=16, embed_dim=192, depth=12, num_heads=heads, **options)


@pytest.mark.parametrize(("heads", "similarity", "top1"), [(3, 78.3, 72.14), (6, 64.8, 72.95)])
def test_deit_has_the_means_that_the_paper_says_of_its_last_five_layers(heads, similarity, top1):
    paper = paper_heads(deit(heads))
    assert paper.top1 == top1
    assert round(mean([layer.similarity for layer in paper.layers[7:]]), 1) == similarity
    assert "printed" in paper.confidence
    assert [layer.important for layer in paper.layers] == (
        [4, 2, 0, 3, 1, 4, 1, *[None] * 5] if heads == 6 else [None] * 12
    )


def test_swin_is_called_digitized_and_costs_what_the_text_says_of_its_later_layers():
    paper = paper_heads(timm.create_model("swin_tiny_patch4_window7_224"))
    assert "digitized" in paper.confidence
    assert mean([layer.alone for layer in paper.layers[4:]]) == pytest.approx(-0.95, abs=0.02)
    assert paper_heads(timm.create_model("swin_tiny_patch4_window7_224", embed_dim=48)).top1 == 75.05


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("deit_tiny_patch16_224", {"num_heads": 4}),
        ("deit_tiny_distilled_patch16_224", {}),
        ("deit_tiny_patch16_224", {"depth": 11}),
        ("swin_tiny_patch4_window7_224", {"depths": (2, 2, 2, 2)}),
        ("shvit_s1", {}),
    ],
)
def test_other_networks_have_no_numbers_of_the_paper(name, changes):
    with torch.device("meta"):
        assert paper_heads(timm.create_model(name, **changes)) is None


@pytest.mark.usefixtures("no_figures")
def test_deit_stands_beside_the_paper_with_the_difference_and_what_is_not_the_same(capsys):
    shape = {"image_size": 32, "model_kwargs": {"num_heads": 6}}
    run(HeadsOptions(DEIT, images=2, ablation_images=2, batch_size=2, device="cpu", **shape), ["test"])
    layers = rows("heads/layers.csv")
    assert [float(row["paper_similarity_pct"]) for row in layers[:3]] == [63.9, 57.7, 34.8]
    assert [row["paper_most_important_head"] for row in layers[:8]] == ["5", "3", "1", "4", "2", "5", "2", ""]
    for row in layers:
        similarity = float(row["similarity_pct"]) - float(row["paper_similarity_pct"])
        assert float(row["similarity_pct_less_paper"]) == pytest.approx(similarity)
        assert row["paper_without_one_change"] != ""
        assert "printed" in row["paper_confidence"]
        assert row["without_one_change_less_paper"] == row["one_alone_change_less_paper"] == ""  # of agreement
    differs = "; ".join(facts("heads/summary.json")["paper"]["not_the_same_study"])
    printed = " ".join(capsys.readouterr().out.split())
    for text in ("weights are fresh", "from digits, not ImageNet", "32 px, not 224", "agreement with the intact"):
        assert text in differs
        assert text in printed


@pytest.mark.usefixtures("no_figures")
def test_weights_of_ones_own_are_measured_by_the_labels():
    torch.save(timm.create_model("deit_tiny_patch16_224", img_size=32, num_classes=10).state_dict(), "own.pth")
    flags = ["--checkpoint=own.pth", "--model_kwargs={num_classes: 10}", "--image_size=32", "--labels=dataset"]
    assert heads(DEIT, "--data=digits", "--images=2", "--ablation_images=2", *flags) == 0
    layers = rows("heads/layers.csv")
    assert {row["score"] for row in layers} == {"top-1"}
    for row in layers:
        for name in ("similarity_pct", "without_one_change", "one_alone_change"):
            assert float(row[f"{name}_less_paper"]) == pytest.approx(float(row[name]) - float(row[f"paper_{name}"]))
    assert "the weights are not those of the authors" in facts("heads/summary.json")["paper"]["not_the_same_study"]
    assert heads("timm:vit_small_patch16_224", "--data=digits", flags[0]) == 2  # of another network
