"""Images with any number of labels through all commands: fit, validate, predict, resume, export, distillation, push."""

import csv
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Image, List

from shvit_pl.cli import main
from shvit_pl.data.datamodule import HFImageDataModule
from shvit_pl.hub.card import write_card
from shvit_pl.hub.contents import save_weights
from shvit_pl.hub.target import Target
from shvit_pl.models.open_network import open_network
from shvit_pl.modules.classification import ClassificationModule
from shvit_pl.runs.folder import FinishedRun, read_summary
from tests.cli.runs import QUICK, assert_same, content, fit, only_run, stopped, weights
from tests.data.pictures import photo, saved
from tests.refusals import refusal

NAMES = ["sun", "tree", "house"]


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """Seventy images with 0 to 3 labels, of which 24 validate."""
    generator = np.random.default_rng(0)

    def split(count):
        labels = [np.flatnonzero(generator.random(3) < 0.4).tolist() for _ in range(count)]
        pictures = [photo(40, 40, seed) for seed in range(count)]
        return Dataset.from_dict(
            {"image": pictures, "labels": labels},
            features=Features(image=Image(), labels=List(ClassLabel(names=NAMES))),
        )

    return saved(split(70), validation=split(24))(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def many(sets, tmp_path_factory):
    """A finished run with an average."""
    root = tmp_path_factory.mktemp("run")
    flags = ["--model.ema.decay=0.9", f"--trainer.default_root_dir={root}", "--plain"]
    assert fit(f"--data.path={sets}", *flags) == 0
    return root / "tiny" / "version_0"


def predictions():
    return list(csv.DictReader(Path("predictions.csv").read_text().splitlines()))


def test_a_run_is_measured_by_class_and_keeps_its_thresholds(many):
    summary, best = read_summary(many), content(many, "best")
    assert summary["monitor"] == "val/map"
    names = {f"val/{name}{end}" for name in ("map", "f1_macro", "f1_micro", "loss") for end in ("", "_ema")}
    assert names == summary["metrics"].keys()
    assert best["hyper_parameters"]["many_labels"] is True
    assert {key: len(values) for key, values in best["thresholds"].items()} == {"raw": 3, "_ema": 3}
    assert [row["class"] for row in summary["by_class"]] == NAMES
    rows = [round(value, 4) for value in best["thresholds"]["raw"]]
    assert [row["threshold"] for row in summary["by_class"]] == rows
    aps = [row["ap"] for row in summary["by_class"]]
    assert np.mean(aps) == pytest.approx(summary["metrics"]["val/map"], abs=1e-4)
    assert {path.name for path in (many / "figures").iterdir()} == {
        "inputs.png", "curves.png", "class_ap.png", "by_class.csv",
    }  # fmt: skip
    assert not any(key.startswith("by_class") for key in best["state_dict"])


def test_validation_gives_the_same_again_and_predictions_follow_the_thresholds(many, sets, capsys):
    assert main(["validate", f"--ckpt_path={many}", "--trainer.limit_val_batches=4", "--plain"]) == 0
    measured = json.loads(Path("metrics.json").read_text())["metrics"]
    best = read_summary(many)["metrics"]
    assert measured == pytest.approx(best, abs=1e-6)
    split = "--data.validation_split=validation"
    assert main(["predict", f"--ckpt_path={many}", f"--data.path={sets}", "--plain", split]) == 0
    rows = predictions()
    assert (len(rows), [*rows[0]]) == (24, ["file", "labels", "probabilities"])
    module = ClassificationModule.load_from_checkpoint(many / "checkpoints/best.ckpt").eval()
    data = HFImageDataModule(
        path=str(sets), image_size=64, batch_size=24, validation_split="validation", augment="none"
    )
    (batch,) = data.val_dataloader()
    with torch.no_grad():
        logits = module(data.on_after_batch_transfer(batch, 0)["image"])
    thresholds = content(many, "best")["thresholds"]["raw"]
    for row, values in zip(rows, logits.double().sigmoid().tolist(), strict=True):
        said = json.loads(row["probabilities"])
        assert [*said.values()] == pytest.approx(values, abs=2e-4)
        assert json.loads(row["labels"]) == [n for n, v, t in zip(NAMES, values, thresholds, strict=True) if v >= t]


def test_an_interrupted_run_ends_as_the_whole_one(sets, tmp_path):
    flags = [f"--data.path={sets}", "--model.mix.mixup=0.8", "--checkpoint_every_n_steps=1", "--model.loss=asymmetric"]
    assert fit(*flags, "--run_name=whole") == 0
    stopped(1, 2, *flags, "--run_name=cut")
    whole, cut = (tmp_path / "runs" / name / "version_0" for name in ("whole", "cut"))
    assert main(["fit", f"--ckpt_path={cut}"]) == 0
    assert_same(weights(whole), weights(cut))
    assert content(whole)["thresholds"] == content(cut)["thresholds"]


def test_the_repository_says_its_kind_and_is_read_by_this_package_and_transformers(many, tmp_path):
    folder = tmp_path / "repo"
    folder.mkdir()
    run = FinishedRun.open(many)
    save_weights(run, folder)
    write_card(run, folder, Target("user/sets"))
    card = (folder / "README.md").read_text()
    assert f"**{run.metrics['map']:.4f} mean average precision** on some of its 24 validation images" in card
    assert ".sigmoid()[0]" in card
    assert "always predicts one of" not in card
    assert "| class | images | precision | recall | F1 | AP | threshold |" in card
    config = json.loads((folder / "config.json").read_text())
    thresholds = content(many, "best")["thresholds"]["raw"]
    assert (config["problem_type"], config["thresholds"]) == ("multi_label_classification", thresholds)
    opened = open_network(str(folder))
    assert (opened.many_labels, opened.thresholds, opened.class_names) == (True, thresholds, NAMES)
    photo(40, 40, 3).save(tmp_path / "a.png")
    (tmp_path / "images").mkdir()
    photo(40, 40, 3).save(tmp_path / "images" / "a.png")
    assert main(["predict", f"--model.init_from={folder}", "--data.path=images", "--plain"]) == 0
    (row,) = predictions()
    said = json.loads(row["probabilities"])
    assert json.loads(row["labels"]) == [n for n, t in zip(NAMES, thresholds, strict=True) if said[n] >= t]
    from transformers import pipeline

    found = pipeline("image-classification", model=str(folder))(str(tmp_path / "a.png"))
    theirs = {each["label"]: each["score"] for each in found}
    assert theirs == pytest.approx(said, abs=1e-2)  # sigmoids; its resizing rounds otherwise


def test_an_export_holds_the_thresholds_and_gives_sigmoids(many, sets, tmp_path, capsys):
    flags = ["--softmax", "--output=net.onnx", f"--data={sets}"]
    assert main(["export", str(many), "--format=onnx", *flags]) == 0
    held = {each.key: each.value for each in onnx.load("net.onnx").metadata_props}
    assert held["problem_type"] == "multi_label_classification"
    assert json.loads(held["thresholds"]) == content(many, "best")["thresholds"]["raw"]
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    (found,) = onnxruntime.InferenceSession("net.onnx").run(None, {"images": images.numpy()})
    with torch.no_grad():
        expected = open_network(str(many)).model(images).sigmoid()
    torch.testing.assert_close(torch.from_numpy(found), expected, atol=1e-4, rtol=0)
    assert "--int8: its cost is measured by top-1" in refusal(capsys, "export", many, "--format=onnx", "--int8")


def test_a_teacher_gives_the_probability_of_each_class(many, sets, tmp_path, capsys):
    teacher = [f"--data.path={sets}", f"--model.distill.teacher={many}", "--model.distill.check=false", "--plain"]
    assert fit(*teacher, "--model.distill.objective=soft", "--trainer.max_epochs=1") == 0
    assert 0 < read_summary(only_run(tmp_path))["metrics"]["val/map"] <= 1
    assert "objective hard: it learns the teacher's top class" in refusal(capsys, "fit", *QUICK, *teacher)
    cache = ["--model.distill.objective=soft", "--model.distill.cache=c"]
    assert "Leave it out: the teacher then runs" in refusal(capsys, "fit", *QUICK, *teacher, *cache)


@pytest.mark.parametrize(
    ("flags", "words", "cure"),
    [
        (["--data.sampler=balanced"], "draws images by their class, and these", ["--model.class_weights=balanced"]),
        (["--model.loss=cross_entropy"], "model.loss cross_entropy: it is of one label", ["--model.loss=asymmetric"]),
        (["--model.many_labels=false"], "it has any number of labels for an image, and the model is for one", []),
        (["--monitor=val/acc1"], "monitor val/acc1: not logged here", ["--monitor=val/f1_micro"]),
        (["--data.label_separator=|"], "only a column of text is parted" , []),
    ],
)  # fmt: skip
def test_what_does_not_fit_many_labels_is_refused_and_cured(flags, words, cure, sets, capsys):
    path = [f"--data.path={sets}", "--data.label_column=labels", "--trainer.fast_dev_run=1", "--plain"]
    assert words in refusal(capsys, "fit", *QUICK, *path, *flags)
    assert fit(*path, *cure) == 0


def test_checkpoints_of_the_other_kind_are_refused(many, sets, run, capsys):
    message = refusal(capsys, "validate", f"--ckpt_path={many}", "--data.path=digits")
    assert "it has one label for each image, and the model is for any number of labels for an image" in message
    message = refusal(capsys, "validate", f"--ckpt_path={run}", f"--data.path={sets}")
    assert "it has any number of labels for an image, and the model is for one label" in message
    message = refusal(capsys, "validate", f"--ckpt_path={many}", "--calibrate")
    assert "calibrate true: it is about the one class of an image" in message
    assert fit(f"--data.path={sets}", f"--model.init_from={run}", "--trainer.fast_dev_run=1", "--plain") == 0
    assert "re-initialized head (10 classes in the source, 3 here)" in capsys.readouterr().out
