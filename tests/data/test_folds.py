"""Folds and groups: which rows train and validate, by hand, and beside scikit-learn's."""

import numpy as np
import pytest
from datasets import DatasetDict, Value
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from shvit_pl.data.folds import fold_of_rows, held_out_rows
from tests.data.pictures import ready, rows
from tests.refusals import refused

TEXT, NUMBER = Value("string"), Value("int64")


def patients(tmp_path, labels, groups, kind=TEXT, **splits):
    """A dataset with a column of patients; further splits as (labels, patients)."""
    every = {"train": (labels, groups), **splits}
    DatasetDict({name: rows(own, patient=(of, kind)) for name, (own, of) in every.items()}).save_to_disk(tmp_path)
    return {"path": str(tmp_path), "batch_size": 2}


def of(data, stage):
    return data.chosen.by_stage[stage]["patient"][:]


def test_rows_of_each_class_are_dealt_to_the_folds_in_turn():
    labels = np.array([0, 0, 0, 1, 1, 1, 1, 1])  # 3 and 5 rows to 3 folds: 1 1 1, then 2 2 1
    folds = fold_of_rows(labels, 3, seed=0)
    table = [[int(((folds == fold) & (labels == label)).sum()) for label in (0, 1)] for fold in range(3)]
    assert table == [[1, 2], [1, 2], [1, 1]]
    shuffled = np.random.default_rng(0).permutation(8)
    first = [row for row in shuffled if labels[row] == 0] + [row for row in shuffled if labels[row] == 1]
    assert [int(folds[row]) for row in first] == [0, 1, 2, 0, 1, 2, 0, 1]
    assert (fold_of_rows(labels, 3, seed=0) == folds).all()
    assert (fold_of_rows(labels, 3, seed=1) != folds).any()


def test_folds_have_the_numbers_of_each_class_that_scikit_learns_have():
    labels = np.random.default_rng(3).integers(0, 7, 500)
    ours = fold_of_rows(labels, 6, seed=0)
    theirs = [held for _, held in StratifiedKFold(6, shuffle=True, random_state=0).split(labels, labels)]
    counts = [
        np.stack([np.bincount(labels[part]) for part in parts])  # (folds, classes)
        for parts in ([ours == fold for fold in range(6)], theirs)
    ]
    assert (np.sort(counts[0], axis=0) == np.sort(counts[1], axis=0)).all()
    assert sorted(counts[0].sum(axis=1)) == sorted(counts[1].sum(axis=1)) == [83, 83, 83, 83, 84, 84]


def test_groups_go_where_the_classes_shares_then_vary_least():
    # counts of classes 0 and 1 by group: A 4 0, B 0 3, C 2 0, D 0 1; they differ most in A, then B, C, D.
    # A to fold 0; B would add to class 1 alike in both, and fold 1 is smaller; C: to 1, where class 0 then has 4 and 2;
    # D: to 0, where class 1 then has 1 and 3
    groups = np.array([0] * 4 + [1] * 3 + [2] * 2 + [3])
    labels = np.array([0] * 4 + [1] * 3 + [0] * 2 + [1])
    folds = fold_of_rows(labels, 2, seed=0, groups=groups)
    assert [int(folds[groups == group][0]) for group in range(4)] == [0, 1, 1, 0]


@pytest.mark.parametrize("seed", range(3))
def test_groups_are_folded_as_scikit_learn_folds_them(seed):
    generator = np.random.default_rng(seed)
    sizes = generator.permutation(np.arange(3, 43)) * 5  # no two groups are alike, so that nothing is shuffled
    groups = np.repeat(np.arange(40), sizes)
    labels = (generator.random(len(groups)) < np.repeat(generator.random(40), sizes)).astype(int)
    counts = np.stack([np.bincount(labels[groups == group], minlength=2) for group in range(40)])
    spread = np.abs(counts[:, 0] - counts[:, 1])
    kept = np.isin(groups, [group for group in range(40) if (spread == spread[group]).sum() == 1])
    groups, labels = np.unique(groups[kept], return_inverse=True)[1], labels[kept]
    theirs = [held for _, held in StratifiedGroupKFold(4).split(labels, labels, groups)]
    folds = fold_of_rows(labels, 4, seed, groups)
    ours = [np.flatnonzero(folds == fold) for fold in range(4)]  # the first group goes to any fold, as all are empty
    assert sorted(part.tolist() for part in ours) == sorted(part.tolist() for part in theirs)


@pytest.mark.parametrize(
    ("sizes", "fraction", "held"),
    [
        ([4, 3, 3, 2], 0.5, 6),  # of 12: 4 + 2, or 3 + 3
        ([6, 3, 3], 0.5, 6),
        ([5, 3, 2], 0.4, 3),  # of 10, for 4: 3 and 5 are as near
        ([9, 1], 0.2, 1),
        ([5, 5], 0.01, 5),  # a whole group at least
        ([5, 4], 0.99, 5),  # and a group is trained on
    ],
)
def test_the_groups_held_out_are_as_near_to_the_share_as_any(sizes, fraction, held):
    groups = np.repeat(np.arange(len(sizes)), sizes)
    for seed in range(5):
        chosen = held_out_rows(np.zeros(len(groups), dtype=int), groups, fraction, seed)
        assert chosen.sum() == held
        assert not set(groups[chosen]) & set(groups[~chosen])


def test_of_parts_of_one_size_that_with_the_classes_shares_is_held_out():
    groups = np.repeat(np.arange(4), 4)
    labels = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1])  # only the second group has both
    chosen = held_out_rows(labels, groups, 0.25, seed=0)
    assert set(groups[chosen]) == {1}


