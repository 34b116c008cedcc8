"""Which rows train, validate and are tested, and how labels of any kind become the same class indices in all splits."""

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, Value

from shvit_pl import HFImageDataModule
from shvit_pl.data.splits import class_counts, divide, encode_labels, label_column
from tests.data.pictures import ready, rows
from tests.refusals import refused

AB, ABC = ClassLabel(names=["a", "b"]), ClassLabel(names=["a", "b", "c"])
HELD_OUT = "no validation split: 20% of 'train' held out (seed 0)"
ON_VAL = "validation on the split 'val'"
LEFT_OUT = "; the split '{}' has no labels and is left out"
FULL = {"train_split": "full", "validation_split": "val"}


def counts(data):
    chosen = data.chosen.by_stage
    return len(chosen["train"]), len(chosen["validate"]), len(chosen.get("test", ()))


def test_the_validation_share_is_stratified_seeded_and_named_and_a_train_fraction_keeps_it():
    def validated(data):
        return data.chosen.by_stage["validate"]["label"][:]

    first, few = ready(), ready(train_fraction=0.1)
    assert (counts(first), counts(few)) == ((1437, 360, 0), (144, 360, 0))
    assert HELD_OUT in first.chosen.note
    assert validated(first) == validated(few) != validated(ready(split_seed=1))
    assert np.bincount(validated(first)).min() >= 34


@pytest.mark.parametrize(
    ("splits", "settings", "expected", "note"),
    [
        ({"train": [0, 1] * 6, "val": [0, 1] * 2}, {}, (12, 4, 0), ON_VAL),
        ({"train": [0, 1] * 10, "test": [0, 1] * 3}, {}, (16, 4, 6), HELD_OUT),
        ({"train": [0, 1] * 6, "val": [0, 1], "test": [-1] * 3}, {}, (12, 2, 0), ON_VAL + LEFT_OUT.format("test")),
        ({"train": [0, 1] * 10, "validation": [-1] * 3}, {}, (16, 4, 0), HELD_OUT + LEFT_OUT.format("validation")),
        ({"train": [0], "validation": [0], "full": [0, 1] * 6, "val": [0, 1] * 2}, FULL, (12, 4, 0), ON_VAL),
        ({"train": [0, 1] * 10, "unlabeled": [-1, 0] * 3}, {}, (16, 4, 0), HELD_OUT),  # what is not used may be wrong
    ],
)
def test_which_splits_are_used_and_why(splits, settings, expected, note, tmp_path):
    DatasetDict({name: rows(labels) for name, labels in splits.items()}).save_to_disk(tmp_path)
    data = ready(path=str(tmp_path), **settings)
    assert counts(data) == expected
    assert data.chosen.note == note


TRAIN, FEW, SOME = {"train": [0, 1] * 8}, [0, 1] * 2, [0, 1] * 3
NO_TEST = "there is no test split, and"
CHOSEN = f"{NO_TEST} the validation images have chosen the checkpoint. Measure the validation images by shvit-pl valid"


@pytest.mark.parametrize(
    ("splits", "settings", "trained_on", "other"),
    [
        (TRAIN, {}, CHOSEN, "all 16 images of the split 'train'"),
        (TRAIN | {"validation": FEW}, {}, CHOSEN, f"{NO_TEST} the splits are train, validation"),
        (TRAIN | {"dev": FEW}, {}, CHOSEN, f"{NO_TEST} the splits are train, dev"),
        (TRAIN | {"extra": FEW}, {}, CHOSEN, f"{NO_TEST} the splits are train, extra"),
        ({"validation": FEW}, {}, f"{NO_TEST} the splits are validation", f"{NO_TEST} the splits are validation"),
        ({"test": SOME}, {}, "all 6 images of the split 'test'", "all 6 images of the split 'test'"),
        (
            TRAIN | {"validation": FEW, "test": SOME},
            {},
            "all 6 images of the split 'test'",
            "all 6 images of the split 'test'",
        ),
        (
            TRAIN | {"validation": FEW},
            {"validation_split": "validation"},
            "all 4 images of the split 'validation'",
            "all 4 images of the split 'validation'",
        ),
        (
            TRAIN | {"validation": FEW, "test": [-1] * 3},
            {},
            "no test split with labels",
            "no row of the split 'test' has a label",
        ),
    ],
)
@pytest.mark.parametrize("held_out", [True, False])
def test_validation_images_are_none_for_test(splits, settings, trained_on, other, held_out, tmp_path):
    DatasetDict({name: rows(labels) for name, labels in splits.items()}).save_to_disk(tmp_path)
    data = HFImageDataModule(path=str(tmp_path), image_size=32, batch_size=4, num_workers=0, **settings)
    data.held_out, expected = held_out, trained_on if held_out else other
    if expected.startswith("all"):
        data.setup("test")
        assert data.chosen.note == expected
        assert f"all {sum(len(batch['label']) for batch in data.test_dataloader())} " in expected
    else:
        with refused(expected):
            data.setup("test")


