"""Images that can't be decoded: skipped, counted and named; more than one in a hundred stops the run."""

import csv

import pytest
from datasets import ClassLabel, Dataset, Features, Image

from shvit_pl.cli import main
from shvit_pl.runs.folder import read_summary
from tests.cli.runs import QUICK, fit
from tests.data.opening import open_dataset

WHOLE = ["--trainer.limit_train_batches=1000", "--trainer.limit_val_batches=1000", "--trainer.max_epochs=1"]


def rows_with_broken(path, numbers, count=320):
    """The first digits as parquet, some of them with bytes that are no image."""
    digits = open_dataset("digits")["train"].select(range(count)).cast_column("image", Image(decode=False))
    rows = digits.to_list()
    for number in numbers:
        rows[number]["image"] = {"bytes": b"torn", "path": f"torn-{number}.png"}
    features = Features(image=Image(), label=digits.features["label"])
    Dataset.from_list(rows, features=features).to_parquet(path)
    return f"--data.path={path}"


@pytest.mark.parametrize("workers", [0, 1])
def test_few_broken_images_are_named_once_and_counted(tmp_path, workers, capsys, caplog):
    path = rows_with_broken(tmp_path / "rows.parquet", [5])
    assert fit(*WHOLE, path, f"--data.num_workers={workers}", "--trainer.max_epochs=2") == 0
    assert caplog.text.count("torn-5.png") == 1
    summary = read_summary(tmp_path / "runs" / "tiny" / "version_0")
    assert summary["broken_images"] == 1
    assert summary["steps_trained"] == 2 * (256 // 16)  # batches keep their size
    assert "broken images" in capsys.readouterr().out


def test_broken_images_count_in_no_metric(tmp_path, capsys):
    whole, torn = rows_with_broken(tmp_path / "whole.parquet", []), rows_with_broken(tmp_path / "torn.parquet", [319])
    assert fit(*WHOLE, whole) == 0
    checkpoint = f"--ckpt_path={tmp_path / 'runs' / 'tiny' / 'version_0' / 'checkpoints' / 'last.ckpt'}"
    Dataset.from_parquet(str(tmp_path / "whole.parquet")).select(
        range(319)  # so that batches are the same, and round alike
    ).to_parquet(tmp_path / "without.parquet")
    printed = []
    for path in (torn, f"--data.path={tmp_path / 'without.parquet'}"):
        capsys.readouterr()
        assert main(["validate", checkpoint, path]) == 0
        printed.append([line for line in capsys.readouterr().out.splitlines() if "val/" in line])
    assert printed[0] == printed[1]


def test_more_than_one_in_a_hundred_stops_the_run_with_their_names(tmp_path, capsys):
    path = rows_with_broken(tmp_path / "rows.parquet", range(20, 40))
    assert fit(*WHOLE, path) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("shvit-pl fit: error: data.path: ")
    assert "torn-" in error
    assert "more than 1% stops a run" in error


def test_predictions_leave_them_out(tmp_path):
    assert fit("--trainer.max_epochs=1") == 0
    path = rows_with_broken(tmp_path / "rows.parquet", [3], count=150)
    checkpoint = f"--ckpt_path={tmp_path / 'runs' / 'tiny' / 'version_0' / 'checkpoints' / 'last.ckpt'}"
    assert main(["predict", checkpoint, path]) == 0
    rows = list(csv.DictReader((tmp_path / "predictions.csv").open()))
    assert len(rows) == 149
    assert not [row for row in rows if "torn" in row["file"]]


def test_rows_without_an_image_are_broken_too(tmp_path):
    features = Features(image=Image(), label=ClassLabel(names=["a", "b"]))
    rows = open_dataset("digits")["train"].select(range(200)).cast_column("image", Image(decode=False)).to_list()
    rows = [{"image": row["image"], "label": number % 2} for number, row in enumerate(rows)]
    rows[9]["image"] = None
    Dataset.from_list(rows, features=features).to_parquet(tmp_path / "rows.parquet")
    assert main(["fit", *QUICK, *WHOLE, f"--data.path={tmp_path / 'rows.parquet'}"]) == 0
    assert read_summary(tmp_path / "runs" / "tiny" / "version_0")["broken_images"] == 1
