"""What `shvit-pl analyze heads` writes of a run, a design and a model of timm."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from shvit_pl.analysis import heads_report
from shvit_pl.analysis.attention_layers import attention_layers, head_similarity, recorded_maps, without_heads
from shvit_pl.analysis.heads_figures import draw_figures
from shvit_pl.deploy.images import RealImages
from shvit_pl.models.open_network import open_network
from tests.analysis.studies import facts, files, heads, perturbed, rows
from tests.fractions import assert_fractions

FIGURES = [f"figures/{name}.png" for name in ("change", "heat_maps", "maps", "similarity")]
VIT = ["timm:vit_tiny_patch16_224", "--model_kwargs={depth: 2}", "--image_size=32"]


@pytest.fixture(scope="module")
def studied(multi_head_run, tmp_path_factory):
    """The folder of a study of the run with some of the validation images."""
    folder = tmp_path_factory.mktemp("studied") / "heads"
    assert heads(multi_head_run, f"--output={folder}", "--ablation_images=90", "--batch_size=60") == 0
    return folder


def test_the_table_has_the_numbers_of_the_library(studied, multi_head_run):
    """Recomputed by one hooked forward for each head, all images at once, and the mean similarity of all maps."""
    opened = open_network(str(multi_head_run))
    data = RealImages(opened, opened.image_size, None, normalized=True)
    images, labels = data.validation(data.rows)
    compared, scored = ([number * data.rows // count for number in range(count)] for count in (6, 90))
    compared_images, images, labels = images[compared], images[scored], labels[scored]
    layers = attention_layers(opened.model, images[:1])
    alike = {}
    with torch.no_grad():
        intact = (opened.model(images).argmax(1) == labels).double().mean()
        with recorded_maps(opened.model, layers, lambda layer, maps: alike.update({layer.name: head_similarity(maps)})):
            opened.model(compared_images)
    expected = []
    for layer in layers:
        for head in range(layer.heads):
            others = [other for other in range(layer.heads) if other != head]
            scores = []
            for removed in ([head], others):
                with torch.no_grad(), without_heads(opened.model, layer, removed):
                    scores.append(float((opened.model(images).argmax(1) == labels).double().mean()))
            expected.append([float(alike[layer.name][head]), float(intact), *scores])
    columns = ("similarity", "intact", "without", "alone")
    found = [[float(row[column]) for column in columns] for row in rows(studied / "heads.csv")]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert len({row["without"] for row in rows(studied / "heads.csv")}) > 1  # heads differ


def test_layers_have_the_scores_of_their_best_heads_and_the_summary_has_the_settings(studied, multi_head_run):
    layers = rows(studied / "layers.csv")
    for layer in layers:
        own = [row for row in rows(studied / "heads.csv") if row["layer"] == layer["layer"]]
        assert int(layer["heads"]) == len(own) == 4
        for mode, change in (("without", "without_one_change_points"), ("alone", "one_alone_change_points")):
            assert float(layer[change]) == max(float(row[f"{mode}_change_points"]) for row in own)
            best = max(float(row[mode]) for row in own)
            assert float(layer[change]) == pytest.approx(100 * (best - float(layer["intact"])), abs=2e-4)
    summary = facts(studied / "summary.json")
    settings = summary["settings"]
    assert summary["command"][:3] == ["shvit-pl", "analyze", "heads"]
    assert (settings["network"], settings["weights"], settings["data"]) == (str(multi_head_run), "trained", "digits")
    assert (settings["images"], settings["ablation_images"], settings["labels"]) == (6, 90, "dataset")
    assert summary["environment"]["torch"] == torch.__version__
    assert (summary["score"]["name"], summary["paper"]) == ("top-1", None)
    assert len(summary["layers"]) == len(layers) == 4
    assert summary["score"]["intact"] == pytest.approx(float(layers[0]["intact"]), abs=1e-6)
    assert 0 <= summary["score"]["intact"] <= 1
    assert_fractions(*((studied / name).read_text() for name in ("heads.csv", "layers.csv", "summary.json")))


def test_axes_of_similarity_are_fractions_and_of_changes_points(multi_head_run, monkeypatch):
    drawn = {}
    monkeypatch.setattr(heads_report, "draw_figures", lambda findings: drawn.update(draw_figures(findings)) or {})
    assert heads(multi_head_run) == 0
    assert_fractions(*drawn.values())
    (similarity,), (change,) = drawn["similarity"].axes, drawn["change"].axes
    assert similarity.get_ylim() == (0, 1.05)
    assert 0 < max(bar.get_height() for bar in similarity.patches) <= 1
    assert change.get_ylabel() == "change of top-1 (points)"
    assert change.get_ylim()[1] - change.get_ylim()[0] >= 2
    (layer, *_) = rows("heads/layers.csv")
    lines = {line.get_label(): line.get_ydata()[0] for line in change.lines}
    expected = {"without one head": "without_one_change_points", "one head alone": "one_alone_change_points"}
    for label, name in expected.items():
        assert lines[label] == pytest.approx(float(layer[name]), abs=1e-3)


def test_all_files_are_there_and_figures_are_pictures_on_white(studied):
    assert files(studied) == [*FIGURES, "heads.csv", "layers.csv", "summary.json"]
    for name in FIGURES:
        pixels = np.asarray(Image.open(studied / name).convert("RGB")).astype(int)
        assert (pixels[[0, 0, -1, -1], [0, -1, 0, -1]] == 255).all()  # the corners
        colored = (pixels.max(-1) - pixels.min(-1)) > 40
        assert colored.mean() > (0.1 if name == "figures/maps.png" else 0.005)
        assert min(pixels.shape[:2]) > 300


def test_it_prints_what_it_measures_and_found_and_replaces_earlier_results(studied, multi_head_run, capsys):
    Path("heads/figures").mkdir(parents=True)
    for name in ("layers.csv", "figures/of_another_study.png"):
        Path("heads", name).write_text("earlier")
    assert heads(multi_head_run, "--image=5", "--vectorize=query", "--labels=network") == 0
    printed = capsys.readouterr().out
    assert_fractions(printed)
    for text in (
        "16 heads in 4 layers",
        "heads removed on 8 of 360: agreement with the intact network instead of top-1, as --labels network is given",
        "most similar in layers",
        "Too few images to say which layers are redundant",  # one of 8 is 12.5 points
        "Removing one head ",
        "written: heads",
    ):
        assert text in printed
    assert files("heads") == files(studied)
    assert rows("heads/layers.csv")[0]["similarity"] != rows(studied / "layers.csv")[0]["similarity"]


@pytest.mark.usefixtures("no_figures")
def test_fresh_weights_are_compared_with_the_intact_network_and_are_the_same_every_time(capsys, image_folder):
    """All images of a folder count for a network that is not of a run."""
    for output in ("first", "second"):
        flags = [f"--data={image_folder}", "--ablation_images=99", f"--output={output}"]
        assert heads(*VIT, *flags) == 0
    assert Path("first/heads.csv").read_bytes() == Path("second/heads.csv").read_bytes()
    printed = " ".join(capsys.readouterr().out.split())
    assert "agreement with the intact network instead of top-1, as the weights are fresh" in printed
    assert {row["score"] for row in rows("first/heads.csv")} == {"agreement with the intact network"}
    assert {row["intact"] for row in rows("first/heads.csv")} == {"1.0"}
    settings = facts("first/summary.json")["settings"]
    assert (settings["validation_images"], settings["ablation_images"]) == (24, 24)


def test_a_design_with_single_heads_has_maps_and_no_similarity():
    assert heads("tiny", "--image_size=64") == 0
    assert {row["similarity"] for row in rows("heads/heads.csv")} == {""}
    assert {row["alone_change_points"] for row in rows("heads/heads.csv")} == {"0.0"}
    assert "figures/similarity.png" not in files("heads")
    assert "figures/maps.png" in files("heads")


@pytest.mark.usefixtures("no_figures")
def test_a_study_that_is_stopped_leaves_earlier_results_and_the_files_of_others_are_kept(monkeypatch, capsys):
    """Stopped while maps are compared, and while heads are left out."""
    study = [*VIT, "--data=digits"]
    assert heads(*study) == 0
    before = {name: Path("heads", name).read_bytes() for name in files("heads")}
    load = RealImages.batches
    for stopped_at in (0, 1):
        calls = []

        def stop(self, *args, calls=calls, stopped_at=stopped_at):
            calls.append(1)
            if len(calls) > stopped_at:
                raise KeyboardInterrupt
            return load(self, *args)

        monkeypatch.setattr(RealImages, "batches", stop)
        assert heads(*study, "--query=0,0") == 130
        assert before == {name: Path("heads", name).read_bytes() for name in files("heads")}
    Path("heads/figures").mkdir(exist_ok=True)
    Path("heads/figures/mine.txt").write_text("mine")
    assert heads(*study) == 2
    assert "--output 'heads': contains other files; give a new folder." in capsys.readouterr().err
    assert Path("heads/figures/mine.txt").read_text() == "mine"


@pytest.mark.usefixtures("no_figures")  # drawn with layers left out: below
@pytest.mark.parametrize(
    ("zeroed", "reason"),
    [
        ("blocks.1.attn.proj.weight blocks.1.attn.proj.bias", "attention changes no output"),
        ("blocks.1.attn.qkv.weight blocks.1.attn.qkv.bias", "every head attends to all tokens alike"),
        ("blocks.1.ls1.gamma", "attention changes no output"),
    ],
)
def test_layers_that_are_alike_or_redundant_for_another_reason_are_left_out_by_name(zeroed, reason, capsys):
    arguments = {"depth": 3, "num_classes": 10, "init_values": 1.0}
    model = perturbed(timm.create_model("vit_tiny_patch16_224", img_size=32, **arguments))
    torch.save({k: v * (k not in zeroed.split()) for k, v in model.state_dict().items()}, "own.pth")
    network = ["timm:vit_tiny_patch16_224", "--checkpoint=own.pth", f"--model_kwargs={arguments}", "--image_size=32"]
    assert heads(*network, "--ablation_images=100", "--labels=network", "--data=digits") == 0
    assert [row["left_out"] for row in rows("heads/layers.csv")] == ["", reason, ""]
    assert [row["similarity"] == "" for row in rows("heads/layers.csv")] == [False, True, False]
    findings = facts("heads/summary.json")["findings"]
    assert f"Left out: layer 2 (blocks.1.attn): {reason}." in findings
    assert not any(part in line for line in findings for part in (" 2 (7", " 2 (1", "(layer 2,"))
    assert "(blocks.1.attn)" in " ".join(capsys.readouterr().out.split())


def test_layers_of_one_token_are_left_out_and_accuracy_at_chance_is_blind(multi_head_run):
    """The last stage has one token at 32 px, and the weights are random."""
    assert heads(multi_head_run, "--image_size=32", "--ablation_images=100") == 0
    layers = rows("heads/layers.csv")
    assert [row["left_out"] for row in layers[-2:]] == ["a query attends to a single token"] * 2
    assert layers[0]["left_out"] == ""
    assert {row["most"] for row in rows("heads/heads.csv")} == {""}
    summary = facts("heads/summary.json")
    assert "no better than chance (" in summary["score"]["blind"]
    words = " ".join(summary["findings"])
    assert "Blind: top-1 can't tell whether heads matter, as " in words
    assert "edundant" not in words
    assert "Removing" not in words
    assert "most similar" not in words  # of two layers
