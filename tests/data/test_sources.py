"""Several datasets as one: classes by name, in the datasets' order, and each one's own splits."""

import json

import pytest
from datasets import ClassLabel, DatasetDict, Value

from shvit_pl import HFImageDataModule
from shvit_pl.cli import main
from shvit_pl.hub.card import write_card
from shvit_pl.hub.target import Target
from shvit_pl.runs.folder import FinishedRun
from tests.cli.runs import QUICK, only_run
from tests.data.pictures import images, ready, rows, saved
from tests.refusals import refused

PETS = ClassLabel(names=["dog", "cat"])


@pytest.fixture
def three(tmp_path):
    """A folder of 6 cats and 4 birds, a table of 2 cats, 1 dog and 1 bird, and a saved dataset of 3 dogs and 2 cats."""
    folder = images(*(f"cat/{n}.png" for n in range(6)), *(f"bird/{n}.png" for n in range(4)))(tmp_path / "folder")
    labels = [("cat", 0), ("cat", 1), ("dog", 2), ("bird", 3)]
    table = tmp_path / "more.csv"
    table.write_text("file;animal\n" + "".join(f"folder/cat/{number}.png;{name}\n" for name, number in labels))
    pets = saved(rows([0, 0, 0, 1, 1], PETS))(tmp_path / "pets")
    return [str(folder), str(table), str(pets)]


def named(data, stage):
    names = data.class_names
    return sorted(names[label] for label in data.chosen.by_stage[stage]["label"][:])


def test_classes_are_joined_by_name_in_the_order_of_the_datasets(three):
    folder, table, pets = three
    table_alone = ready("validate", path=table, label_column="animal")
    assert table_alone.class_names == ["bird", "cat", "dog"]
    data = ready(path=[folder, pets])
    # the folder has bird and cat, in the order of the alphabet; of dog and cat of the second, dog is new
    assert data.class_names == ["bird", "cat", "dog"]
    assert ready(path=[pets, folder]).class_names == ["dog", "cat", "bird"]
    every = named(data, "train") + named(data, "validate")
    assert sorted(every) == ["bird"] * 4 + ["cat"] * 8 + ["dog"] * 3
    assert data.chosen.note == "no validation split: 20% of 'train' held out (seed 0)"
    assert data.facts()["sources"] == [
        {"path": folder, "commit": None, "images": 10, "classes": 2, "lacks": ["dog"]},
        {"path": pets, "commit": None, "images": 5, "classes": 2, "lacks": ["bird"]},
    ]
    assert data.table(data.facts())["source 2"] == f"{pets}: 5 images, 2 classes, without bird"
    assert ready(path=[folder]).config.path == folder
    assert HFImageDataModule([folder, pets], image_size=32).config.path == [folder, pets]


def test_each_has_its_own_validation_images_and_one_without_has_some_held_out(tmp_path, three):
    split = str(
        saved(rows([0, 1] * 4, PETS), validation=rows([0, 1, 1], PETS), test=rows([1], PETS))(tmp_path / "split")
    )
    more = str(saved(rows([0, 1] * 3, PETS), dev=rows([0, 0], PETS))(tmp_path / "dev"))
    both = ready(path=[split, more])
    assert {stage: len(part) for stage, part in both.chosen.by_stage.items()} == {"train": 14, "validate": 5, "test": 1}
    assert both.chosen.note == "validation on the split 'validation'"
    mixed = ready(path=[split, three[0]])  # of the folder's ten images, two
    assert {stage: len(part) for stage, part in mixed.chosen.by_stage.items()} == {
        "train": 16,
        "validate": 5,
        "test": 1,
    }
    assert named(mixed, "validate") == ["bird", "cat", "cat", "cat", "dog"]
    assert mixed.chosen.note == f"validation on the split 'validation'; 20% of {three[0]} held out (seed 0)"
    folded = ready(path=[split, three[0]], fold="1/3")
    # the 8 + 10 training images are folded, and what one of the two has for validation and test is left alone
    assert {stage: len(part) for stage, part in folded.chosen.by_stage.items()} == {
        "train": 12,
        "validate": 6,
        "test": 1,
    }


