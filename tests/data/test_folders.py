"""What a folder of images means: folders give split and class, files' names never do, and every file is counted."""

import os
import unicodedata

import pytest
from datasets import ClassLabel, Dataset, Features, Image, Value
from PIL import Image as PILImage

from shvit_pl.data.decoding import BrokenImage, decode
from tests.data import pictures
from tests.data.pictures import ready, source
from tests.refusals import refused


def folder(root, *names):
    """Images by these names; those that end in a text's ending hold text."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith((".txt", ".csv", ".json", ".xml", ".md")):
            (root / name).write_text("1\n1\n")
        else:
            PILImage.new("RGB", (8, 8)).save(root / name, format="PNG")
    return root


def opened(path):
    """The classes, the names of each split's images with their class, and the account of files."""
    found = source(path)
    (classes,) = {tuple(rows.features["label"].names) for rows in found.splits.values()}
    splits = {
        split: [(row["image"]["path"].removeprefix(f"{path}/"), classes[row["label"]]) for row in rows]
        for split, rows in found.splits.items()
    }
    return classes, splits, found.files


PAIR = ("cat/1.png", "dog/2.png")
FLAT = [f"{name}/{file}.png" for name in ("cat", "dog") for file in ("1", "test 1", "train_3", "validation")]


CAT_DOG = ("cat", "dog")


@pytest.mark.parametrize(
    ("names", "classes", "splits"),
    [
        (["Training/cat/1.png", "Training/dog/2.png", "Testing/cat/3.png"], CAT_DOG, {"train": 2, "test": 1}),
        (["Train/cat/1.png", "Train/dog/2.png", "Val/cat/3.png"], CAT_DOG, {"train": 2, "validation": 1}),
        (["train/cat/1.png", "train/dog/2.png", "DEV/cat/3.png"], CAT_DOG, {"train": 2, "validation": 1}),
        (["train/cat/a/1.png", "train/dog/b/2.png", "valid/cat/3.png"], CAT_DOG, {"train": 2, "validation": 1}),
        (["train/" + name for name in FLAT], CAT_DOG, {"train": 8}),
        (FLAT, CAT_DOG, {"train": 8}),
        (["bus/1.png", "car/2.png", "train/3.png"], ("bus", "car", "train"), {"train": 3}),
        (["valid/1.png", "invalid/2.png"], ("invalid", "valid"), {"train": 2}),
        (["contest/1.png", "test/2.png", "devices/3.png"], ("contest", "devices", "test"), {"train": 3}),
        (["cat/indoor/1.png", "cat/outdoor/2.png", "dog/indoor/3.png"], CAT_DOG, {"train": 3}),
        (["cat/a/b/1.png", "dog/2.png"], CAT_DOG, {"train": 2}),
        (["train/cat/indoor/1.png", "train/dog/indoor/2.png"], CAT_DOG, {"train": 2}),
        (["e\u0301/1.png", "z/1.png"], ("z", "\u00e9"), {"train": 2}),
    ],
)
def test_splits_are_folders_of_class_folders_by_name_and_a_class_is_the_folder_below(names, classes, splits, tmp_path):
    """Below the root or the split; names of splits are strict, in any case."""
    known, found, files = opened(folder(tmp_path, *names))
    assert {split: len(rows) for split, rows in found.items()} == splits
    assert known == classes
    labels = [(unicodedata.normalize("NFC", name), label) for rows in found.values() for name, label in rows]
    assert all(f"{label}/" in name for name, label in labels)
    assert files == f"{len(names)} images used"


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["Train/cat/1.png", "more/cat/2.png"], "neither split nor class (more) beside Train, which has class folders"),
        (["train_set/cat/1.png", "test_set/cat/2.png"], "neither split nor class (test_set, train_set)"),
        (["train2017/cat/1.png", "val2017/cat/2.png"], "neither split nor class (train2017, val2017)"),
        (["train/cat/1.png", "Training/cat/2.png"], "folders of the same split (Training, train)"),
        (["train/1.png", "test/2.png"], "no labels. Sort the images into one folder per class"),
        (["train2017/1.png", "val2017/2.png"], "no labels. Sort the images into one folder per class"),
        (["1.png", "train_3.png"], "no labels"),
        (["train/cat/1.png", "train/dog/2.png", "val/eel/3.png"], "the validation images have 1 classes ... (eel)"),
        (["data/train/cat/1.png", "data/test/dog/2.png"], "its splits are in data; give that folder"),
        (
            ["cat/train/1.png", "cat/test/2.png", "dog/train/3.png"],
            "splits in class folders (cat/test, cat/train",
        ),
        ([*PAIR, "dog/3.HEIC"], "1 of 3 images are of a format that can't be read, by their endings (dog/3.HEIC)"),
        ([*PAIR, "dog/3.png.bak"], "can't be read, by their endings (dog/3.png.bak)"),
    ],
)
def test_what_can_be_read_in_two_ways_or_not_at_all_is_refused(names, words, tmp_path):
    with refused(words):
        ready(path=str(folder(tmp_path, *names)))