@pytest.mark.parametrize("streams", [{}, {"streaming": True, "steps_per_epoch": 1}])
def test_after_a_fit_only_the_test_split_is_measured_and_validation_stays(streams, tmp_path):
    parts = {**TRAIN, "mine": FEW}
    for name, more in (("without", {}), ("with", {"test": SOME})):
        DatasetDict({key: rows(labels) for key, labels in {**parts, **more}.items()}).save_to_disk(tmp_path / name)
    data = ready(path=str(tmp_path / "without"), validation_split="mine", **streams)
    with refused(CHOSEN):
        data.test_dataloader()
    data = ready(path=str(tmp_path / "with"), validation_split="mine", **streams)
    data.setup("test")
    assert sum(len(batch["label"]) for batch in data.test_dataloader()) == 6
    assert data.chosen.note == ("the split 'test', streamed" if streams else "all 6 images of the split 'test'")
    assert sum(len(batch["label"]) for batch in data.val_dataloader()) == 4


def test_a_column_of_labels_is_chosen_by_name_and_other_splits_may_have_other_classes(tmp_path):
    fine = rows([0, 1] * 6, fine=([0, 1] * 6, ClassLabel(names=["x", "y"])))
    extra = rows([2], ABC, fine=([2], ABC))
    DatasetDict(train=fine, extra=extra).save_to_disk(tmp_path)
    assert ready(path=str(tmp_path), label_column="fine").class_names == ["x", "y"]


@pytest.mark.parametrize("seed", [0, 7])
def test_the_division_is_the_stratified_one_of_datasets_where_no_class_has_one_image_alone(seed):
    data = rows([0] * 31 + [1] * 17 + [2] * 9, ABC)
    parts = data.train_test_split(test_size=0.3, seed=seed, stratify_by_column="label")
    for ours, theirs in zip(divide(data, 0.3, "label", seed), (parts["train"], parts["test"]), strict=True):
        assert ours._indices.equals(theirs._indices)
    assert [len(part) for part in divide(rows([0] * 9 + [1]), 0.2, "label", seed)] == [8, 2]


# ---- labels


def labeled(labels, feature):
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
def test_labels_are_numbered_in_their_own_order_and_other_columns_stay(labels, kind, names, indices):
    rows = labeled(labels, Value(kind))
    splits, found = encode_labels(DatasetDict(train=rows), "label")
    encoded = splits["train"]
    assert (found, encoded["label"][:]) == (names, indices)
    assert encoded.features["label"] == ClassLabel(names=names)
    assert encoded.column_names == ["first", "label", "last"]
    before, after = (data.data.column("first").chunk(0).buffers()[1].address for data in (rows, encoded))
    assert before == after


def test_validation_may_lack_a_class_that_only_texts_name():
    train, validation = (labeled(labels, Value("string")) for labels in (["cat", "dog", "eel"], ["eel", "cat"]))
    encoded, names = encode_labels(DatasetDict(train=train, validation=validation), "label")
    assert names == ["cat", "dog", "eel"]
    assert encoded["validation"]["label"][:] == [2, 0]


@pytest.mark.parametrize(
    ("labels", "feature"), [([-1] * 3, AB), ([None] * 3, Value("string")), ([-1] * 3, Value("int64"))], ids=str
)
def test_a_split_without_labels_is_left_out(labels, feature):
    splits = DatasetDict(train=labeled([0, 1], AB), test=labeled(labels, feature))
    encoded, names = encode_labels(splits, "label")
    assert (list(encoded), names) == (["train"], ["a", "b"])


def test_a_plain_column_called_label_is_taken_unless_another_calls_itself_one():
    kinds = {"image": Image(), "label": Value("string"), "caption": Value("string")}
    assert label_column(Features(kinds), "image") == "label"
    with refused("several columns hold class labels (label, coarse_label)"):
        label_column(Features({**kinds, "coarse_label": Value("string")}), "image")


@pytest.mark.parametrize("feature", [ClassLabel(names=["dog", "ant"]), Value("string")], ids=str)
def test_to_measure_a_model_its_classes_are_found_by_name_and_absent_ones_are_named(feature, tmp_path):
    labels = [0, 1, 0] if isinstance(feature, ClassLabel) else ["dog", "ant", "dog"]
    DatasetDict(test=rows(labels, feature)).save_to_disk(tmp_path)
    data = HFImageDataModule(path=str(tmp_path), image_size=32, batch_size=4, num_workers=0)
    data.held_out, data.known_classes = False, ["ant", "bee", "dog", "eel"]
    data.setup("test")
    (batch,) = data.test_dataloader()
    assert (data.class_names, batch["label"].tolist()) == (data.known_classes, [2, 0, 2])
    assert data.chosen.note == "all 3 images of the split 'test'; no image of bee, eel"


@pytest.mark.parametrize(
    ("counts", "held_out"),
    [
        ([20, 20, 1], [4, 4, 0]),
        ([20, 10, 1, 1], [4, 2, 0, 0]),
        ([8, 4, 1], [2, 1, 0]),
        ([10, 1, 10, 1, 10], [2, 0, 2, 0, 2]),
    ],
)
def test_a_class_of_a_single_image_is_trained_on_and_the_others_keep_their_shares(counts, held_out):
    labels = [label for label, count in enumerate(counts) for _ in range(count)]
    data = Dataset.from_dict({"label": labels})
    trained, validated = divide(data, sum(held_out) / len(labels), "label", seed=0)
    assert class_counts(validated, "label", len(counts)) == held_out
    assert class_counts(trained, "label", len(counts)) == [
        count - out for count, out in zip(counts, held_out, strict=True)
    ]
    fewer, kept = divide(data, 0.5, "label", seed=0, flag="data.train_fraction", trained=1)
    assert all(class_counts(kept, "label", len(counts))[label] == 1 for label, count in enumerate(counts) if count == 1)
    assert len(fewer) + len(kept) == len(labels)
