"""Both classes in any order of Lightning's calls, with the data module and with data that is the user's own."""

import csv

import lightning as L
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch.utils.data import DataLoader, TensorDataset

from shvit_pl import ClassificationModule, DistillationModule, HFImageDataModule
from shvit_pl.errors import UserError
from shvit_pl.modules import distillation
from shvit_pl.modules.class_metrics import NAMES
from tests.modules.conftest import CLASSES, TINY, digits
from tests.refusals import refused

OPTIONS = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
FEW = {"max_steps": 2, "limit_train_batches": 2, "limit_val_batches": 1, "limit_test_batches": 1}


def trainer(**options):
    settings = {**OPTIONS, **FEW, "limit_predict_batches": 1, "enable_model_summary": False, **options}
    return L.Trainer(**settings)


class OwnData(L.LightningDataModule):
    """Pairs of images and labels; to predict, images alone."""

    def __init__(self, labeled=True):
        super().__init__()
        images, labels = torch.randn(16, 3, 64, 64), torch.arange(16) % 10
        self.rows, self.images = TensorDataset(images, labels), TensorDataset(images)

    def train_dataloader(self):
        return DataLoader(self.rows, batch_size=8)

    val_dataloader = test_dataloader = train_dataloader

    def predict_dataloader(self):
        return DataLoader(self.images, batch_size=8)


ORDERS = ["fit predict validate test", "predict test fit validate", "validate fit", "test validate fit fit"]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("make", [digits, OwnData])
def test_stages_come_in_any_order(make, order):
    module, data, same = ClassificationModule(design=TINY, class_names=CLASSES, ema={"decay": 0.9}), make(), trainer()
    for number, stage in enumerate(order.split()):
        if stage == "test" and make is digits:
            with refused("there is no test split, and the validation images have chosen the checkpoint"):
                trainer().test(module, data)
            continue
        answer = getattr(same if number else trainer(), stage)(module, data)
        if stage == "predict":
            assert answer[0]["probabilities"].shape == (8, 10)
            assert len(answer[0]["file"]) == 8


def test_a_checkpoint_is_validated_then_trained_on(tmp_path):
    fitted = trainer()
    fitted.fit(ClassificationModule(design=TINY, class_names=CLASSES), OwnData())
    fitted.save_checkpoint(tmp_path / "own.ckpt")
    module = ClassificationModule.load_from_checkpoint(tmp_path / "own.ckpt")
    before = trainer().validate(module, OwnData().val_dataloader())
    trainer(num_sanity_val_steps=0, max_epochs=0).fit(module, OwnData())
    trainer().fit(module, OwnData().train_dataloader(), OwnData().val_dataloader())
    assert before[0].keys() == {f"val/{name}" for name in ("acc1", "loss", "acc5", *NAMES)}


class Losses(L.Callback):
    """Loss of each step, and the mean that callbacks and loggers see."""

    def __init__(self):
        self.steps, self.seen = [], []

    def on_train_batch_end(self, trainer, module, outputs, *args):
        self.steps.append(float(outputs["loss"]))

    def on_validation_end(self, trainer, module):
        if not trainer.sanity_checking:
            self.seen.append((len(self.steps), float(trainer.callback_metrics["train/loss_epoch"])))


@pytest.mark.parametrize(
    ("rare", "spans"),
    [
        ({"check_val_every_n_epoch": 2}, [(4, 8), (12, 16)]),
        ({"val_check_interval": 2}, [(0, 2), (0, 4), (4, 6), (4, 8)]),
        ({"val_check_interval": 6, "check_val_every_n_epoch": None}, [(4, 6), (8, 12)]),
    ],
)
def test_the_mean_loss_is_that_of_the_epoch_so_far(rare, spans, tmp_path):
    losses, logger = Losses(), CSVLogger(tmp_path)
    options = OPTIONS | {"logger": logger, "callbacks": [losses]} | rare
    loader = DataLoader(TensorDataset(torch.randn(16, 3, 64, 64), torch.arange(16) % 10), batch_size=4)
    module = ClassificationModule(design=TINY, class_names=CLASSES)
    L.Trainer(max_epochs=spans[-1][1] // 4, limit_val_batches=1, log_every_n_steps=1, **options).fit(
        module, loader, loader
    )
    means = [(end, pytest.approx(sum(losses.steps[start:end]) / (end - start), rel=1e-5)) for start, end in spans]
    assert losses.seen == means
    with open(tmp_path / "lightning_logs" / "version_0" / "metrics.csv") as file:
        logged = [float(row["train/loss_epoch"]) for row in csv.DictReader(file) if row["train/loss_epoch"]]
    epochs = range(0, len(losses.steps), 4)
    assert logged == pytest.approx([sum(losses.steps[first : first + 4]) / 4 for first in epochs], rel=1e-5)


