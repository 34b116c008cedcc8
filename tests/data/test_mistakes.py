"""Every mistake in the data is one message that says what is wrong, where, and what to do."""

import pytest
from datasets import ClassLabel, DatasetDict, Image, List, Value, load_dataset
from PIL import Image as PILImage

from shvit_pl import HFImageDataModule
from shvit_pl.errors import UserError
from tests.data.pictures import AB, rows


def two_images():
    return rows([0, 1] * 6, mask=([PILImage.new("L", (8, 8))] * 12, Image()))


def validated(validation):
    return DatasetDict(train=rows([0, 1] * 6), validation=validation)


def renamed(*names):
    return validated(rows([0, 1], ClassLabel(names=list(names))))


def unnamed():
    """Indices beyond the names, as parquet files from elsewhere can hold them."""
    data = rows([0, 1, 2] * 4, Value("int64"))
    data.info.features["label"] = AB
    return data


IN_THE_ROWS = {
    "labels are fractions": (rows([0.5, 1.5] * 6, Value("float32")), {}, "data.label_column 'label': it holds float32"),
    "labels are lists": (
        rows([[0], [1]] * 6, List(Value("int64"))),
        {"label_column": "label"},
        "data.label_column 'label': it holds List",
    ),
    "labels are images": (two_images(), {"image_column": "image", "label_column": "mask"}, "it holds Image"),
    "labels without a name": (unnamed(), {}, "split 'train' has the label 2, but only 2 classes have names"),
    "some rows without a label": (rows([0, 1, -1] * 4), {}, "split 'train' has rows without a label"),
    "some texts missing": (rows(["a", "b", None] * 4, Value("string")), {}, "has rows without a label"),
    "no row with a label": (rows([-1] * 12), {}, "no row of the split 'train' has a label"),
    "only validation has labels": (
        DatasetDict(train=rows([-1] * 12), validation=rows([0, 1])),
        {},
        "data.train_split 'train': no row of it has a label; the splits with labels are validation",
    ),
    "validation has no labels": (
        validated(rows([-1] * 4)),
        {"validation_split": "validation"},
        "data.validation_split 'validation': no row of it has a label",
    ),
    "other classes": (
        renamed("a", "c"),
        {},
        "'train' and 'validation' have different classes (2 and 2; not shared: b, c)",
    ),
    "more classes": (renamed("a", "b", "c"), {}, "different classes (2 and 3; not shared: c)"),
    "another order": (renamed("b", "a"), {}, "not shared: their order"),
    "an unknown text": (
        DatasetDict(train=rows(["a", "b"] * 6, Value("string")), validation=rows(["a", "d"], Value("string"))),
        {},
        "different classes (2 and 2; not shared: b, d)",
    ),
    "two columns of images": (two_images(), {}, "data.image_column: several columns hold images (image, mask)"),
    "two columns of labels": (
        rows([0, 1] * 6, species=([0, 1] * 6, AB)),
        {},
        "data.label_column: several columns hold class labels (label, species)",
    ),
    "no column of images": (rows([0, 1] * 6).remove_columns("image"), {}, "data.image_column: no column holds images"),
}


def refusal(**settings):
    with pytest.raises(UserError) as error:
        HFImageDataModule(**{"image_size": 32, "batch_size": 4, "num_workers": 0, **settings}).setup("fit")
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("mistake", IN_THE_ROWS)
def test_a_mistake_in_the_rows(mistake, tmp_path):
    data, settings, said = IN_THE_ROWS[mistake]
    data.save_to_disk(tmp_path / "data")
    message = refusal(path=str(tmp_path / "data"), **settings)
    assert said in message
    assert len(message) < 250


def images(folder, *names):
    """A folder of these images."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        PILImage.new("RGB", (8, 8)).save(folder / name)
    return folder


def written(file, content=""):
    file.write_text(content)
    return file


def no_rows(folder):
    rows([]).to_parquet(folder / "train.parquet")
    return folder / "train.parquet"


def validated_on(validation):
    def write(folder):
        rows([0, 1] * 6).to_parquet(folder / "train.parquet")
        validation.to_parquet(folder / "validation.parquet")
        return folder

    return write


def classes_in_another_order(folder):
    validated_on(rows([0, 1], ClassLabel(names=["b", "a"])))(folder)
    load_dataset(str(folder))  # which reads both with the names of the first, and remembers that
    return folder


def several_configurations(folder):
    header = "\n".join(f"- config_name: {name}\n  data_dir: {name}" for name in ("small", "large"))
    written(folder / "README.md", f"---\nconfigs:\n{header}\n---\n")
    return images(folder, "small/1.png", "large/1.png")


@pytest.mark.parametrize(
    ("write", "settings", "said"),
    [
        (lambda folder: images(folder / "images"), {}, "this folder can't be opened as a dataset"),
        (lambda folder: images(folder, "1.png", "2.png"), {}, "no labels. Sort them into one folder per class"),
        (lambda folder: images(folder, "cat/1.png", "cat/2.png"), {}, "one folder per class, two classes or more"),
        (lambda folder: written(folder / "images.zip"), {}, "files may be .parquet, .arrow; for images give their"),
        (lambda folder: written(folder / "images.txt"), {}, "files may be .parquet, .arrow; for images give their"),
        (lambda folder: written(folder / "a.parquet", "no"), {}, "can't be opened as parquet"),
        (no_rows, {}, "has no rows"),
        (validated_on(rows([])), {}, "has no rows"),
        (classes_in_another_order, {}, "'train' and 'validation' have different classes"),
        (several_configurations, {}, "several configurations (small, large)"),
        (lambda folder: images(folder, "cat/1.png"), {"revision": "v1"}, "data.revision 'v1': only datasets of"),
    ],
)
def test_a_mistake_in_the_path(write, settings, said, tmp_path):
    assert said in refusal(path=str(write(tmp_path)), **settings)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        *(({"path": path}, f"data.path {path!r}: no such file or folder.") for path in ("./nothing", "~/a/b", "a/b/c")),
        ({"path": ""}, "data.path '': allowed are digits, a folder of images,"),
        ({"name": "foo"}, "data.name 'foo': 'digits' has no configurations"),
        ({"image_column": "img"}, "data.image_column 'img': no such column (did you mean 'image'?)"),
        ({"label_column": "lable"}, "data.label_column 'lable': no such column (did you mean 'label'?)"),
        ({"image_column": "label"}, "data.image_column 'label': it holds ClassLabel"),
        ({"train_split": "trian"}, "data.train_split 'trian': no such split (did you mean 'train'?)"),
        ({"validation_split": "trian"}, "data.validation_split 'trian': no such split (did you mean 'train'?)"),
        ({"validation_split": "train"}, "data.validation_split 'train': this is the training split"),
        ({"train_fraction": 0.0001}, "data.train_fraction 0.0001: of 1437 images this leaves one side without any"),
        ({"validation_fraction": 0.9999}, "data.validation_fraction 0.9999: of 1797 images this leaves one side"),
        (
            {"validation_fraction": 0.999},
            "data.validation_fraction 0.999: with data.train_fraction 1.0 it leaves 1 image",
        ),
        ({"batch_size": 5000}, "data.batch_size 5000: there are only 1437 training images; allowed are 2 to 1437."),
        ({"streaming": True, "steps_per_epoch": 3}, "data.streaming: 'digits' has no validation split"),
    ],
    ids=str,
)
def test_what_does_not_fit_to_the_digits_or_is_not_there(settings, said):
    assert refusal(**settings).startswith(said)