@pytest.mark.parametrize(
    ("names", "left_out"),
    [
        (["stray.png"], "1 outside the class folders (stray.png)"),
        (["cat/deeper/3.png"], ""),
        (["cat/1.txt", "dog/2.txt"], "2 not an image (cat/1.txt, dog/2.txt)"),
        (["cat/1.csv"], "1 not an image (cat/1.csv)"),
        (["cat/1.json"], "1 not an image (cat/1.json)"),
        (["cat/1.xml"], "1 not an image (cat/1.xml)"),
        (["metadata.csv"], "1 not an image (metadata.csv); the metadata has no labels and is ignored"),
        (["eel/1.txt"], "1 not an image (eel/1.txt), 1 folder without images (eel)"),
        (
            [".cache/1.png", "cat/._1.png", "__MACOSX/cat/1.png"],
            "3 hidden (.cache/1.png, __MACOSX/cat/1.png, cat/._1.png)",
        ),
        ([f"{n}.md" for n in range(5)], "5 not an image (0.md, 1.md, 2.md, ...)"),
        (["cat/3", "dog/4.JPEG"], ""),
    ],
)
def test_every_file_is_used_or_named_with_the_reason(names, left_out, tmp_path):
    classes, found, files = opened(folder(tmp_path, *PAIR, *names))
    used = len(found["train"])
    assert classes == ("cat", "dog")
    assert files.startswith(f"{used} images used" + (f"; left out: {left_out}" if left_out else ""))
    files_left_out = left_out.split(", 1 folder")[0]
    assert len(PAIR) + len(names) == used + sum(int(word) for word in files_left_out.split() if word.isdecimal())


def test_what_is_no_file_is_left_out_and_not_waited_for(tmp_path):
    os.mkfifo(folder(tmp_path, *PAIR) / "cat" / "pipe.png")
    (tmp_path / "dog" / "folder.png").mkdir()
    assert opened(tmp_path)[2] == "2 images used; left out: 1 not a file (cat/pipe.png)"


@pytest.mark.parametrize("content", [b"", b"file_name,label\n\xe9.png,a\n"])
def test_a_metadata_that_cannot_be_read_does_not_hide_the_folders(content, tmp_path):
    (folder(tmp_path, *PAIR) / "metadata.csv").write_bytes(content)
    classes, _, files = opened(tmp_path)
    assert classes == ("cat", "dog")
    assert files.endswith("1 not an image (metadata.csv); the metadata can't be read and is ignored")


def test_links_are_followed_and_a_loop_is_not(tmp_path):
    folder(tmp_path / "elsewhere", "1.png")
    root = folder(tmp_path / "data", *PAIR)
    (root / "eel").symlink_to(tmp_path / "elsewhere")
    (root / "cat" / "up").symlink_to(root)
    assert opened(root)[1]["train"] == [("cat/1.png", "cat"), ("dog/2.png", "dog"), ("eel/1.png", "eel")]


