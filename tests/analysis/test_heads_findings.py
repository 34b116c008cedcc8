"""The paper's scores, which head is called important, and the paper's numbers beside the networks that they are of."""

from dataclasses import replace
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
from tests.fractions import assert_fractions

DEIT = "timm:deit_tiny_patch16_224"


def layer(without, alone, intact=0.7):
    return LayerResult(1, "attn", intact, torch.rand(4, len(without)), tuple(without), tuple(alone))


@pytest.mark.parametrize(
    ("without", "alone", "important", "redundant"),
    [
        ((0.60, 0.69, 0.50), (0.10, 0.05, 0.65), 2, 1),
        # both scores count: 0 is missed by 3 points more than 1, which does 5 more alone
        ((0.66, 0.69, 0.70), (0.20, 0.25, 0.10), 1, 2),
        ((0.60, 0.60, 0.70), (0.10, 0.10, 0.05), None, 2),  # worth the same
        ((0.60,), (0.70,), None, None),
    ],
)
def test_important_is_what_is_missed_most_and_does_most_alone(without, alone, important, redundant):
    result = layer(without, alone)
    assert (result.important, result.redundant) == (important, redundant)


def test_a_layer_has_the_score_of_its_best_head_and_the_spread_of_its_images():
    result = layer(without=(0.60, 0.695, 0.50), alone=(0.10, 0.05, 0.65))
    assert (result.change_without, result.change_alone) == pytest.approx((-0.5, -5))
    similarities = torch.tensor([[0.1, 0.3], [0.4, 0.6]])
    result = LayerResult(1, "attn", 0.7, similarities, (0.1, 0.2), (0.1, 0.2))
    assert result.similarity == pytest.approx(0.35)
    assert result.spread == pytest.approx(torch.tensor([0.2, 0.5]).std().item())
    assert result.head_similarity(1) == pytest.approx(0.45)
    assert (layer((0.6,), (0.7,)).similarity, layer((0.6,), (0.7,)).spread) == (None, None)


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
    findings = Findings(
        subject(labels=labels), SimpleNamespace(layers=[]), Scores(images=100, intact=intact, by_class=counts)
    )
    assert (words in findings.blind) if words else findings.blind == ""


@pytest.mark.parametrize(("kept", "spare"), [(690, True), (689, False)])
def test_a_layer_is_redundant_that_loses_a_point_with_one_head_alone_and_no_more(kept, spare):
    """One point is 0.01 of top-1, as exactly as 10 of 1000 images are."""
    scores = Scores(1000, 700, {"attn": torch.tensor([[650, 700], [kept, 100]])}, {"attn": 1.0})
    scores.by_class = torch.tensor([[500.0, 500.0], [500.0, 500.0]])
    findings = with_layers(scores)
    (layer,) = findings.layers
    assert (layer.intact, layer.without, layer.alone, layer.similarity) == (
        0.7,
        (0.65, 0.7),
        (kept / 1000, 0.1),
        pytest.approx(0.1),
    )
    assert (findings.image, findings.intact) == (0.001, 0.7)
    assert (layer.change_without, layer.change_alone) == pytest.approx((0, (kept - 700) / 10))
    lines = findings.sentences
    assert_fractions(*lines)
    assert "most similar" not in " ".join(lines)  # there is no other layer
    assert ("Redundant: with the best head alone, top-1 stays within 1 point in 1 of 1 layers (1)." in lines) == spare
    assert ("No layer keeps top-1 within 1 point with one head alone." in lines) != spare
    assert "Removing one head changes top-1 by -5.00 points at worst (layer 1, head 1)." in lines
    assert lines[-1] == "One image is 0.1 points."


@pytest.mark.parametrize("labels", ["dataset", "network"])
@pytest.mark.parametrize(("images", "is_few"), [(1000, False), (50, True)])
def test_a_score_that_no_head_changes_is_blind_and_names_no_layer_redundant(images, is_few, labels):
    intact = images * 7 // 10 if labels == "dataset" else images
    scores = Scores(images, intact, {"attn": torch.full((2, 2), intact)}, {"attn": 1.0})
    scores.by_class = torch.full((2, 2), images / 2)
    findings = with_layers(scores, labels=labels)
    score = "top-1" if labels == "dataset" else "agreement"
    reason = "it is the same without any one head, and with any one alone"
    assert (findings.blind, findings.layers[0].redundant) == (reason, None)
    few = ["Too few images to say which layers are redundant; give more with --ablation_images."]
    assert findings.sentences == [f"Blind: {score} can't tell whether heads matter, as {reason}.", *few * is_few]
    scores.matching["attn"][1, 0] -= 1  # one head alone does less
    assert with_layers(scores, labels=labels).blind == ""
    scores.matching["attn"][1, 0] += 1
    scores.effect["attn"] = 0.0
    assert with_layers(scores, labels=labels).sentences[1] == "Left out: layer 1 (attn): attention changes no output."


