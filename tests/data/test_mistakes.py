"""Every mistake in settings or data is one message that says what is wrong, where, and what to do."""

from dataclasses import asdict

import pytest
from datasets import ClassLabel, Image, List, Value, load_dataset
from PIL import Image as PILImage

from shvit_pl import HFImageDataModule
from shvit_pl.cli import main
from shvit_pl.data.config import DataConfig
from shvit_pl.data.views import Views
from shvit_pl.errors import UserError
from tests.data.pictures import AB, images, parquet, ready, rows, saved
from tests.refusals import refused

STREAM = {"streaming": True, "steps_per_epoch": 3}
SETTINGS = [
    ({"batch_size": 1}, "data.batch_size 1: allowed are whole numbers from 2."),
    ({"image_size": 0}, "data.image_size 0: allowed are whole numbers from 1."),
    ({"crop_pct": 1.5}, "data.crop_pct 1.5: allowed are numbers above 0 and at most 1"),
    ({"train_fraction": 0.0}, "data.train_fraction 0.0: allowed are numbers above 0"),
    ({"validation_fraction": 1.0}, "data.validation_fraction 1.0: allowed are numbers above 0 and below 1"),
    ({"split_seed": -1}, "data.split_seed -1: allowed are whole numbers from 0"),
    ({"color_jitter": -0.1}, "data.color_jitter -0.1: allowed are numbers from 0"),
    ({"erasing": 2.0}, "data.erasing 2.0: allowed are numbers from 0 to 1"),
    ({"repeats": 0}, "data.repeats 0: allowed are whole numbers from 1"),
    ({"shuffle_buffer": 0}, "data.shuffle_buffer 0: allowed are whole numbers from 1"),
    ({"prefetch": 0}, "data.prefetch 0: allowed are whole numbers from 1"),
    ({"num_workers": -1}, "data.num_workers -1: allowed are whole numbers from 0 to"),
    ({"num_workers": 100_000}, "data.num_workers 100000: allowed are whole numbers from 0 to"),
    ({"steps_per_epoch": 3}, "data.steps_per_epoch 3: only for --data.streaming true"),
    ({"streaming": True}, "data.steps_per_epoch: a stream has no length"),
    ({"streaming": True, "steps_per_epoch": 0}, "data.steps_per_epoch 0: allowed are whole numbers from 1"),
    (
        {**STREAM, "train_fraction": 0.5},
        "data.train_fraction 0.5: streaming requires 1. Leave it out, or set --data.streaming false",
    ),
    ({**STREAM, "repeats": 3}, "data.repeats 3: streaming requires 1"),
    ({"augment_on": "device", "augment": "shift"}, "data.augment_on device: data.augment shift works in the workers"),
    ({"augment_on": "device", "augment": "none"}, "data.augment_on device: data.augment none works in the workers"),
    ({"augment_on": "device", "auto_augment": "3a"}, "data.augment_on device: data.auto_augment 3a works in the work"),
    *(
        ({"auto_augment": name}, f"data.auto_augment {name!r}: allowed are timm's 'rand-...', such as 'rand-m9-mstd0.5")
        for name in ("", "rand9", "rand-m9.5", "rand-foo", "rand-m", "augmix", "3b", "original", "rand-n0", "rand-m999")
    ),
]


@pytest.mark.parametrize(("settings", "words"), SETTINGS, ids=str)
def test_settings_are_checked_before_anything_is_opened(settings, words):
    with refused(words):
        HFImageDataModule(**settings)


def test_all_mistakes_are_named_at_once_and_the_command_prints_a_line_for_each(capsys):
    with pytest.raises(UserError) as error:
        DataConfig(batch_size=1, erasing=2.0, auto_augment="foo", steps_per_epoch=3)
    flags = [line.split()[0] for line in str(error.value).splitlines()]
    assert sorted(flags) == ["data.auto_augment", "data.batch_size", "data.erasing", "data.steps_per_epoch"]
    assert main(["fit", "--data.batch_size=1", "--data.erasing=2"]) == 2
    first, second = capsys.readouterr().err.splitlines()[-2:]
    assert first.startswith("shvit-pl fit: error: data.batch_size 1: ")
    assert second.startswith("shvit-pl fit: error: data.erasing 2: ")


