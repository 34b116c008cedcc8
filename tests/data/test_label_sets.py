"""Images with any number of labels: every way to store them gives the same lists, and what contradicts is refused."""

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, List, Value
from PIL import Image as PILImage

from shvit_pl.data import label_sets
from shvit_pl.data.splits import class_counts, divide
from tests.data.pictures import ready, saved
from tests.refusals import refused

ABC = List(ClassLabel(names=["a", "b", "c"]))
SETS = [["a"], ["a", "b"], [], ["c"], ["b", "c"], ["a", "b", "c"]]
HOT = [[1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 0, 1], [0, 1, 1], [1, 1, 1]]


def rows(**columns):
    """Images with columns given as (values, feature)."""
    count = len(next(iter(columns.values()))[0])
    values = {"image": [PILImage.new("RGB", (8, 8))] * count, **{name: each[0] for name, each in columns.items()}}
    return Dataset.from_dict(values, features=Features(image=Image(), **{n: each[1] for n, each in columns.items()}))


def columns_of(values=(0, 1), kind="int64"):
    return {name: ([values[hot[n]] for hot in HOT], Value(kind)) for n, name in enumerate("abc")}


INDEX = {"a": 0, "b": 1, "c": 2}
INDICES = [[INDEX[name] for name in labels] for labels in SETS]
FORMS = {
    "ClassLabel": (rows(tags=(INDICES, ABC)), {}),
    "lists of names": (rows(labels=(SETS, List(Value("string")))), {}),
    "in another order": (rows(labels=([labels[::-1] for labels in SETS], List(Value("string")))), {}),
    "named": (rows(tags=(SETS, List(Value("string"))), other=(["x"] * 6, Value("string"))), {"label_column": "tags"}),
    "one-hot": (rows(**columns_of()), {"label_column": ["a", "b", "c"]}),
    "pattern": (rows(**columns_of()), {"label_column": "[abc]"}),
    "bool": (rows(**columns_of((False, True), "bool")), {"label_column": ["a", "b", "c"]}),
    "float": (rows(**columns_of((0.0, 1.0), "float32")), {"label_column": ["a", "b", "c"]}),
    "text": (rows(**columns_of(("False", "True"), "string")), {"label_column": ["a", "b", "c"]}),
    "separated": (rows(label=([" | ".join(labels) for labels in SETS], Value("string"))), {"label_separator": "|"}),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_classes_and_labels(form, tmp_path):
    split, settings = FORMS[form]
    data = ready(path=str(saved(split, validation=split)(tmp_path)), batch_size=6, **settings)
    assert (data.class_names, data.chosen.many_labels) == (["a", "b", "c"], True)
    assert data.per_class() == [3, 3, 3]
    (batch,) = data.val_dataloader()
    assert batch["label"].dtype == torch.float32
    assert batch["label"].tolist() == HOT


def test_csv_with_separators_and_one_hot_columns(tmp_path):
    for number in range(4):
        PILImage.new("RGB", (8, 8)).save(tmp_path / f"{number}.png")
    (tmp_path / "t.csv").write_text("path,tags\n0.png,cat|dog\n1.png,\n2.png,dog\n3.png,cat\n")
    data = ready("validate", path=str(tmp_path / "t.csv"), label_separator="|", label_column="tags")
    assert data.chosen.by_stage["validate"]["tags"][:] == [[0, 1], [], [1], [0]]
    (tmp_path / "t.csv").write_text("path,is_cat,is_dog\n0.png,1,1\n1.png,0,0\n2.png,0,1\n3.png,1,0\n")
    data = ready("validate", path=str(tmp_path / "t.csv"), label_column="is_*")
    assert data.class_names == ["is_cat", "is_dog"]
    assert data.chosen.by_stage["validate"]["is_cat"][:] == [[0, 1], [], [1], [0]]


def test_labels_that_look_separated_are_told_of_the_flag(tmp_path, caplog):
    split = rows(label=(["cat|dog", "dog", "cat", "cat"], Value("string")))
    assert ready("validate", path=str(saved(split)(tmp_path))).class_names == ["cat", "cat|dog", "dog"]
    assert "1 of 3 classes hold '|', such as 'cat|dog'" in caplog.text
    assert "give --data.label_separator '|'" in caplog.text
    data = ready("validate", path=str(tmp_path / "data"), label_separator="|")
    assert data.class_names == ["cat", "dog"]
    assert label_sets.separator_in(["New York, NY", "Salem, OR"]) == ""
    assert label_sets.separator_in(["n01440764, with a synonym", "n01440765, with another"]) == ""


STRINGS = List(Value("string"))
SINGLE = (["a", "b"], Value("string"))


@pytest.mark.parametrize(
    ("splits", "settings", "words", "cure"),
    [
        ({"train": (SETS, STRINGS), "validation": SINGLE}, {}, "single labels, and 'train' holds lists", None),
        ({"train": ([["a", "a"], ["b"]], STRINGS)}, {}, "row 0 of the split 'train' names 'a' twice", None),
        ({"train": ([[0, 1, 0], [1, 1, 0]], List(Value("int64")))}, {}, "'0' twice ... one column per class", None),
        ({"train": ([["a"], None], STRINGS)}, {}, "row 1 of the split 'train' has no list", None),
        ({"train": ([["a"], ["b", None]], STRINGS)}, {}, "has a label that is missing", None),
        ({"train": ([[0.5], [1.5]], List(Value("float64")))}, {}, "lists of float64, where texts or whole", None),
        ({"train": (SETS, STRINGS), "validation": ([["d"]] * 2, STRINGS)}, {}, "have different classes", None),
        ({"train": ([[]] * 6, STRINGS)}, {}, "no row of the split 'train' has a label", None),
        (
            {"train": (SETS, STRINGS)},
            {"label_separator": "|"},
            "it parts a column of text, and there are none",
            {},
        ),
        (
            {"train": (SETS, STRINGS)},
            {"label_separator": "|", "label_column": "label"},
            "the column 'label' holds lists already ... Leave it out",
            {"label_column": "label"},
        ),
    ],
)  # fmt: skip
def test_what_contradicts_is_refused_by_name(splits, settings, words, cure, tmp_path):
    DatasetDict({name: rows(label=column) for name, column in splits.items()}).save_to_disk(tmp_path)
    with refused(words):
        ready(path=str(tmp_path), batch_size=2, **settings)
    if cure is not None:
        assert ready(path=str(tmp_path), batch_size=2, **cure).chosen.many_labels


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (["a", "d"], "data.label_column 'd': no such column"),
        (["a"], "takes 2 columns or more, and it names a"),
        ("x*", "it names none"),
        (["a", "a"], "names 'a' twice"),
        (["a", "b", "odd"], "row 1 of the split 'train' holds 2; a column of a class holds 0 or 1"),
        (["a", "b", "gaps"], "row 0 of the split 'train' holds None"),
    ],
)
def test_columns_that_are_none_of_classes_are_refused(wanted, words, tmp_path):
    odd = {"odd": ([0, 2, 1, 0, 0, 0], Value("int64")), "gaps": ([None, 1, 0, 0, 0, 0], Value("int64"))}
    path = str(saved(rows(**columns_of(), **odd))(tmp_path))
    with refused(words):
        ready(path=path, batch_size=2, label_column=wanted)
    assert ready(path=path, batch_size=2, label_column=["a", "b"]).class_names == ["a", "b"]


