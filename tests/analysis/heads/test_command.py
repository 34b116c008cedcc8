"""What `shvit-pl analyze heads` writes of a run, a design and a model of timm."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from shvit_pl.analysis.heads.attention.ablation import without_heads
from shvit_pl.analysis.heads.attention.layers import attention_layers
from shvit_pl.analysis.heads.attention.maps import seen_maps
from shvit_pl.analysis.heads.attention.similarity import head_similarity
from shvit_pl.deploy.images import RealImages
from shvit_pl.hub.upload import save_weights
from shvit_pl.models.open_network import open_network
from shvit_pl.runs.finished_run import FinishedRun
from tests.analysis.heads.studies import files, heads, rows, summary

FIGURES = [f"figures/{name}.png" for name in ("change", "heat_maps", "maps", "similarity")]
WRITTEN = sorted(["events", *FIGURES, "found.pt", "heads.csv", "layers.csv", "heads_study.json", "summary.json"])


@pytest.fixture(scope="module")
def studied(multi_head_run, tmp_path_factory):
    """The folder of a study of the run with all of the validation images."""
    folder = tmp_path_factory.mktemp("studied") / "heads"
    assert heads(multi_head_run, f"--output={folder}", "--ablation_images=400", "--batch_size=60") == 0
    return folder


def test_all_files_are_there_and_no_others(studied):
    assert files(studied) == WRITTEN


def test_the_table_has_the_numbers_of_the_library(studied, multi_head_run):
    """Recomputed by one hooked forward for each head, all images at once, and the mean similarity of all maps."""
    opened = open_network(str(multi_head_run))
    data = RealImages(opened, opened.image_size, None, normalised=True)
    images, labels = data.validation(data.rows)
    layers = attention_layers(opened.model, images[:1])
    alike = {}
    with torch.no_grad():
        intact = (opened.model(images).argmax(1) == labels).double().mean()
        with seen_maps(opened.model, layers, lambda layer, maps: alike.update({layer.name: head_similarity(maps)})):
            opened.model(images[[number * data.rows // 6 for number in range(6)]])
    expected = []
    for layer in layers:
        for head in range(layer.heads):
            others = [other for other in range(layer.heads) if other != head]
            scores = []
            for removed in ([head], others):
                with torch.no_grad(), without_heads(opened.model, layer, removed):
                    scores.append(float((opened.model(images).argmax(1) == labels).double().mean()) * 100)
            expected.append([float(alike[layer.name][head]) * 100, float(intact) * 100, *scores])
    columns = ("similarity_pct", "intact_pct", "without_pct", "alone_pct")
    found = [[float(row[column]) for column in columns] for row in rows(folder=studied)]
    np.testing.assert_allclose(found, expected, atol=1e-3)
    assert len({row["without_pct"] for row in rows(folder=studied)}) > 1  # heads differ


def test_layers_have_the_scores_of_their_best_heads(studied):
    by_layer = {}
    for row in rows(folder=studied):
        by_layer.setdefault(row["layer"], []).append(row)
    for layer in rows("layers", studied):
        own = by_layer[layer["layer"]]
        assert int(layer["heads"]) == len(own) == 4
        assert float(layer["without_one_change"]) == max(float(row["without_change"]) for row in own)
        assert float(layer["one_alone_change"]) == max(float(row["alone_change"]) for row in own)
        assert float(layer["similarity_pct"]) == pytest.approx(
            np.mean([float(row["similarity_pct"]) for row in own]), abs=1e-3
        )


def test_the_summary_says_what_was_studied_and_how(studied, multi_head_run):
    found = summary(studied)
    settings = found["settings"]
    assert found["command"][:3] == ["shvit-pl", "analyze", "heads"]
    assert (settings["network"], settings["weights"], settings["data"]) == (str(multi_head_run), "trained", "digits")
    assert (settings["images"], settings["ablation_images"], settings["labels"]) == (6, 360, "dataset")
    assert settings["torch"] == torch.__version__
    assert found["score"]["name"] == "top-1"
    assert found["paper"] is None
    assert len(found["layers"]) == len(rows("layers", studied)) == 4


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_pictures_on_white(studied, name):
    pixels = np.asarray(Image.open(studied / name).convert("RGB")).astype(int)
    assert (pixels[[0, 0, -1, -1], [0, -1, 0, -1]] == 255).all()  # the corners
    coloured = (pixels.max(-1) - pixels.min(-1)) > 40
    assert coloured.mean() > (0.1 if name == "figures/maps.png" else 0.005)
    assert min(pixels.shape[:2]) > 300


def test_tensorboard_has_the_layers_as_steps_and_the_figures(studied):
    board = EventAccumulator(str(studied), size_guidance={"images": 0}).Reload()
    shown = [(event.step, event.value) for event in board.Scalars("heads/similarity_pct")]
    expected = [(int(row["layer"]), float(row["similarity_pct"])) for row in rows("layers", studied)]
    assert shown == [(step, pytest.approx(value)) for step, value in expected]
    assert set(board.Tags()["images"]) == {f"heads/{Path(name).stem}" for name in FIGURES}


@pytest.fixture(scope="module")
def quick(multi_head_run, tmp_path_factory):
    """The folder of a study of a few images."""
    folder = tmp_path_factory.mktemp("quick") / "heads"
    assert heads(multi_head_run, f"--output={folder}") == 0
    return folder


def test_it_prints_what_it_measures_and_what_it_found(multi_head_run, quick, capsys):
    assert heads(multi_head_run, f"--output={quick}") == 0
    printed = capsys.readouterr().out
    for text in (
        "16 heads in 4 layers",
        "heads left out on 8 of 360: top-1 against the dataset's labels",
        "top-1 of the intact network",
        "most alike in layers",
        "Too few images to say which layers are redundant",  # one of 8 is 12.5 points
        "At stake: ",
        f"written: {quick}",
    ):
        assert text in printed


def test_fresh_weights_are_compared_with_the_intact_network_and_are_the_same_every_time(capsys):
    for _ in range(2):
        assert heads("timm:vit_tiny_patch16_224", "--image_size=32", "--data=digits") == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "agreement with the intact network, as the weights are fresh" in printed
    assert {row["score"] for row in rows()} == {"agreement with the intact network"}
    assert {row["intact_pct"] for row in rows()} == {"100.0"}


def test_a_design_with_single_heads_has_maps_and_no_similarity():
    assert heads("tiny", "--image_size=64") == 0
    assert {row["similarity_pct"] for row in rows()} == {""}
    assert {row["alone_change"] for row in rows()} == {"0.0"}
    assert "figures/similarity.png" not in files()
    assert "figures/maps.png" in files()


def test_maps_of_one_image_differ_from_the_mean(multi_head_run, quick):
    assert heads(multi_head_run, "--image=5", "--query=0,0") == 0
    mean, one = (torch.load(Path(folder, "found.pt"), weights_only=True) for folder in (quick, "heads"))
    assert (mean["pictured"], one["pictured"], tuple(one["image"].shape)) == (6, 1, (3, 64, 64))
    assert (mean["queries"][0], one["queries"][0]) == ((0.625, 0.625), (0.125, 0.125))  # of a 4x4 grid
    assert not torch.equal(mean["pictures"][0] / 6, one["pictures"][0])
    for picture in (mean["pictures"][0] / 6, one["pictures"][0]):
        torch.testing.assert_close(picture.sum((1, 2)), torch.ones(4, dtype=torch.float64))


def test_the_choice_of_vectors_changes_the_similarity(multi_head_run, quick):
    assert heads(multi_head_run, "--vectorise=query") == 0
    assert rows("layers")[0]["similarity_pct"] != rows("layers", quick)[0]["similarity_pct"]


@pytest.mark.parametrize("command", [["analyze", "--help"], ["analyze", "heads", "--help"]], ids=" ".join)
def test_the_help_is_quick(command):
    code = f"import sys; from shvit_pl.cli import main; main({command}); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], env=os.environ, check=True, capture_output=True)


def test_a_repo_of_the_hub_is_studied_as_the_run_that_it_is_of(multi_head_run, quick, hub, tmp_path):
    (tmp_path / "saved").mkdir()
    save_weights(FinishedRun.open(multi_head_run), tmp_path / "saved")
    hub.commit("user/name", {path.name: path.read_bytes() for path in (tmp_path / "saved").iterdir()}, kind="models")
    assert heads("hf-hub:user/name", "--data=digits") == 0
    assert summary()["settings"]["network"] == "hf-hub:user/name"
    assert [row["similarity_pct"] for row in rows()] == [row["similarity_pct"] for row in rows(folder=quick)]


def test_all_images_of_a_folder_count_for_a_network_that_is_not_of_a_run(image_folder):
    assert heads("timm:vit_tiny_patch16_224", "--image_size=32", f"--data={image_folder}", "--ablation_images=99") == 0
    settings = summary()["settings"]
    assert (settings["validation_images"], settings["ablation_images"]) == (24, 24)
    assert summary()["score"]["measured"].endswith("as the weights are fresh")