@pytest.mark.parametrize(
    ("layers", "images", "similar"),
    [(1, 3, ""), (2, 3, ""), (3, 1, ""), (3, 3, "layer 3 (0.300)"), (6, 3, "layers 6 (0.600), 5 (0.500), 4 (0.400)")],
)
def test_layers_are_called_most_similar_only_among_others_and_on_several_images(layers, images, similar):
    names = [f"attn{number}" for number in range(1, layers + 1)]
    scores = Scores(
        1000, 700, {name: torch.tensor([[650, 700], [690, 100]]) for name in names}, dict.fromkeys(names, 1.0)
    )
    scores.by_class = torch.full((2, 2), 500.0)
    lines = with_layers(scores, images).sentences
    assert [line for line in lines if "similar" in line] == [f"The heads are most similar in {similar}."] * bool(
        similar
    )


def with_layers(scores, images=3, labels="dataset"):
    """Findings of the layers that have scores, the heads of the i-th alike by i tenths on each image."""
    layers = [SimpleNamespace(name=name) for name in scores.matching]
    maps = [
        SimpleNamespace(similarity=torch.full((images, 2), number / 10), keys=4, even=False)
        for number in range(1, len(layers) + 1)
    ]
    return Findings(replace(subject(labels=labels), layers=layers), SimpleNamespace(layers=maps), scores)


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


@pytest.mark.parametrize(("heads", "similarity", "top1"), [(3, 0.783, 0.7214), (6, 0.648, 0.7295)])
def test_deit_has_the_means_that_the_paper_says_of_its_last_five_layers(heads, similarity, top1):
    paper = paper_heads(deit(heads))
    assert paper.top1 == top1
    assert round(mean([layer.similarity for layer in paper.layers[7:]]), 3) == similarity
    assert "printed" in paper.confidence
    assert [layer.important for layer in paper.layers] == (
        [4, 2, 0, 3, 1, 4, 1, *[None] * 5] if heads == 6 else [None] * 12
    )


def test_swin_is_called_digitized_and_costs_what_the_text_says_of_its_later_layers():
    paper = paper_heads(timm.create_model("swin_tiny_patch4_window7_224"))
    assert "digitized" in paper.confidence
    assert mean([layer.alone for layer in paper.layers[4:]]) == pytest.approx(-0.95, abs=0.02)
    assert paper_heads(timm.create_model("swin_tiny_patch4_window7_224", embed_dim=48)).top1 == 0.7505


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
    assert [float(row["paper_similarity"]) for row in layers[:3]] == [0.639, 0.577, 0.348]
    assert [row["paper_most_important_head"] for row in layers[:8]] == ["5", "3", "1", "4", "2", "5", "2", ""]
    for row in layers:
        similarity = float(row["similarity"]) - float(row["paper_similarity"])
        assert float(row["similarity_less_paper"]) == pytest.approx(similarity, abs=1e-6)
        assert row["paper_without_one_change_points"] != ""
        assert "printed" in row["paper_confidence"]
        of_agreement = [row[f"{name}_change_less_paper_points"] for name in ("without_one", "one_alone")]
        assert of_agreement == ["", ""]
    differs = "; ".join(facts("heads/summary.json")["paper"]["not_the_same_study"])
    table = capsys.readouterr().out
    assert_fractions(table)
    assert "0.639 (" in table  # the paper's similarity, and the difference
    printed = " ".join(table.split())
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
        for name, unit in (("similarity", ""), ("without_one_change", "_points"), ("one_alone_change", "_points")):
            difference = float(row[name + unit]) - float(row[f"paper_{name}{unit}"])
            assert float(row[f"{name}_less_paper{unit}"]) == pytest.approx(difference, abs=1e-6)
    assert "the weights are not those of the authors" in facts("heads/summary.json")["paper"]["not_the_same_study"]
    assert heads("timm:vit_small_patch16_224", "--data=digits", flags[0]) == 2  # of another network