def test_a_division_keeps_each_class_share_and_a_single_image_is_trained_on():
    generator = np.random.default_rng(0)
    matrix = generator.random((400, 5)) < [0.5, 0.2, 0.1, 0.05, 0.0]
    matrix[7, 4] = True  # the only image of its class
    lists = [np.flatnonzero(row).tolist() for row in matrix]
    split = Dataset.from_dict({"label": lists}, features=Features(label=List(ClassLabel(num_classes=5))))
    trained, held_out = divide(split, 0.2, "label", seed=0)
    assert len(trained) + len(held_out) == 400
    assert abs(len(held_out) - 80) <= 4
    shares = np.array(class_counts(held_out, "label", 5)[:4]) / matrix.sum(0)[:4]
    assert np.abs(shares - 0.2).max() < 0.06
    assert class_counts(held_out, "label", 5)[4] == 0
    assert divide(split, 0.2, "label", seed=0)[1]["label"][:] == held_out["label"][:]
    assert divide(split, 0.2, "label", seed=1)[1]["label"][:] != held_out["label"][:]
    rest, few = divide(split, 0.25, "label", seed=0, flag="data.train_fraction", trained=1)
    assert abs(len(few) - 100) <= 5
    assert class_counts(few, "label", 5)[4] == 1
    assert len(rest) + len(few) == 400


def test_the_rarest_class_of_each_row_decides_its_fold():
    matrix = np.array([[1, 1, 0], [1, 0, 0], [0, 0, 0], [1, 1, 1], [1, 0, 0]], dtype=bool)
    assert label_sets.rarest(matrix).tolist() == [1, 0, 3, 2, 0]


def test_the_embedded_sets_are_the_same_each_time():
    data = [ready(path="digit_sets", image_size=32) for _ in range(2)]
    first, again = (each.chosen.by_stage for each in data)
    assert first["train"]["image"][:5] == again["train"]["image"][:5]
    assert (len(first["train"]), len(first["validate"])) == (1600, 400)
    # of none to 3 digits 5, 30, 35, 30 %; two of a kind, with chance 1/10, are one label
    expected = [0.05, 0.3 + 0.35 * 0.1 + 0.3 * 0.01, 0.35 * 0.9 + 0.3 * 0.27, 0.3 * 0.72]
    counts = np.bincount([len(labels) for labels in first["train"]["labels"][:]], minlength=4) / 1600
    assert np.abs(counts - expected).max() < 0.02


def test_a_stream_has_lists_of_class_labels_alone(tmp_path):
    split = rows(labels=(INDICES, ABC))
    for name in ("train", "validation"):
        split.to_parquet(tmp_path / f"{name}.parquet")
    stream = {"path": str(tmp_path), "streaming": True, "steps_per_epoch": 1, "batch_size": 6, "num_workers": 0}
    (batch,) = ready(**stream).val_dataloader()
    assert batch["label"].tolist() == HOT
    with refused("data.label_separator '|': a stream has its labels in one column of ClassLabel"):
        ready(**stream, label_separator="|")
