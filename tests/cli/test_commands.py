"""validate, test and predict take a run's checkpoint, and need nothing else."""

import csv
import json
import re
from functools import partial
from pathlib import Path

import pytest
import timm
import torch
from datasets import DatasetDict

from shvit_pl import HFImageDataModule, load_weights
from shvit_pl.callbacks import inference
from shvit_pl.cli import main
from shvit_pl.deploy import optimization
from shvit_pl.models import create_model
from shvit_pl.runs.folder import read_summary
from tests.cli.runs import content, fit, metrics, only_run, weights
from tests.data.pictures import open_dataset

SHORTEST = ("--trainer.max_epochs=1", "--trainer.limit_train_batches=1", "--trainer.limit_val_batches=1")


def best(run):
    return f"--ckpt_path={run / 'checkpoints' / 'best.ckpt'}"


def predictions(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_weights_and_average_are_measured_on_the_runs_own_held_out_images_or_on_all_of_other_data(
    run, capsys, tmp_path, refused
):
    assert main(["validate", best(run)]) == 0
    printed = capsys.readouterr().out
    for name, value in read_summary(run)["metrics"].items():
        assert name in printed
        assert "loss" in name or f"{value:.4f}" in printed
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.json"]
    refused([best(run)], "data.path 'digits'", "no test split", "shvit-pl validate", command="test")
    open_dataset("digits")["train"].select(range(30)).to_parquet(tmp_path / "other.parquet")
    for command, prefix in (("validate", "val"), ("test", "test")):
        assert main([command, best(run), "--data.path=other.parquet", "--data.image_size=128"]) == 0  # a flag wins
        printed = capsys.readouterr().out
        assert "other.parquet: all 30 images of the split 'train'" in printed
        assert f"{prefix}/acc1_ema" in printed


def test_test_measures_a_test_split_or_what_is_named_never_validation_images(tmp_path, capsys, refused):
    rows = open_dataset("digits")["train"]
    parts = {"train": rows.select(range(100)), "validation": rows.select(range(100, 112))}
    DatasetDict(parts).save_to_disk("own")
    DatasetDict(parts | {"test": rows.select(range(200, 209))}).save_to_disk("other")
    Path("linked").symlink_to("own")
    assert fit("--data.path=own", "--data.image_size=64", *SHORTEST) == 0
    run = only_run(tmp_path)
    refusal = "there is no test split, and the validation images have chosen the checkpoint"
    for way in ("--ckpt_path", "--model.init_from"):
        weights_of = f"{way}={run}"
        for path in ("own", "./own/", "linked"):
            refused([weights_of, f"--data.path={path}"], refusal, "shvit-pl validate", command="test")
        DatasetDict(parts).save_to_disk("halves")
        words = "there is no test split, and the splits are train, validation"
        refused([weights_of, "--data.path=halves"], words, "shvit-pl validate", command="test")
        named = ["--data.path=halves", "--data.validation_split=validation"]
        for flags, split, count in (
            (["--data.path=other"], "test", 9),
            (named, "validation", 12),
            (["--data.path=own", *named[1:]], "validation", 12),
        ):
            assert main(["test", weights_of, "--model.design.name=tiny", "--data.image_size=64", *flags]) == 0
            assert f"all {count} images of the split '{split}'" in capsys.readouterr().out
            written = json.loads(Path("metrics.json").read_text())
            assert (written["data"]["images"][:6], written["data"]["count"]) == (f"all {count} "[:6], count)
            assert "test/acc1" in written["metrics"]
    DatasetDict(parts | {"test": rows.select(range(200, 209))}).save_to_disk("own")
    assert main(["test", f"--ckpt_path={run}"]) == 0
    assert "own: all 9 images of the split 'test'" in capsys.readouterr().out


def test_a_run_that_is_given_as_weights_brings_its_design_and_data_as_a_checkpoint_does(run, tmp_path):
    for name, source in (("one", best(run)), ("two", f"--model.init_from={run}")):
        assert main(["validate", source, f"--output={name}.json"]) == 0
    one, two = (json.loads((tmp_path / f"{name}.json").read_text())["metrics"] for name in ("one", "two"))
    assert two["val/acc1"] == one["val/acc1"]


@pytest.mark.parametrize("plain", [True, False])
def test_what_is_measured_is_printed_in_four_digits_and_written_with_its_weights_and_data(plain, run, tmp_path, capsys):
    assert main(["validate", best(run), f"--plain={str(plain).lower()}", "--output=here.json"]) == 0
    written, printed = json.loads((tmp_path / "here.json").read_text()), capsys.readouterr().out
    assert written["metrics"].keys() >= {"val/acc1", "val/loss", "val/acc5", "val/acc1_ema"}
    assert written["weights"] == best(run).partition("=")[2]
    assert written["data"]["path"] == "digits"
    assert "held out" in written["data"]["images"]
    assert written["data"]["count"] == 360
    assert written["command"].startswith("shvit-pl validate")
    for name, value in written["metrics"].items():
        assert f"{name}{':' if plain else ''}" in printed
        assert f" {value:.4f}" in printed
    assert not any(line in printed for line in "\u2500\u2501\u2502")  # no box
    assert [path.name for path in tmp_path.iterdir()] == ["here.json"]


def test_predict_writes_file_label_probability_and_top_5_of_a_folder_of_images(run, tmp_path):
    rows = open_dataset("digits")["train"]
    (tmp_path / "images").mkdir()
    for number in range(7):
        rows[number]["image"].save(tmp_path / "images" / f"{number}.png")
    assert main(["predict", best(run), "--data.path=images"]) == 0
    written = predictions(tmp_path / "predictions.csv")
    assert [row["file"].rsplit("/", 1)[1] for row in written] == [f"{number}.png" for number in range(7)]
    for row in written:
        top5 = json.loads(row["top5"])
        assert len(top5) == 5
        assert row["label"] == max(top5, key=top5.get)
        assert float(row["probability"]) == pytest.approx(top5[row["label"]], abs=1e-4)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "predictions.csv"]