def test_columns_and_splits_that_are_not_there_are_named_at_once():
    with pytest.raises(UserError) as error:
        ready(image_column="img", label_column="lable", train_split="trian", validation_split="val")
    flags = [line.split()[0] for line in str(error.value).splitlines()]
    assert flags == ["data.image_column", "data.label_column", "data.train_split", "data.validation_split"]


def test_settings_are_kept_as_plain_values_and_auto_is_a_size_of_the_command_line():
    for module in (HFImageDataModule(batch_size=8), HFImageDataModule(DataConfig(batch_size=8))):
        assert dict(module.hparams) == asdict(DataConfig(batch_size=8))
    with refused("data.image_size auto: from Python, give the side in pixels"):
        HFImageDataModule(image_size="auto").setup("fit")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"augment_on": "device"}, "data.augment_on device: impossible with model.distill.cache"),
        ({"sampler": "balanced"}, "data.sampler balanced: impossible with model.distill.cache"),
        ({"batch_size": 31}, "data.batch_size 31: model.distill.cache needs an even number, 30 or 32"),
        (STREAM, "data.streaming true: impossible with model.distill.cache"),
    ],
    ids=str,
)
def test_what_a_cache_of_a_teacher_can_not_train_is_refused(settings, words):
    with refused(words):
        HFImageDataModule(image_size=16, **settings).train_on(Views(40, repeats=1, size=16, mixup=None, views=1))


# ---- data; each case writes something into a folder and returns its path


def text(name, content=""):
    def write(folder):
        (folder / name).write_text(content)
        return folder / name

    return write


def classes_in_another_order(folder):
    parquet(TWELVE, validation=named("b", "a"))(folder)
    load_dataset(str(folder))  # which reads both with the names of the first, and remembers that
    return folder


def several_configurations(folder):
    header = "\n".join(f"- config_name: {name}\n  data_dir: {name}" for name in ("small", "large"))
    text("README.md", f"---\nconfigs:\n{header}\n---\n")(folder)
    return images("small/1.png", "large/1.png")(folder)


def named(*names):
    return rows([0, 1], ClassLabel(names=list(names)))


def texts(*labels):
    return rows(list(labels), Value("string"))