@pytest.mark.parametrize("mix", [{}, {"mixup": 0.8}])
@pytest.mark.parametrize("accumulated", [1, 2, 8])
def test_the_rate_is_scaled_by_the_images_that_a_step_really_has(accumulated, mix):
    """Of two batches of eight images, Lightning accumulates no more than both."""
    module = ClassificationModule(design=TINY, class_names=CLASSES, mix=mix)
    trainer(accumulate_grad_batches=accumulated).fit(module, OwnData().train_dataloader())
    assert module.global_batch == 8 * min(accumulated, 2)
    assert module.schedule.peak == pytest.approx(module.config.optim.lr * module.global_batch / 512)


IMAGES, LABELS = torch.randn(16, 3, 64, 64), torch.arange(16) % 10


def rows_of(*parts, keys=None, **options):
    """A loader of pairs, or of dicts with these keys."""
    rows = (
        TensorDataset(*parts)
        if keys is None
        else [dict(zip(keys, row, strict=True)) for row in zip(*parts, strict=True)]
    )
    return DataLoader(rows, **{"batch_size": 8, **options})


def module_of(**settings):
    return ClassificationModule(design=TINY, **{"class_names": CLASSES, **settings})


@pytest.mark.parametrize(
    "loader",
    [
        *(rows_of(IMAGES, LABELS, keys=keys) for keys in (("pixel_values", "labels"), ("img", "target"), ("x", "y"))),
        rows_of(IMAGES.double(), LABELS[:, None].int()),
        rows_of(IMAGES, LABELS, LABELS),
    ],
)
def test_batches_of_the_usual_forms_are_the_same_images_and_labels(loader):
    losses = []
    for each in (loader, rows_of(IMAGES, LABELS)):
        torch.manual_seed(0)
        module = module_of()
        trainer().fit(module, each, each)
        losses += trainer().validate(module, each)
        assert len(trainer().predict(module, [each, each])) == 2  # a batch of each loader
    assert losses[0] == losses[1]


def test_labels_may_be_shares_of_classes_in_training():
    losses = []
    for labels in (torch.eye(10)[LABELS], LABELS):
        torch.manual_seed(0)
        module = module_of(label_smoothing=0.0)
        trainer().fit(module, rows_of(IMAGES, labels))
        losses.append(module.trainer.callback_metrics["train/loss_epoch"])
    torch.testing.assert_close(*losses)


@pytest.mark.parametrize(
    ("loader", "settings", "words"),
    [
        (rows_of(IMAGES, LABELS, keys=("a", "b")), {}, "none in the keys a, b. ... pixel_values ... target, y."),
        (rows_of(IMAGES), {}, "it has no labels"),
        (rows_of((255 * IMAGES).byte(), LABELS), {}, "a tensor of floats (B, 3, S, S), normalized; found torch.uint8"),
        (rows_of(IMAGES, LABELS + 1), {}, "there is the label 10, and the model has 10 classes, 0 to 9"),
        (rows_of(IMAGES, LABELS - 2), {}, "there is the label -2"),
        (rows_of(IMAGES, LABELS / 2), {}, "labels are whole numbers (B,)"),
        (rows_of(IMAGES[:9], LABELS[:9], batch_size=8), {}, "it has one image, and BatchNorm ... drop_last=True"),
        (rows_of(IMAGES, LABELS, batch_size=3), {"mix": {"mixup": 1.0}}, "an even number of images, and there are 3"),
    ],
)
def test_a_batch_that_cannot_be_trained_on_is_one_message(loader, settings, words):
    with refused(words):
        trainer(max_steps=3, limit_train_batches=3).fit(module_of(**settings), loader)


@pytest.mark.parametrize("stage", ["fit", "validate", "test"])
def test_several_loaders_of_an_evaluation_are_one_message(stage):
    loader = rows_of(IMAGES, LABELS)
    loaders = [loader, [loader, loader]] if stage == "fit" else [[loader, loader]]
    with refused("dataloaders: validate and test measure one loader, and there are 2"):
        getattr(trainer(), stage)(module_of(), *loaders)


@pytest.mark.parametrize("stage", ["validate", "test"])
def test_an_evaluation_without_labels_is_one_message_and_a_prediction_is_not(stage):
    loader = rows_of(IMAGES, keys=("pixel_values",))
    assert len(trainer().predict(module_of(), loader)) == 1
    with refused("it has no labels"):
        getattr(trainer(), stage)(module_of(), loader)


NAMED = {"class_names": [f"thing {label}" for label in range(10)]}


@pytest.mark.parametrize(
    ("has", "names"),
    [
        (NAMED, NAMED["class_names"]),
        ({"classes": tuple("abcdefghij")}, list("abcdefghij")),
        ({"num_classes": 10}, CLASSES),
    ],
)
def test_a_data_module_names_the_classes(has, names):
    module, data = ClassificationModule(design=TINY), OwnData()
    vars(data).update(has)
    trainer().fit(module, data)
    assert module.class_names == module.hparams["class_names"] == names
    trainer().validate(module, data)


def test_a_data_module_of_other_classes_is_refused():
    data = OwnData()
    data.num_classes = 9
    with refused("it names 10 classes ... and the data module OwnData has 9 classes"):
        trainer().fit(module_of(), data)
    data.num_classes = 10
    trainer().fit(module_of(class_names=NAMED["class_names"]), data)