def test_predict_names_a_broken_image_without_a_label_and_strict_refuses_it(run, tmp_path, capsys):
    rows = open_dataset("digits")["train"]
    (tmp_path / "images").mkdir()
    for number in range(4):
        rows[number]["image"].save(tmp_path / "images" / f"{number}.png")
    (tmp_path / "images" / "1.png").write_bytes(b"no image")
    assert main(["predict", f"--ckpt_path={run}", "--data.path=images"]) == 0  # a run folder
    printed = capsys.readouterr().out
    assert "4 rows in predictions.csv; 1 image can't be decoded: no label (" in printed
    assert "images: 4 images; 4 images used" in printed
    written = predictions(tmp_path / "predictions.csv")
    assert [row["file"].rsplit("/", 1)[1] for row in written] == [f"{number}.png" for number in range(4)]
    assert [bool(row["label"]) for row in written] == [True, False, True, True]
    assert main(["predict", f"--ckpt_path={run}", "--data.path=images/0.png", "--output=one.csv"]) == 0
    (one,) = predictions(tmp_path / "one.csv")
    assert one == written[0]
    (tmp_path / "images" / "0.png").write_bytes(b"no image")
    (tmp_path / "images" / "9.heic").touch()
    few = ["--data.batch_size=2", "--output=no.csv"]  # all batches count
    assert main(["predict", best(run), "--data.path=images", "--strict=true", *few]) == 2
    assert "3 of 5 images can't be decoded, and --strict true allows none: " in capsys.readouterr().err
    for name in ("2.png", "3.png"):
        (tmp_path / "images" / name).unlink()
    assert main(["predict", best(run), "--data.path=images", *few]) == 2
    printed = capsys.readouterr()
    assert "images: 3 images; 2 images used; left out: 1 of a format that can't be read (9.heic)" in printed.out
    assert "data.path 'images': 3 of 3 images can't be decoded: " in printed.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "one.csv", "predictions.csv"]


def test_predict_takes_a_dataset_another_file_and_the_average_where_it_is_asked_for(run, tmp_path):
    few = ["--model.use_ema=true", "--trainer.limit_predict_batches=1"]
    for flags in (["--output=weights.csv"], ["--output=average.csv", *few]):
        assert main(["predict", best(run), *flags]) == 0
    rows = predictions(tmp_path / "weights.csv")
    truth = [str(label) for label in open_dataset("digits")["train"]["label"]]
    assert len(rows) == 1797
    assert sum(row["label"] == label for row, label in zip(rows, truth, strict=True)) / 1797 > 0.3
    network = create_model("tiny", num_classes=10).eval()
    load_weights(network, run / "checkpoints" / "best.ckpt", averaged=True)
    prepared = timm.data.resolve_model_data_config(network)
    assert (prepared["input_size"], prepared["crop_pct"]) == ((3, 64, 64), 1.0)
    assert network.pretrained_cfg["label_names"] == [str(number) for number in range(10)]
    data = HFImageDataModule(image_size=64, crop_pct=1.0, batch_size=16, num_workers=0)
    data.setup("predict")
    batch = data.on_after_batch_transfer(next(iter(data.predict_dataloader())), 0)
    with torch.no_grad():
        expected = network(batch["image"]).softmax(dim=-1).max(dim=-1).values.tolist()
    averaged = predictions(tmp_path / "average.csv")
    assert [float(row["probability"]) for row in averaged] == pytest.approx(expected, abs=2e-4)
    assert [row["probability"] for row in averaged] != [row["probability"] for row in rows[:16]]