TWELVE = rows([0, 1] * 6)
TWO_IMAGES = rows([0, 1] * 6, mask=([PILImage.new("L", (8, 8))] * 12, Image()))
BEYOND_THE_NAMES = rows([0, 1, 2] * 4, Value("int64"))
BEYOND_THE_NAMES.info.features["label"] = AB  # as parquet files from elsewhere can have it
BOXES = rows([0, 1] * 6, bbox=([[[0, 0, 4, 4]]] * 12, List(List(Value("float32"))))).remove_columns("label")
NAMED = {"validation_split": "validation"}
MASKS = {"image_column": "image", "label_column": "mask"}
DATA = [
    (saved(rows([0.5, 1.5] * 6, Value("float32"))), {}, "data.label_column 'label': contains float32"),
    (saved(rows([[0], [1]] * 6, List(Value("int64")))), {"label_column": "label"}, "'label': contains List"),
    (saved(TWO_IMAGES), MASKS, "contains Image"),
    (saved(BEYOND_THE_NAMES), {}, "split 'train' has the label 2, but only 2 classes have names"),
    (saved(rows([0, 1, -1] * 4)), {}, "split 'train' has rows without a label"),
    (saved(texts(*["a", "b", None] * 4)), {}, "has rows without a label"),
    (saved(rows([-1] * 12)), {}, "no row of the split 'train' has a label"),
    (saved(rows([-1] * 12), validation=rows([0, 1])), {}, "'train': this split has no labels; ... are validation"),
    (saved(TWELVE, validation=rows([-1] * 4)), NAMED, "data.validation_split 'validation': this split has no labels"),
    (saved(TWELVE, validation=named("a", "c")), {}, "'train' and 'validation' ... (2 and 2; not shared: b, c)"),
    (saved(TWELVE, validation=named("a", "b", "c")), {}, "different classes (2 and 3; not shared: c)"),
    (saved(TWELVE, validation=named("b", "a")), {}, "not shared: their order"),
    (saved(texts(*"ab" * 6), validation=texts("a", "d")), {}, "different classes (2 and 2; not shared: b, d)"),
    (saved(TWO_IMAGES), {}, "data.image_column: several columns hold images (image, mask)"),
    (saved(rows([0, 1] * 6, species=([0, 1] * 6, AB))), {}, "several columns hold class labels (label, species)"),
    (saved(rows(list("ab"), Value("string"), kind=([0, 1], AB))), {}, "hold class labels (kind, label). Choose one wi"),
    (saved(TWELVE.remove_columns("image")), {}, "data.image_column: no column has images"),
    (images(), {}, "no image in the folder (it has no files)"),
    (images("1.png", "2.png"), {}, "no labels. Sort the images into one folder per class ... give --task detection"),
    (saved(BOXES), {}, "data.label_column: no column has class labels ... To learn boxes, give --task detection."),
    (text("images.zip"), {}, "files may be .parquet, .arrow, .csv, .tsv, .jsonl, .json; for images give their folder"),
    (text("images.txt"), {}, "files may be .parquet, .arrow, .csv, .tsv, .jsonl, .json; for images give their folder"),
    (text("a.parquet", "no"), {}, "can't be opened as parquet"),
    (lambda folder: parquet(rows([]))(folder) / "train.parquet", {}, "has no rows"),
    (parquet(TWELVE, validation=rows([])), {}, "has no rows"),
    (classes_in_another_order, {}, "'train' and 'validation' have different classes"),
    (several_configurations, {}, "several configurations (small, large)"),
    (images("cat/1.png"), {"revision": "v1"}, "data.revision 'v1': only datasets of"),
]
DIGITS = [
    *(
        ({"path": path}, f"data.path {path!r}: no such file or folder. Give digits (emb")
        for path in ("./nothing", "./digits", "~/a/b", "a/b/c")
    ),
    ({"path": ""}, "data.path '': allowed are digits (embedded), a folder of images,"),
    ({"name": "foo"}, "data.name 'foo': 'digits' has no configurations"),
    ({"image_column": "img"}, "data.image_column 'img': no such column (did you mean 'image'?)"),
    ({"label_column": "lable"}, "data.label_column 'lable': no such column (did you mean 'label'?)"),
    ({"image_column": "label"}, "data.image_column 'label': contains ClassLabel"),
    ({"train_split": "trian"}, "data.train_split 'trian': no such split (did you mean 'train'?)"),
    ({"validation_split": "trian"}, "data.validation_split 'trian': no such split (did you mean 'train'?)"),
    ({"validation_split": "train"}, "data.validation_split 'train': this is the training split"),
    ({"train_fraction": 0.0001}, "data.train_fraction 0.0001: of 1437 images, one part would be empty"),
    ({"validation_fraction": 0.9999}, "data.validation_fraction 0.9999: of 1797 images, one part would be empty"),
    ({"validation_fraction": 0.999}, "data.validation_fraction 0.999: with data.train_fraction 1.0 it leaves 1 image"),
    ({"batch_size": 5000}, "data.batch_size 5000: there are only 1437 training images; allowed are 2 to 1437."),
    (STREAM, "data.streaming: 'digits' has no validation split"),
]


@pytest.mark.parametrize(("write", "settings", "words"), [*DATA, *((None, *case) for case in DIGITS)])
def test_what_is_wrong_with_the_data_or_not_there(write, settings, words, tmp_path):
    path = {"path": str(write(tmp_path))} if write else {}
    with refused(words):
        ready(**path, **settings)
