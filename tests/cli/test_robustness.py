"""What `validate`, `fit` and `predict` measure beyond accuracy: what is kept of it, and who may ask for it."""

import csv
import json
import shutil
from dataclasses import asdict

import numpy as np
import pytest
import torch
from PIL import Image

from shvit_pl.callbacks.robustness import finish, with_corruptions
from shvit_pl.cli import main
from shvit_pl.data.config import CORRUPTIONS
from shvit_pl.modules.reliability import Calibration, fit_temperature
from tests.cli.runs import QUICK, fit, only_run

FEW = ["--data.num_workers=0", "--data.batch_size=16", "--trainer.limit_val_batches=4", "--plain"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run with averaged weights whose end was measured on two corruptions."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        flags = ("--corruptions=contrast,gaussian_noise", "--model.ema.decay=0.5", "--monitor=val/acc1_ema")
        assert fit(f"--trainer.default_root_dir={folder / 'runs'}", *flags) == 0
    return only_run(folder)


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


@pytest.fixture
def noise(tmp_path):
    """A folder of images that show nothing."""
    folder = tmp_path / "noise"
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(6):
        Image.fromarray(random.integers(0, 256, (40, 40, 3), np.uint8)).save(folder / f"{number}.png")
    (folder / "broken.png").write_bytes(b"no image")
    return folder


def validate(run, *flags):
    return main(["validate", str(run), *FEW, *flags])


def measured(run):
    return json.loads((run / "robustness.json").read_text())


def test_the_end_of_a_fit_is_measured_by_the_best_weights_and_its_mean_is_a_metric(trained):
    summary, kept = json.loads((trained / "summary.json").read_text()), measured(trained)
    assert kept["of"] == {"checkpoint": "best.ckpt", "averaged": True, "steps": 8}
    accuracy = kept["corruptions"]["accuracy"]
    assert list(accuracy) == ["gaussian_noise", "contrast"]
    mean = sum(value for row in accuracy.values() for value in row) / 10
    assert summary["metrics"]["val/corrupted_acc1_ema"] == pytest.approx(mean)
    assert kept["corruptions"]["clean"] == summary["metrics"]["val/acc1_ema"]
    with (trained / "figures" / "corruptions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["corruption"] for row in rows] == ["none", "gaussian_noise", "contrast"]
    assert [float(rows[1][strength]) for strength in "12345"] == accuracy["gaussian_noise"]
    with Image.open(trained / "figures" / "robustness.png") as figure:
        assert len(np.unique(np.asarray(figure.convert("RGB")).reshape(-1, 3), axis=0)) > 20


def test_validate_finds_what_fit_found_for_the_same_weights(run, tmp_path):
    before = measured(run)["corruptions"]
    assert validate(run, "--model.use_ema=true", "--corruptions=gaussian_noise,contrast", "--data.num_workers=1") == 0
    assert measured(run)["corruptions"] == before


def test_the_training_is_the_same_with_corruptions_and_without(trained, tmp_path):
    assert fit("--trainer.default_root_dir=runs", "--model.ema.decay=0.5", "--monitor=val/acc1_ema") == 0
    ours, theirs = (
        torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
        for run in (only_run(tmp_path), trained)
    )
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_one_validation_measures_all_and_predict_divides_by_the_temperature(run, noise, capsys):
    others = f"--out_of_distribution={noise}"
    assert validate(run, others, "--tta=five_crop", "--calibrate", "--corruptions=fog") == 0
    shown = capsys.readouterr().out
    assert validate(run, "--tta=flip", "--plain") == 0
    kept = measured(run)
    assert kept["of"]["averaged"] is False
    assert list(kept["corruptions"]["accuracy"]) == ["fog"]
    assert {name: row["views"] for name, row in kept["tta"].items()} == {"five_crop": 5, "flip": 2}
    (told,) = kept["out_of_distribution"].values()
    assert told["images"] == 6  # the broken one is left out
    assert all(0 <= told[score][key] <= 1 for score in ("max_softmax", "energy") for key in ("auroc", "fpr95"))
    for words in ("fog: ", "five_crop: top-1 ", "AUROC ", "temperature: ", "calibration error: ", "mean of all: "):
        assert shown.count(f"beyond accuracy: {words}" if words != "AUROC " else words) >= 1, words
    temperature = kept["calibration"]["temperature"]
    tables = []
    for flags in ([], ["--calibrated"]):
        assert main(["predict", str(run), "--data.num_workers=0", "--trainer.limit_predict_batches=1", *flags]) == 0
        with open("predictions.csv") as file:
            tables.append(list(csv.DictReader(file)))
    plain, divided = ([float(row["probability"]) for row in rows] for rows in tables)
    assert [row["label"] for row in tables[0]] == [row["label"] for row in tables[1]]
    assert (np.mean(divided) > np.mean(plain)) == (temperature < 1)
    assert plain != divided


def test_the_temperature_is_that_of_the_validation_images(run):
    assert validate(run, "--calibrate") == 0
    found = measured(run)["calibration"]
    logits, labels = logits_of(run)
    assert found["images"] == len(labels) == 64
    assert found["temperature"] == pytest.approx(fit_temperature(logits, labels), rel=1e-3)
    assert found["nll_before"] == pytest.approx(float(torch.nn.functional.cross_entropy(logits, labels)), abs=1e-4)


def logits_of(run):
    from shvit_pl.data.datamodule import HFImageDataModule
    from shvit_pl.models.open_network import open_network

    opened = open_network(str(run / "checkpoints" / "best.ckpt"), averaged=False)
    data = HFImageDataModule(**{**opened.data, "num_workers": 0, "batch_size": 64})
    batch = next(iter(data.val_dataloader()))
    batch = data.on_after_batch_transfer(batch, 0)
    with torch.inference_mode():
        return opened.model(batch["image"]), batch["label"]


def test_what_was_measured_of_other_weights_is_not_kept(run):
    assert "corruptions" in measured(run)
    assert validate(run, "--calibrate") == 0  # of the raw weights
    assert measured(run).keys() == {"of", "calibration"}


def test_corruptions_of_the_same_images_are_kept_together():
    before = {"data": "d", "images": 9, "clean": 0.9, "accuracy": {"fog": [0.5] * 5}, "mean": 0.5}
    now = {**before, "accuracy": {"snow": [0.7] * 5}, "mean": 0.7}
    together = with_corruptions(before, now)
    assert list(together["accuracy"]) == ["snow", "fog"]
    assert together["mean"] == pytest.approx(0.6)
    assert with_corruptions(before, {**now, "images": 8})["accuracy"] == now["accuracy"]
    assert with_corruptions(None, now) == now


def test_a_bare_flag_is_all_of_them_on_the_images_of_the_limit(run):
    assert validate(run, "--corruptions", "--trainer.limit_val_batches=1") == 0
    assert measured(run)["corruptions"]["images"] == 16
    assert list(measured(run)["corruptions"]["accuracy"]) == list(CORRUPTIONS)


@pytest.mark.parametrize(("temperature", "kept"), [(0.0501, False), (19.95, False), (1.5, True)])
def test_a_temperature_at_its_limit_is_not_kept(temperature, kept, tmp_path, capsys):
    found = asdict(Calibration(temperature, 0.2, 0.1, 0.5, 0.4, images=10))
    finish(tmp_path, {"of": {}, "calibration": found}, {"calibration": found}, "raw", plain=True)
    assert ("calibration" in json.loads((tmp_path / "robustness.json").read_text())) is kept
    assert ("no temperature is kept" in capsys.readouterr().out) is not kept


@pytest.mark.parametrize(
    ("command", "flags", "words", "cure"),
    [
        ("validate", ["--corruptions=fgo"], "corruptions 'fgo': no such corruption (did you mean 'fog'?)", "=fog"),
        ("validate", ["--corruptions=[]"], "no such corruption", "=fog"),
        ("test", ["--corruptions"], "corruptions all: for fit and validate alone; leave it out", None),
        ("predict", ["--tta=flip"], "tta flip: for validate alone; leave it out", None),
        ("validate", ["--calibrated"], "calibrated true: for predict alone; leave it out", None),
        ("validate", ["--tta=flop"], "tta flop: allowed are flip, five_crop", None),
        ("validate", ["--out_of_distribution=digits"], "these are the images that the network knows", None),
        ("validate", ["--out_of_distribution=nowhere"], "out_of_distribution 'nowhere'", None),
        ("validate", ["--tta=flip", "--optimize"], "optimize compiles for the data's own batches", None),
        ("validate", ["--validate", "calibrate"], "--validate: no such flag", None),
        ("validate", ["calibrate"], "calibrate: no flag takes this (did you mean '--calibrate'?)", None),
        ("predict", ["--calibrated"], "no temperature was found ... --calibrate", None),
    ],
)
def test_a_mistake_is_one_message(command, flags, words, cure, trained, refused):
    refused([f"--ckpt_path={trained}", *flags], *words.split(" ... "), command=command)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--corruptions", "--trainer.limit_val_batches=0"], "leaves no images to measure"),
        (["--corruptions", "--trainer.enable_checkpointing=false"], "best.ckpt is measured"),
        (
            [
                "--corruptions=fog",
                "--data.streaming=true",
                "--data.steps_per_epoch=4",
                "--trainer.limit_train_batches=null",
            ],
            "reads the images again",
        ),
        (["--calibrate"], "calibrate true: for validate alone; leave it out"),
    ],
)
def test_a_fit_that_could_not_be_measured_is_refused(flags, words, refused):
    refused(flags, words)