@pytest.mark.parametrize("data", [OwnData(), HFImageDataModule("digits", image_size=64, num_workers=0)])
def test_a_fresh_module_without_classes_says_what_to_do(data):
    with refused("neither a checkpoint nor the data ... class_names=['cat', 'dog'] ... load_from_checkpoint"):
        trainer().predict(ClassificationModule(design=TINY), data)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"design": "tiny"}, "model.design 'tiny': allowed is a dict with some of name, patch_size"),
        ({"optim": 3e-4}, "model.optim 0.0003: allowed is a dict with some of name, lr"),
        ({"num_classes": 10}, "model.num_classes: there is no such field. There are design, ... class_names"),
        ({"desing": TINY}, "model.desing: there is no such field (did you mean 'design'?)"),
        ({"design": {"nam": "tiny"}}, "model.design.nam: there is no such field (did you mean 'name'?)"),
        ({"class_names": "cat"}, "model.class_names 'cat': allowed is a list of names"),
    ],
)
def test_settings_that_are_no_fields_are_one_message(settings, words):
    with refused(words):
        ClassificationModule(**settings)


def test_a_config_in_the_wrong_place_is_one_message():
    with refused("ClassificationModule 'tiny': allowed are a ClassificationConfig, and its fields by name: design"):
        ClassificationModule("tiny")
    with refused("data.imagesize: there is no such field (did you mean 'image_size'?)", longest=600):
        HFImageDataModule(imagesize=64)


def test_a_loader_sets_the_data_up_on_demand():
    data = digits()
    data.setup("fit")
    assert len(next(iter(data.predict_dataloader()))["image"]) == 8
    assert (data.rows("train"), data.rows("predict"), data.class_names) == (1437, 1797, CLASSES)
    assert [len(getattr(digits(), f"{name}_dataloader")()) for name in ("train", "val", "predict")] == [179, 45, 225]
    fresh = digits()
    fresh.setup()
    assert len(fresh.chosen.by_stage["train"]) == 1437
    with refused("setup('val'): allowed are fit, validate, test, predict"):
        fresh.setup("val")


class Normalized(OwnData):
    mean, std = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


@pytest.mark.parametrize("objective", ["hard", "feature"])
@pytest.mark.parametrize("make", [digits, OwnData, Normalized, lambda: OwnData().train_dataloader()])
def test_a_teacher_teaches_on_any_data_in_any_order(make, objective, teacher):
    config = {**teacher[1], "objective": objective}
    module, data = DistillationModule(design=TINY, class_names=CLASSES, distill=config, mix={"mixup": 0.5}), make()
    seen = []
    for stage in ("validate", "fit", "predict", "fit"):
        getattr(trainer(), stage)(module, data)
    own_view = module.teacher._own_view
    module.teacher._own_view = lambda images: seen.append((images.clone(), own_view(images))) or own_view(images)
    trainer(max_steps=1).fit(module, data)
    images, view = seen[-1]
    mean, std = (0.5, 0.25) if make is Normalized else (IMAGENET_DEFAULT_MEAN[0], IMAGENET_DEFAULT_STD[0])
    pixels = images[:, 0] * std + mean
    torch.testing.assert_close(view[:, 0] * 0.5 + 0.5, pixels)  # the teacher's own


@pytest.mark.parametrize("keys", [None, ("pixel_values", "labels")])
def test_a_teacher_is_measured_on_a_users_own_validation_images_of_all_classes(keys, teacher, monkeypatch):
    images, labels = torch.randn(600, 3, 4, 4), torch.arange(600) // 60  # sorted by class
    measured = []

    def keep(teacher, batches):
        measured.extend(batches)
        raise UserError("measured")

    monkeypatch.setattr(distillation, "check_teacher", keep)
    module = DistillationModule(design=TINY, class_names=CLASSES, distill={**teacher[1], "check": True})
    with refused("measured"):
        trainer().fit(module, OwnData().train_dataloader(), rows_of(images, labels, keys=keys))
    seen = torch.cat([batch["label"] for batch in measured])
    assert (len(seen), seen.unique().tolist(), int(seen.bincount().min())) == (256, list(range(10)), 25)
    assert torch.equal(measured[0]["image"][0], images[0])


def test_what_a_teacher_lacks_is_one_message(teacher, tmp_path):
    with refused("model.distill.teacher: a DistillationModule needs one"):
        DistillationModule(design=TINY)
    cached = DistillationModule(design=TINY, class_names=CLASSES, distill={**teacher[1], "cache": str(tmp_path)})
    with refused("model.distill.cache ... augmented views of an HFImageDataModule"):
        trainer().fit(cached, OwnData())


class Endless(torch.utils.data.IterableDataset):
    def __iter__(self):
        yield from zip(IMAGES, LABELS, strict=True)


def test_a_loader_without_a_length_needs_the_batches_of_an_epoch():
    with refused("trainer.limit_train_batches: the training loader has no length"):
        trainer(limit_train_batches=1.0).fit(module_of(), DataLoader(Endless(), batch_size=8))
    module = module_of()
    trainer().fit(module, DataLoader(Endless(), batch_size=8))
    assert (module.global_batch, module.total_steps) == (8, 2)
