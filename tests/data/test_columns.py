"""Labels of any kind become class indices, the same in all splits."""

import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, Value

from shvit_pl.data.columns import encode_labels, label_column
from shvit_pl.errors import UserError


def labelled(labels, feature):
    return Dataset.from_dict(
        {"first": range(len(labels)), "label": labels, "last": range(len(labels))},
        features=Features({"first": Value("int64"), "label": feature, "last": Value("int64")}),
    )


@pytest.mark.parametrize(
    ("labels", "kind", "names", "indices"),
    [
        (["dog", "cat", "dog"], "string", ["cat", "dog"], [1, 0, 1]),
        (["dog", "cat"], "large_string", ["cat", "dog"], [1, 0]),
        ([10, 2, 2, 33], "int64", ["2", "10", "33"], [1, 0, 0, 2]),
        ([-1, 1, -1], "int8", ["-1", "1"], [0, 1, 0]),
        ([True, False], "bool", ["False", "True"], [1, 0]),
    ],
)
def test_labels_are_numbered_in_their_own_order(labels, kind, names, indices):
    encoded, found = encode_labels(DatasetDict(train=labelled(labels, Value(kind))), "label")
    rows = encoded["train"]
    assert found == names
    assert rows["label"][:] == indices
    assert rows.features["label"] == ClassLabel(names=names)
    assert rows.column_names == ["first", "label", "last"]


def test_validation_may_lack_a_class_that_only_texts_name():
    splits = DatasetDict(
        train=labelled(["cat", "dog", "eel"], Value("string")), validation=labelled(["eel", "cat"], Value("string"))
    )
    encoded, names = encode_labels(splits, "label")
    assert names == ["cat", "dog", "eel"]
    assert encoded["validation"]["label"][:] == [2, 0]


def test_encoding_leaves_the_other_columns_where_they_are():
    rows = labelled(["cat", "dog"] * 100, Value("string"))
    encoded, _ = encode_labels(DatasetDict(train=rows), "label")
    before, after = (data.data.column("first").chunk(0).buffers()[1].address for data in (rows, encoded["train"]))
    assert before == after


@pytest.mark.parametrize(
    ("labels", "feature"),
    [([-1] * 3, ClassLabel(names=["a", "b"])), ([None] * 3, Value("string")), ([-1] * 3, Value("int64"))],
    ids=str,
)
def test_a_split_without_labels_is_left_out(labels, feature):
    splits = DatasetDict(train=labelled([0, 1], ClassLabel(names=["a", "b"])), test=labelled(labels, feature))
    encoded, names = encode_labels(splits, "label")
    assert list(encoded) == ["train"]
    assert names == ["a", "b"]


def test_a_plain_column_called_label_is_taken_unless_another_calls_itself_one():
    kinds = {"image": Image(), "label": Value("string"), "caption": Value("string")}
    assert label_column(Features(kinds)) == "label"
    with pytest.raises(UserError, match=r"several columns hold class labels \(label, coarse_label\)"):
        label_column(Features({**kinds, "coarse_label": Value("string")}))