@pytest.mark.parametrize("flag", ["--corruptions", "--tta=flip", "--calibrate", "--out_of_distribution=x"])
def test_detectors_have_none_of_it(flag, capsys):
    assert main(["fit", "--config=detection/retinanet_tiny.yaml", flag]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "for networks that classify images; leave it out" in error


def test_a_temperature_belongs_to_a_run(trained, refused):
    weights = str(trained / "checkpoints" / "best.ckpt")
    flags = ["--data.path=digits", "--data.num_workers=0", "--trainer.limit_predict_batches=1"]
    refused([*flags, f"--model.init_from={weights}", "--calibrated"], "give --ckpt_path RUN_FOLDER", command="predict")
    assert validate(trained, "--model.use_ema=true", "--calibrate") == 0
    assert main(["predict", f"--ckpt_path={trained}", *flags, "--model.use_ema=true", "--calibrated"]) == 0


def test_the_temperature_that_is_missing_is_found_by_the_command_of_the_message(run, capsys):
    predict = ["predict", str(run), "--data.num_workers=0", "--trainer.limit_predict_batches=1", "--calibrated"]
    assert main(predict) == 2
    command = capsys.readouterr().err.strip().rpartition("first: shvit-pl ")[2].split()
    assert main([*command, *FEW]) == 0
    assert main(predict) == 0
    assert main([*predict, f"--ckpt_path={run / 'checkpoints' / 'last.ckpt'}"]) == 2
    assert "last.ckpt" in capsys.readouterr().err


def test_what_a_fit_measures_at_its_end_is_planned():
    from shvit_pl.fit.check import FitCheck

    check = FitCheck(QUICK)
    assert "val/corrupted_acc1" not in check.open(QUICK).metrics
    assert check.open([*QUICK, "--corruptions=fog"]).metrics[-1] == "val/corrupted_acc1"
    assert check.settings([*QUICK, "--corruptions=fog"])["corruptions"] == "fog"
    assert "corruptions" not in check.settings(QUICK)