@pytest.mark.parametrize("name", ["set [v2]", "set v*", "{a,b}", "a?b"])
def test_a_path_is_literal(name, tmp_path):
    folder(tmp_path / "set v", *PAIR, "eel/3.png")
    folder(tmp_path / "a", *PAIR, "eel/3.png")
    folder(tmp_path / name, *PAIR)
    assert opened(tmp_path / name)[0] == ("cat", "dog")
    for image in (tmp_path / name).glob("*/*.png"):
        image.unlink()
    pictures.rows([0, 1]).to_parquet(tmp_path / name / "rows.parquet")
    assert len(source(tmp_path / name / "rows.parquet").splits["train"]) == 2
    assert len(source(tmp_path / name).splits["train"]) == 2


def test_a_label_column_is_taken_from_the_metadata_of_sorted_images_too(tmp_path):
    (folder(tmp_path, *PAIR, "cat/3.png") / "metadata.csv").write_text("file_name,kind\ncat/1.png,x\ndog/2.png,y\n")
    data = ready("validate", path=str(tmp_path), label_column="kind")
    assert (data.class_names, data.rows("validate")) == (["x", "y"], 2)
    assert data.chosen.files == "2 images used; left out: 1 not in the metadata (cat/3.png)"


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["Training.parquet", "Testing.parquet"], {"train": 2, "test": 2}),
        (["a.parquet", "contest.parquet"], {"train": 4}),
        (["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"], {"train": 4}),
        (["a/Val/1.parquet", "a/train/test.parquet", "cache.arrow"], {"train": 2, "validation": 2}),
        (["mine-00000-of-00001.parquet", "train-00000-of-00001.parquet"], {"train": 2, "mine": 2}),
        (["train.parquet", "dogs.parquet"], "files that name no split (dogs.parquet) beside files that do"),
        (["train_test.parquet"], "train_test.parquet names several splits"),
    ],
)
def test_files_of_rows_are_all_read_each_in_the_split_that_it_names(names, expected, tmp_path):
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        pictures.rows([0, 1]).to_parquet(tmp_path / name)
    if isinstance(expected, str):
        with refused(expected):
            source(tmp_path)
        return
    found = source(tmp_path)
    used = sum(name.endswith(".parquet") for name in names)
    assert {split: len(rows) for split, rows in found.splits.items()} == expected
    assert found.files.startswith(f"{used} parquet files used")
    assert ("left out: 1 not .parquet (cache.arrow)" in found.files) == ("cache.arrow" in names)


def test_to_predict_nothing_is_a_split_and_all_images_count(tmp_path):
    root = folder(tmp_path, "1.png", "test 1.png", "train/2.png", "train/cat/3.png", "val/dog/4.png", "5.HEIC")
    data = ready("predict", path=str(root))
    files = "5 images used; left out: 1 of a format that can't be read (5.HEIC)"
    assert (data.rows("predict"), data.chosen.note, data.chosen.files) == (6, "6 images", files)
    (root / "5.HEIC").unlink()
    assert ready("predict", path=str(root), validation_split="train").rows("predict") == 1


@pytest.mark.parametrize(
    ("names", "path", "words"),
    [
        (
            ["notes.txt"],
            ".",
            "no image in the folder (1 other file, notes.txt). Give a folder of images, a single image",
        ),
        (["a/1.md", "b.xml"], ".", "no image in the folder (2 other files, a/1.md, b.xml). Give a folder of images, a"),
        ([], ".", "no image in the folder (it has no files). Give a folder of images, a single image"),
        (["notes.txt"], "notes.txt", "or a single image: .apng, .avif, ... .jpeg, ... .png, ... .webp"),
        (["1.heic"], "1.heic", "or a single image: .apng, .avif"),
    ],
)
def test_to_predict_what_holds_no_image_is_refused_and_no_classes_are_asked_for(names, path, words, tmp_path):
    with refused(words) as raised:
        ready("predict", path=str(folder(tmp_path, *names) / path))
    assert "class folders" not in str(raised.value)