@pytest.mark.slow
def test_columns_of_the_data_trained_on_are_not_asked_of_other_data(tmp_path):
    rows = open_dataset("digits")["train"].select(range(200)).rename_columns({"image": "picture", "label": "digit"})
    rows.to_parquet(tmp_path / "rows.parquet")
    assert fit("--data.path=rows.parquet", "--data.image_column=picture", "--data.label_column=digit") == 0
    for flags in ([], ["--data.path=digits", "--trainer.limit_val_batches=1"]):
        assert main(["validate", best(only_run(tmp_path)), *flags]) == 0


def test_other_data_and_outputs_are_refused(run, image_folder, refused, tmp_path):
    classes = "2 classes (blue; red), the model 10"
    few = [
        "--model.ema.decay=0.9",
        "--data.batch_size=4",
        "--allow_changes=true",
        "--extend_to=9",
        "--trainer.max_epochs=9",
    ]
    refused([f"--ckpt_path={run}", *few, f"--data.path={image_folder}"], classes)
    refused([best(run), f"--data.path={image_folder}"], classes, command="validate")
    refused([best(run), "--data.image_size=32"], "data.image_size 32", command="validate")
    for output in (".", "new/", "new/.", "nowhere/all.csv"):
        refused([best(run), f"--output={output}"], f"output {output!r}", command="predict")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "broken.png").write_bytes(b"no image")
    refused([best(run), "--data.path=broken", "--data.num_workers=0", "--strict=true"], "broken.png", command="predict")


def test_weights_to_start_from_are_loaded_and_the_report_is_kept(run, image_folder, tmp_path):
    start = f"--model.init_from={run / 'checkpoints' / 'best.ckpt'}"
    assert fit(f"--data.path={image_folder}", "--data.batch_size=4", start, *SHORTEST) == 0
    summary = read_summary(only_run(tmp_path))
    assert summary["classes"] == ["blue", "red"]
    assert "re-initialized head (10 classes in the source, 2 here)" in summary["init"]


def test_a_run_starts_from_averaged_weights_where_it_is_asked_for(run, tmp_path):
    start = [f"--model.init_from={run / 'checkpoints' / 'best.ckpt'}", "--model.use_ema=true"]
    still = ["--model.optim.lr=1e-30", "--model.optim.warmup_lr=0", "--model.optim.min_lr=0", "--model.freeze_bn=true"]
    assert fit(*start, *still, "--trainer.max_epochs=1", "--trainer.limit_train_batches=1") == 0
    after = weights(only_run(tmp_path), "best")
    for key, expected in weights(run, "best").items():
        if key.startswith("ema.module."):
            assert torch.equal(after[f"model.{key.removeprefix('ema.module.')}"], expected), key


@pytest.mark.slow
def test_the_best_checkpoint_is_that_of_the_monitored_metric(tmp_path):
    assert fit("--model.ema.decay=0.9", "--monitor=val/acc1_ema", "--trainer.max_epochs=4") == 0
    averaged, summary = list(map(float, metrics(only_run(tmp_path), "val/acc1_ema"))), read_summary(only_run(tmp_path))
    assert summary["monitor"] == "val/acc1_ema"
    assert summary["metrics"]["val/acc1_ema"] == pytest.approx(max(averaged))
    best_epoch = content(only_run(tmp_path), "best")["epoch"]
    assert best_epoch == averaged.index(max(averaged)) == summary["best_epoch"] - 1


@pytest.mark.slow
def test_optimized_predictions_and_metrics_stay(run, tmp_path, capsys, monkeypatch):
    """With all but the compiler itself, which tests/deploy/test_optimization.py runs."""
    sizes, found, measured, small = [], [], [], ["--data.batch_size=50", "--trainer.limit_predict_batches=3"]

    def uncompiled(graph, images, options):
        return lambda batch: sizes.append(len(batch)) or graph(batch)

    monkeypatch.setattr(optimization, "inductor_compile", uncompiled)
    monkeypatch.setattr(optimization, "recipes", lambda device: [optimization.Recipe("convolutions")])
    monkeypatch.setattr(inference, "optimize", partial(optimization.optimize, seconds=0.01))
    for flags in (["--optimize"], []):
        assert main(["predict", best(run), *small, "--model.use_ema=true", *flags]) == 0
        found.append(predictions(tmp_path / "predictions.csv"))
    printed = capsys.readouterr().out
    assert printed.count("optimizing for batches of 50x3x64x64") == 1
    assert "compared with the plain network's on 50 images of the data, and on noise" in printed
    for flags in (["--optimize"], []):
        assert main(["validate", best(run), "--plain=true", "--data.batch_size=50", *flags]) == 0
        measured.append(re.findall(r"val/acc\w+\W+([\d.]+)", capsys.readouterr().out))
    assert set(sizes) == {50}  # the last batch is padded
    for optimized, plain in zip(*found, strict=True):
        assert (optimized["file"], optimized["label"]) == (plain["file"], plain["label"])
        assert float(optimized["probability"]) == pytest.approx(float(plain["probability"]), abs=2e-4)
    assert len(measured[1]) == 6  # top-1, top-5 and macro, of both weights
    assert measured[0] == measured[1]
