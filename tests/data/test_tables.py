"""Tables of paths and labels: delimiters, roots, splits, and all that is missing, counted, before a run."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.data.pictures import ready
from tests.refusals import refused

NAMES = ["1.png", "2, blue.png", "3 green.png", "4.png"]


@pytest.fixture
def folder(tmp_path):
    """Images of 1 to 4 in gray, in a folder of their own."""
    for number, name in enumerate(NAMES, start=1):
        (tmp_path / "images").mkdir(exist_ok=True)
        Image.fromarray(np.full((40, 40), number, np.uint8)).save(tmp_path / "images" / name)
    return tmp_path


def table(path, lines, encoding="utf-8"):
    path.write_text("\n".join(lines) + "\n", encoding=encoding)
    return str(path)


def opened(path, stage="validate", **settings):
    """The names of images and classes of all rows."""
    data = ready(stage, path=path, **settings)
    rows = data.chosen.by_stage[stage]
    names = [image["path"].rpartition("/")[2] for image in rows["image" if "image" in rows.features else "path"][:]]
    return names, [data.class_names[label] for label in rows["label"][:]]


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
@pytest.mark.parametrize("space", ["", " "])
def test_the_delimiter_is_seen_in_the_header_and_names_are_quoted_or_follow_a_space(mark, space, folder):
    quoted = [f'"images/{name}"' for name in NAMES]
    lines = [f"{path}{mark}{space}{label}" for path, label in zip(["path", *quoted], ["label", *"abab"], strict=True)]
    path = table(folder / "t.csv", lines, "utf-8-sig")  # with a byte order mark
    assert opened(path) == (NAMES, list("abab"))


def test_a_delimiter_that_can_not_be_seen_is_given(folder):
    path = table(folder / "t.csv", ["path#label,of,animal", "images/1.png#1", "images/4.png#2"])
    settings = {"delimiter": "#", "label_column": "label,of,animal"}
    data = ready("validate", path=path, **settings)
    assert (len(data.chosen.by_stage["validate"]), data.class_names) == (2, ["1", "2"])
    tab = table(folder / "t.txt.csv", ["path\tlabel", "images/1.png\ta"])
    assert opened(tab, delimiter="tab") == (["1.png"], ["a"])


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_relative_paths_begin_at_the_root_and_absolute_ones_are_as_they_are(kind, folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("tables")
    frame = pd.DataFrame({"path": ["1.png", str(folder / "images" / "4.png")], "label": ["a", "b"]})
    write = {
        "csv": lambda path: frame.to_csv(path, index=False),
        "tsv": lambda path: frame.to_csv(path, index=False, sep="\t"),
        "jsonl": lambda path: frame.to_json(path, orient="records", lines=True),
        "parquet": frame.to_parquet,
    }
    write[kind](elsewhere / f"t.{kind}")
    path, root = str(elsewhere / f"t.{kind}"), str(folder / "images")
    assert opened(path, root=root) == (["1.png", "4.png"], ["a", "b"])
    with refused("1 of 2 paths in the column 'path' of 'train' lead to no file; ... 1.png, in row 1. ... --data.root"):
        opened(path)


def test_a_wrong_delimiter_is_refused_with_the_right_one(folder):
    path = table(folder / "t.csv", ["path,label", "images/1.png,a"])
    with refused("data.delimiter ';': it isn't in the header of ... Leave it out, or give --data.delimiter ','."):
        opened(path, delimiter=";")
    assert opened(path, delimiter=",") == opened(path) == (["1.png"], ["a"])


def test_a_column_or_the_names_of_files_divide_a_table_into_splits(folder):
    lines = ["path,label,split", *(f'"images/{name}",{label},{split}' for name, label, split in
             zip(NAMES, "abab", ["train", "train", "val", "val"], strict=True))]  # fmt: skip
    one = ready(path=table(folder / "t.csv", lines), batch_size=2)
    (folder / "apart").mkdir()
    for split in ("train", "val"):
        own = [line.rpartition(",")[0] for line in lines if line.endswith(split)]
        table(folder / "apart" / f"{split}.csv", ["path,label", *own])
    several = ready(path=str(folder / "apart"), root=str(folder), batch_size=2)
    for data in (one, several):
        assert data.chosen.note == "validation on the split 'validation'"
        assert {stage: len(rows) for stage, rows in data.chosen.by_stage.items()} == {"train": 2, "validate": 2}


def test_an_image_is_read_when_it_is_drawn_and_not_before(folder):
    (folder / "images" / "4.png").write_bytes(b"")  # is there, and broken
    path = table(folder / "t.csv", ["path,label", "images/1.png,a", "images/4.png,b"])
    assert opened(path) == (["1.png", "4.png"], ["a", "b"])


@pytest.mark.parametrize(
    ("lines", "settings", "words"),
    [
        (
            ["images/1.png,a", "gone/2.png,b", ",a"], {},
            "2 of 3 paths in the column 'path' of 'train' lead to no file; the first is ... gone/2.png, in row 2",
        ),
        (["images/1.png,a", ",b"], {}, "1 of 2 paths ... lead to no file; the first is empty, in row 2."),
        (
            ["images/1.png,a", "https://a.org/2.png,b", "s3://b/3.png,b"], {},
            "2 of 3 paths in the column 'path' are addresses; the first is https://a.org/2.png, in row 2.",
        ),
        (["images/1.png,a", "images/4.png,"], {}, "has rows without a label, 1 of 2; the first is row 2. Remove"),
        (["images/1.png,a"], {"root": "nowhere"}, "data.root 'nowhere': no such folder."),
        (["images/1.png,a"], {"delimiter": ";"}, "data.delimiter ';': it isn't in ... --data.delimiter ','"),
        (["images/1.png,a"], {"delimiter": ";;"}, "data.delimiter ';;': allowed is one character, such as "),
        (["images/1.png,a"], {"delimiter": ""}, "data.delimiter '': allowed is one character"),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_missing_is_counted_and_named(lines, settings, words, folder):
    path = table(folder / "t.csv", ["path,label", *lines])
    with refused(words):
        ready("validate", path=path, **settings)


@pytest.mark.parametrize("flag", ["root", "delimiter"])
def test_settings_of_tables_are_refused_where_there_is_none(flag, folder):
    value = {"root": str(folder), "delimiter": ","}[flag]
    for number, name in enumerate(NAMES):
        (folder / "images" / "ab"[number % 2]).mkdir(exist_ok=True)
        (folder / "images" / name).rename(folder / "images" / "ab"[number % 2] / name)
    for path in (str(folder / "images"), "digits"):
        with refused(f"data.{flag} {value!r}: for ", f"and {path!r} is none; leave it out."):
            ready("validate", path=path, **{flag: value})