def test_to_predict_a_single_image_is_counted_and_may_lack_an_ending(tmp_path):
    for name in ("1.png", "2"):
        folder(tmp_path, name)
        assert ready("predict", path=str(tmp_path / name)).chosen.note == "1 image"


# ---- tables of paths


CHOOSE = "Choose one with --data.image_column"


@pytest.mark.parametrize(
    ("name", "content", "labels"),
    [
        ("t.csv", "path,label\n1.png,b\ndeep/2.png,a\n", ["b", "a"]),
        ("t.csv", "\ufefffile_name;label\n1.png;007\ndeep/2.png;NA\n", ["007", "NA"]),
        ("t.tsv", "filename\tlabel\n1.png\t10\n{root}/deep/2.png\t9\n", ["10", "9"]),
        ("t.csv", "path,label,note\ndeep\\\\2.png,a,\n1.png,b,x\n", ["a", "b"]),
        ("t.jsonl", '{"image": "1.png", "label": "b"}\n{"image": "deep/2.png", "label": "a"}\n', ["b", "a"]),
        ("s.csv", "path,label,split\n1.png,b,train\ndeep/2.png,c,Test\n1.png,b,val\ndeep/2.png,a,val\n", ["b", "a"]),
        ("T.CSV", "file_name,label\n1.png,b\ndeep/2.png,a\n", ["b", "a"]),
        ("metadata.csv", "file_name,label\n1.png,b\ndeep/2.png,a\n", ["b", "a"]),
    ],
)
def test_a_table_of_paths_and_labels_is_a_dataset(name, content, labels, tmp_path, monkeypatch):
    folder(tmp_path, "1.png", "deep/2.png")
    (tmp_path / name).write_text(content.replace("{root}", str(tmp_path)))
    monkeypatch.chdir("/")
    data = ready("validate", path=str(tmp_path if name == "metadata.csv" else tmp_path / name))
    (batch,) = data.val_dataloader()
    assert list(batch["broken"]) == ["", ""]
    assert [data.class_names[label] for label in batch["label"]] == labels


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("path,label\n1.png,a\n1.png,\n", "has rows without a label"),
        ("path,label\n", "can't be opened as a table (it has no rows)"),
        ("img,class\n1.png,a\n", "the columns are img, class. Name it with --data.image_column"),
        ("1.png,a\n1.png,b\n", "'{t}': its first line (1.png, a) is a row ... header line before it, such as path,lab"),
        ("1.png;a\n", "its first line (1.png, a) is a row"),
        ("gone/1.JPG\ta\n", "its first line (gone/1.JPG, a) is a row"),
        ("bare,a\nbare,b\n", "its first line (bare, a) is a row"),
        ("path,mask_file,label\n1.png,2.png,a\n", f"several columns hold images (path, mask_file). {CHOOSE}"),
        ("label,image,file\na,gone.png,gone.jpg\n", f"several columns hold images (image, file). {CHOOSE}"),
        ("path,label,coarse_label\n1.png,a,b\n", "several columns hold class labels (label, coarse_label)"),
    ],
)
def test_a_table_that_lacks_something_or_can_be_read_in_two_ways_is_refused(content, words, tmp_path):
    folder(tmp_path, "1.png", "2.png", "bare")
    (tmp_path / "t.csv").write_text(content)
    with refused(words.replace("{t}", str(tmp_path / "t.csv"))):
        ready("validate", path=str(tmp_path / "t.csv"))


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_of_columns_of_paths_one_must_be_chosen(kind, streaming, tmp_path):
    folder(tmp_path, "1.png", "mask.png")
    rows = {"file": ["1.png", "1.png"], "note": ["~x", "y" * 300], "mask": [None, "mask.png"], "label": ["a", "b"]}
    write = {"csv": Dataset.to_csv, "jsonl": Dataset.to_json, "parquet": Dataset.to_parquet}[kind]
    write(Dataset.from_dict(rows), tmp_path / f"t.{kind}")
    kinds = {
        wanted: [name for name, kind in found.features.items() if isinstance(kind, Image)]
        for wanted in (None, "mask", "file")
        for found in [source(tmp_path / f"t.{kind}", streaming, image_column=wanted).splits["train"]]
    }
    assert kinds == {None: ["file", "mask"], "mask": ["mask"], "file": ["file"]}
    with refused(f"several columns hold images (file, mask). {CHOOSE}"):
        ready("validate", path=str(tmp_path / f"t.{kind}"))