def test_a_group_that_two_datasets_have_is_one(tmp_path):
    for name, of in (("a", ["p", "p", "q", "q"]), ("b", ["q", "q", "r", "r"])):
        part = rows([0, 1, 0, 1], PETS, patient=(of, Value("string")))
        DatasetDict(train=part).save_to_disk(tmp_path / name)
    paths = [str(tmp_path / "a"), str(tmp_path / "b")]
    folds = [ready(path=paths, split_by="patient", fold=f"{n}/3", batch_size=2).chosen.by_stage for n in (1, 2, 3)]
    assert sorted(fold["validate"]["patient"][:] for fold in folds) == [["p"] * 2, ["q"] * 4, ["r"] * 2]


def test_other_data_may_be_several_too(three):
    data = ready("validate", path=three[::2])
    assert (len(data.chosen.by_stage["validate"]), data.class_names) == (15, ["bird", "cat", "dog"])
    data = ready("predict", path=three[::2])
    assert (len(data.chosen.by_stage["predict"]), data.chosen.note) == (15, "15 images")


@pytest.mark.parametrize(
    ("path", "settings", "words"),
    [
        ([], {}, "data.path []: allowed are a dataset, or a list of several"),
        (["digits", ""], {}, "data.path ['digits', '']: allowed are a dataset, or a list of several"),
        (["digits", "digits"], {}, "data.path ['digits', 'digits']: 'digits' is in it twice; its images"),
        (["folder", "./folder/"], {}, "data.path ['folder', './folder/']: 'folder' is in it twice"),
        (["digits", "a"], {"revision": "main"}, "data.revision 'main': it would be of each of 2 datasets"),
        (["digits", "a"], {"name": "plain"}, "data.name 'plain': it would be of each of 2 datasets"),
        (
            ["digits", "a"], {"streaming": True, "steps_per_epoch": 3},
            "data.path ['digits', 'a']: several datasets can't be streamed. Give one, or set --data.streaming false",
        ),
        (["digits", "./gone"], {}, "data.path './gone': no such file or folder."),
        (["digits", "bare"], {}, "data.path ['digits', 'bare'], in 'bare': data.path: no labels. Sort the images"),
        (["digits", "unlabeled"], {}, "in 'unlabeled': data.label_column 'label': no row of the split 'train'"),
        (["digits", "other"], {"label_column": "label"}, "in 'other': data.label_column 'label': no such column"),
        (["digits", "other"], {"split_by": "patient"}, "in 'digits': data.split_by 'patient': no such column"),
    ],
    ids=str,
)  # fmt: skip
def test_what_can_not_be_joined_is_refused(path, settings, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    images("1.png", "2.png")(tmp_path / "bare")
    saved(rows([-1, -1]))(tmp_path / "u")
    (tmp_path / "u" / "data").rename(tmp_path / "unlabeled")
    saved(rows([0, 1]).rename_column("label", "animal"))(tmp_path / "o")
    (tmp_path / "o" / "data").rename(tmp_path / "other")
    with refused(words):
        ready(path=path, **settings)


@pytest.mark.slow
def test_a_run_of_several_is_trained_measured_and_tells_of_each(three, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "200")
    paths = f"[{three[0]}, {three[2]}]"
    root = f"--trainer.default_root_dir={tmp_path / 'runs'}"
    few = ["--data.batch_size=4", "--trainer.max_epochs=1", "--data.augment=none"]
    assert main(["fit", *QUICK, *few, f"--data.path={paths}", root, "--plain=true"]) == 0
    shown = capsys.readouterr().out
    assert f"source 1: {three[0]}: 10 images, 2 classes, without dog" in " ".join(shown.split())
    run = only_run(tmp_path)
    summary = json.loads((run / "summary.json").read_text())
    assert summary["dataset"]["path"] == f"2 datasets: {three[0]} + {three[2]}"
    assert (summary["classes"], len(summary["dataset"]["sources"])) == (["bird", "cat", "dog"], 2)
    write_card(FinishedRun.open(run), tmp_path, Target("me/pets"))
    card = (tmp_path / "README.md").read_text()
    assert f"{three[0]}: 10 images, 2 classes, without dog" in card
    measured = ["validate", f"--ckpt_path={run}", f"--output={tmp_path / 'm.json'}"]
    assert main(measured) == 0
    assert json.loads((tmp_path / "m.json").read_text())["metrics"]["val/acc1"] == summary["metrics"]["val/acc1"]