def test_no_patient_is_trained_on_and_validated(tmp_path):
    settings = patients(tmp_path, [0, 1] * 10, [f"p{row // 2}" for row in range(20)])
    data = ready(split_by="patient", **settings)
    assert data.chosen.note == "no validation split: 2 of 10 groups by patient held out, 20% of 'train' (seed 0)"
    assert not set(of(data, "train")) & set(of(data, "validate"))
    other = ready(split_by="patient", split_seed=1, **settings)
    assert of(other, "validate") != of(data, "validate") == of(ready(split_by="patient", **settings), "validate")


def test_every_patient_is_validated_in_one_fold_and_in_no_other(tmp_path):
    settings = patients(tmp_path, [0, 1] * 9, [7, 7, 8, 8, 9, 9] * 3, NUMBER)
    folds = [ready(split_by="patient", fold=f"{number}/3", **settings) for number in (1, 2, 3)]
    assert sorted(of(data, "validate") for data in folds) == [[7] * 6, [8] * 6, [9] * 6]
    assert all(len(of(data, "train")) == 12 for data in folds)
    assert folds[1].chosen.note == "validation on fold 2/3 of 'train', 3 groups by patient kept whole (seed 0)"
    facts = folds[1].facts()
    assert (facts["fold"], facts["split_by"]) == ("2/3", "patient")


def test_a_fold_leaves_the_validation_split_for_the_test(tmp_path):
    settings = patients(tmp_path, [0, 1] * 6, ["a", "b"] * 6, validation=([0, 1], ["c", "c"]))
    data = ready(fold="1/4", **settings)
    assert (
        data.chosen.note
        == "validation on fold 1/4 of 'train' (seed 0); the split 'validation' is left for shvit-pl test"
    )
    assert {stage: len(part) for stage, part in data.chosen.by_stage.items()} == {"train": 9, "validate": 3, "test": 2}
    data.setup("test")
    assert data.chosen.note == "all 2 images of the split 'validation'"


def test_groups_in_two_splits_are_refused_in_validation_and_told_in_the_test(tmp_path):
    settings = patients(
        tmp_path, [0, 1] * 4, ["a", "b", "c", "d"] * 2, validation=([0, 1], ["c", "b"]), test=([0, 1], ["a", "e"])
    )
    with refused(
        "data.split_by 'patient': 2 groups are in both 'train' and 'validation' (b, c). Divide ... --data.fold 1/5"
    ):
        ready(split_by="patient", **settings)
    data = ready(split_by="patient", fold="1/4", **settings)
    assert data.chosen.note.endswith("(seed 0); 1 groups of 'test' are also in 'train' (a)")
    apart = patients(tmp_path / "apart", [0, 1] * 4, ["a", "b"] * 4, validation=([0, 1], ["c", "c"]))
    note = ready(split_by="patient", **apart).chosen.note
    assert note == "validation on the split 'validation', which shares no patient with 'train'"


def test_a_class_of_one_group_is_told_where_it_is_not_trained_on(tmp_path):
    settings = patients(tmp_path, [0, 0, 0, 0, 1, 1], ["a", "a", "b", "b", "c", "c"])
    notes = [ready(split_by="patient", fold=f"{number}/3", **settings).chosen.note for number in (1, 2, 3)]
    assert sum(note.endswith("; no image of b is trained on") for note in notes) == 1


STREAM = {"streaming": True, "steps_per_epoch": 2}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        *(
            ({"fold": fold}, f"data.fold {fold!r}: allowed is a fold and the number of folds ... 1/{k} to {k}/{k}")
            for fold, k in (("1/1", 5), ("0/5", 5), ("6/5", 5), ("2", 5), ("a/b", 5), ("-1/3", 5), ("5/4", 4), ("", 5))
        ),
        ({"fold": "1/5", **STREAM}, "data.fold 1/5: a stream can't be divided. ... --data.streaming false"),
        ({"split_by": "x", **STREAM}, "data.split_by x: a stream can't be divided."),
        ({"fold": "1/5", "validation_split": "val"}, "data.validation_split 'val': with ... (--data.fold null)"),
        ({"fold": "1/2000"}, "data.fold '1/2000': 'train' has only 1797 images; ... up to 1797 folds, such as 1/1797"),
        ({"split_by": "patient"}, "data.split_by 'patient': no such column; ... give a table with one (CSV)"),
        ({"split_by": "label"}, "data.split_by 'label': it holds no groups; besides"),
    ],
    ids=str,
)  # fmt: skip
def test_folds_that_are_impossible_are_refused(settings, words):
    with refused(words):
        ready(**settings)


def test_groups_that_are_impossible_are_refused(tmp_path):
    one = patients(tmp_path / "one", [0, 1] * 2, ["a"] * 4)
    with refused("data.split_by 'patient': all images of 'train' are of one group, so none can be held out"):
        ready(split_by="patient", **one)
    two = patients(tmp_path / "two", [0, 1] * 2, ["a", "b"] * 2)
    with refused("data.fold '1/3': 'train' has only 2 groups by patient; allowed are up to 2 folds, such as 1/2."):
        ready(split_by="patient", fold="1/3", **two)
    none = patients(tmp_path / "none", [0, 1] * 2, ["a", None, "b", None])
    with refused("data.split_by 'patient': 2 of 4 rows have no group, the first of them is row 2. Give each one"):
        ready(split_by="patient", **none)
    real = patients(tmp_path / "real", [0, 1] * 2, [0.5, 0.5, 1.5, 1.5], Value("float32"))
    with refused("data.split_by 'patient': contains float32, where a text or whole number is needed."):
        ready(split_by="patient", **real)
    with refused("data.split_by 'patents': no such column (did you mean 'patient'?) ... give one of patient."):
        ready(split_by="patents", **two)
