"""validate, test and predict take a run's checkpoint, and need nothing else."""

import csv
import json
import shutil

import pytest

from shvit_pl.cli import main
from shvit_pl.runs.folder import read_summary
from tests.cli.runs import fit
from tests.data.opening import open_dataset


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    assert (
        fit(f"--trainer.default_root_dir={root}", "--trainer.limit_train_batches=40", "--trainer.limit_val_batches=1.0")
        == 0
    )
    return root / "tiny" / "version_0"


def best(run):
    return f"--ckpt_path={run / 'checkpoints' / 'best.ckpt'}"


@pytest.mark.parametrize(("command", "prefix"), [("validate", "val"), ("test", "test")])
def test_validate_and_test_measure_the_checkpoint_on_its_own_data(run, command, prefix, capsys, tmp_path):
    assert main([command, best(run)]) == 0
    expected = read_summary(run)["metrics"]["val/acc1"]
    printed = capsys.readouterr().out
    assert f"{prefix}/acc1" in printed
    assert str(expected)[:7] in printed
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["validate", "test"])
def test_data_that_was_not_trained_on_is_measured_whole(run, command, tmp_path, capsys):
    open_dataset("digits")["train"].select(range(30)).to_parquet(tmp_path / "other.parquet")
    assert main([command, best(run), "--data.path=other.parquet"]) == 0
    assert "other.parquet: all 30 images of the split 'train'" in capsys.readouterr().out


def test_predict_writes_file_label_probability_and_top_5_of_a_folder_of_images(run, tmp_path):
    rows = open_dataset("digits")["train"]
    (tmp_path / "images").mkdir()
    for number in range(7):
        rows[number]["image"].save(tmp_path / "images" / f"{number}.png")
    assert main(["predict", best(run), "--data.path=images"]) == 0
    written = list(csv.DictReader((tmp_path / "predictions.csv").open()))
    assert [row["file"].rsplit("/", 1)[1] for row in written] == [f"{number}.png" for number in range(7)]
    for row in written:
        top5 = json.loads(row["top5"])
        assert len(top5) == 5
        assert row["label"] == max(top5, key=top5.get)
        assert float(row["probability"]) == pytest.approx(top5[row["label"]], abs=1e-4)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "predictions.csv"]


def test_predict_takes_a_dataset_too_and_another_file(run, tmp_path):
    assert main(["predict", best(run), "--output=all.csv"]) == 0
    labels = [row["label"] for row in csv.DictReader((tmp_path / "all.csv").open())]
    truth = [str(label) for label in open_dataset("digits")["train"]["label"]]
    accuracy = sum(a == b for a, b in zip(labels, truth, strict=True)) / len(truth)
    assert len(labels) == 1797
    assert accuracy > 0.3


def test_columns_of_the_data_trained_on_are_not_asked_of_other_data(tmp_path):
    rows = open_dataset("digits")["train"].select(range(200)).rename_columns({"image": "picture", "label": "digit"})
    rows.to_parquet(tmp_path / "rows.parquet")
    assert fit("--data.path=rows.parquet", "--data.image_column=picture", "--data.label_column=digit") == 0
    checkpoint = "--ckpt_path=runs/tiny/version_0/checkpoints/last.ckpt"
    assert main(["validate", checkpoint]) == 0
    assert main(["validate", checkpoint, "--data.path=digits", "--trainer.limit_val_batches=1"]) == 0


@pytest.mark.parametrize("output", [".", "nowhere/all.csv"])
def test_an_output_that_is_no_file_is_refused_before_anything_is_read(run, output, capsys):
    assert main(["predict", best(run), f"--output={output}"]) == 2
    assert f"output {output!r}" in capsys.readouterr().err


def test_resuming_on_data_of_other_classes_is_refused(run, image_folder, capsys):
    assert fit(best(run), "--allow_changes=true", f"--data.path={image_folder}", "--data.batch_size=4") == 2
    assert "2 classes (blue, red, ...), the model 10" in capsys.readouterr().err


def test_a_flag_wins_over_what_the_checkpoint_says(run, capsys):
    assert main(["validate", best(run), "--data.image_size=128", "--trainer.limit_val_batches=1"]) == 0
    assert main(["validate", best(run), "--data.image_size=32"]) == 2
    assert "data.image_size 32" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["fit", "validate"])
def test_a_checkpoint_of_another_design_is_refused(run, command, capsys):
    flags = ["--config=s1.yaml", "--allow_changes=true"] if command == "fit" else ["--model.design.stage1=attention"]
    assert main([command, *flags, best(run)]) == 2
    assert "another model.design" in capsys.readouterr().err


def test_data_of_other_classes_is_refused(run, image_folder, capsys):
    assert main(["validate", best(run), f"--data.path={image_folder}"]) == 2
    assert "2 classes (blue, red, ...), the model 10" in capsys.readouterr().err


def test_a_broken_image_is_named_and_no_predictions_are_left(run, tmp_path, capsys):
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "broken.png").write_bytes(b"no image")
    assert main(["predict", best(run), "--data.path=images", "--data.num_workers=0"]) == 2
    assert "broken.png" in capsys.readouterr().err
    assert not (tmp_path / "predictions.csv").exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".predictions")]


def test_weights_to_start_from_are_loaded_and_the_report_is_kept(run, image_folder, tmp_path):
    flags = [
        f"--data.path={image_folder}",
        "--data.batch_size=4",
        f"--model.init_from={run / 'checkpoints' / 'best.ckpt'}",
    ]
    assert fit(*flags, "--run_name=tuned") == 0
    summary = read_summary(tmp_path / "runs" / "tuned" / "version_0")
    assert summary["classes"] == ["blue", "red"]
    assert "re-initialized head (10 classes in the source, 2 here)" in summary["init"]