def test_of_columns_called_as_paths_the_one_that_leads_to_images_is_taken(tmp_path):
    folder(tmp_path, "images/1.png")
    (tmp_path / "t.csv").write_text("filename,path,label\n1.png,images/1.png,a\n")
    data = ready("validate", path=str(tmp_path / "t.csv"))
    assert data.chosen.image_column == "path"
    (folder(tmp_path / "sorted", "a/1.png", "b/2.png") / "metadata.csv").write_text(
        "file_name,mask,label\na/1.png,b/2.png,x\n"
    )
    with refused(f"several columns hold images (file_name, mask). {CHOOSE}"):  # and not: the metadata is ignored
        ready("validate", path=str(tmp_path / "sorted"))


def test_names_that_are_not_utf_8_are_read_stored_and_printed(tmp_path):
    folder(tmp_path, *map(os.fsdecode, (b"caf\xe9/\xff.png", b"dog/1.png", b"dog/\xfe.png")))
    broken = tmp_path / os.fsdecode(b"dog/\xfe.png")
    broken.write_bytes(b"\x89PNG")
    (tmp_path / os.fsdecode(b"\xfd.txt")).touch()
    (tmp_path / os.fsdecode(b"\xfc")).mkdir()
    classes, splits, files = opened(tmp_path)
    assert classes == ("caf\\udce9", "dog")
    names = [name for name, _ in splits["train"]]
    assert names == ["caf\\udce9/\\udcff.png", "dog/1.png", "dog/\\udcfe.png"]
    left_out = "1 not an image (\\udcfd.txt), 1 folder without images (\\udcfc)"
    assert files == f"3 images used; left out: {left_out}"
    assert files.isprintable()
    (tmp_path / "t.csv").write_text("file,label\n" + "".join(f"{name},{name[:3]}\n" for name in names))
    for path in (tmp_path, tmp_path / "t.csv"):  # a table of such names is made by predict
        images = [next(iter(row.values())) for row in source(path).splits["train"]]
        assert [decode(image, "it").shape for image in images[:2]] == [(3, 8, 8)] * 2
        with pytest.raises(BrokenImage, match="not an image"):
            decode(images[2], images[2]["path"])


@pytest.mark.parametrize("streaming", [False, True])
def test_paths_in_files_of_parquet_are_read_relative_to_them(streaming, tmp_path):
    kinds = Features(path=Value("large_string"), label=ClassLabel(names=["a", "b"]))
    folder(tmp_path, "images/1.png", "images/2.png")
    (tmp_path / "rows").mkdir()
    for split in ("train", "val"):
        rows = {"path": ["../images/1.png", "../images/2.png"], "label": [0, 1]}
        Dataset.from_dict(rows, features=kinds).to_parquet(tmp_path / "rows" / f"{split}.parquet")
    data = ready("validate", path=str(tmp_path / "rows"), streaming=streaming, steps_per_epoch=1 if streaming else None)
    (batch,) = data.val_dataloader()
    assert (list(batch["broken"]), batch["label"].tolist()) == (["", ""], [0, 1])


def test_a_folder_called_as_the_embedded_digits_is_another_dataset_and_the_line_of_files_names_both(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert source("digits").files == ""
    folder(tmp_path / "digits", *PAIR)
    assert source("digits").files == "the embedded digits; for the folder of this name give --data.path ./digits"
    assert source("./digits").files == "2 images used"
