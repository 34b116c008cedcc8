"""The paper's numbers stand beside the networks that they are of, and nowhere else."""

import csv
import json

import pytest
import timm
import torch
from timm.models.vision_transformer import VisionTransformer

from shvit_pl.analysis.heads.found.paper import paper_heads
from shvit_pl.analysis.heads.request import Request
from shvit_pl.analysis.heads.study import study
from shvit_pl.analysis.heads.subject import open_subject
from shvit_pl.models.open_network import OpenedNetwork
from tests.analysis.heads.studies import heads, rows, summary


def deit(heads, **options):
    return VisionTransformer(patch_size=16, embed_dim=192, depth=12, num_heads=heads, **options)


def mean(values):
    return sum(values) / len(values)


@pytest.mark.parametrize(("heads", "similarity", "top1"), [(3, 78.3, 72.14), (6, 64.8, 72.95)])
def test_deit_has_the_means_that_the_paper_says_of_its_last_five_layers(heads, similarity, top1):
    paper = paper_heads(deit(heads))
    assert paper.top1 == top1
    assert round(mean([layer.similarity for layer in paper.layers[7:]]), 1) == similarity
    assert "printed" in paper.confidence


def test_swin_is_said_to_be_digitised_and_costs_what_the_text_says_of_its_later_layers():
    paper = paper_heads(timm.create_model("swin_tiny_patch4_window7_224"))
    assert "digitised" in paper.confidence
    assert mean([layer.alone for layer in paper.layers[4:]]) == pytest.approx(-0.95, abs=0.02)
    assert paper_heads(timm.create_model("swin_tiny_patch4_window7_224", embed_dim=48)).top1 == 75.05


@pytest.mark.parametrize(
    "model",
    [
        deit(4),
        timm.create_model("deit_tiny_distilled_patch16_224"),
        timm.create_model("deit_tiny_patch16_224", depth=11),
        timm.create_model("swin_tiny_patch4_window7_224", depths=(2, 2, 2, 2)),
        timm.create_model("shvit_s1"),
    ],
    ids=["4 heads", "distilled", "11 layers", "8 layers", "SHViT"],
)
def test_other_networks_have_none(model):
    assert paper_heads(model) is None


def test_deit_stands_beside_the_paper_with_the_difference_and_what_is_not_the_same(capsys):
    assert heads("timm:deit_tiny_patch16_224", "--image_size=32", "--data=digits") == 0
    layers = rows("layers")
    assert [float(row["paper_similarity_pct"]) for row in layers[:3]] == [49.5, 35.5, 18.4]
    for row in layers:
        similarity = float(row["similarity_pct"]) - float(row["paper_similarity_pct"])
        assert float(row["similarity_pct_less_paper"]) == pytest.approx(similarity)
        assert row["paper_without_one_change"] != ""
        assert row["without_one_change_less_paper"] == row["one_alone_change_less_paper"] == ""  # of agreement
    differs = "; ".join(summary()["paper"]["not_the_same_study"])
    printed = " ".join(capsys.readouterr().out.split())
    for text in ("weights are fresh", "those of digits, not ImageNet's", "32 px, not 224", "agreement with the intact"):
        assert text in differs
        assert text in printed


def test_weights_of_ones_own_are_measured_by_the_labels():
    changes = {"num_heads": 6, "num_classes": 10}
    torch.save(timm.create_model("deit_tiny_patch16_224", img_size=32, **changes).state_dict(), "own.pth")
    flags = ["--checkpoint=own.pth", f"--model_kwargs={json.dumps(changes)}", "--image_size=32", "--labels=dataset"]
    assert heads("timm:deit_tiny_patch16_224", "--data=digits", *flags) == 0
    layers = rows("layers")
    assert {row["score"] for row in layers} == {"top-1"}
    for row in layers:
        for name in ("similarity_pct", "without_one_change", "one_alone_change"):
            assert float(row[f"{name}_less_paper"]) == pytest.approx(float(row[name]) - float(row[f"paper_{name}"]))
    assert "the weights are not those of the authors" in summary()["paper"]["not_the_same_study"]
    assert heads("timm:deit_tiny_patch16_224", "--data=digits", *flags[:1]) == 2  # of another network


def test_deit_of_six_heads_has_the_paper_s_important_heads():
    opened = OpenedNetwork("deit-6", deit(6, img_size=32).eval(), "timm", 32, fresh=True)
    request = Request("deit-6", data="digits", images=2, ablation_images=2, batch_size=2, device="cpu")
    study(open_subject(request, opened), request, ["test"])
    assert [row["paper_most_important_head"] for row in rows("layers")] == ["5", "3", "1", "4", "2", "5", "2"] + [
        ""
    ] * 5


@pytest.mark.slow
def test_swin_at_its_own_size_stands_beside_the_paper():
    assert heads("timm:swin_tiny_patch4_window7_224", "--data=digits", "--images=2", "--ablation_images=1") == 0
    layers = rows("layers")
    assert [int(row["heads"]) for row in layers] == [3, 3, 6, 6, *[12] * 6, 24, 24]
    assert all("digitised" in row["paper_confidence"] for row in layers)
    with open("heads/heads.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == 138
