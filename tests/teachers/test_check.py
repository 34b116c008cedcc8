"""A teacher that does not know the data is refused before anything is learnt from it."""

import pytest
import torch

from shvit_pl.data.datamodule import HFImageDataModule
from shvit_pl.errors import UserError
from shvit_pl.teachers.check import TeacherCheck, check_teacher
from tests.teachers.makers import DIGITS, opened, shaken, stored


@pytest.fixture(scope="module")
def batches():
    """Four batches of validation images, as the student gets them."""
    data = HFImageDataModule(image_size=64, batch_size=32, num_workers=0)
    data.setup("validate")
    loader = iter(data.val_dataloader())
    return [data.on_after_batch_transfer(next(loader), 0) for _ in range(4)]


def test_a_trained_teacher_passes_and_its_accuracy_is_said(run, batches):
    teacher = opened(teacher=str(run), class_names=DIGITS)
    check = check_teacher(teacher, batches)
    labels = torch.cat([batch["label"] for batch in batches])
    named = torch.cat([teacher.logits(batch["image"]).argmax(1) for batch in batches])
    assert check.top1 == pytest.approx((named == labels).float().mean().item())
    assert check.majority == pytest.approx(labels.bincount().max().item() / 128)
    assert check.images == 128
    assert check.top1 > 0.4
    assert f"top-1 {check.top1:.1%} on 128 validation images" in str(check)
    assert "\n" not in str(check)


def test_an_untrained_teacher_is_refused_with_the_likely_reasons(tmp_path, batches):
    weights = stored(shaken("test_resnet"), tmp_path / "w.safetensors")
    with pytest.raises(UserError) as refusal:
        check_teacher(opened(teacher="test_resnet", weights=weights), batches)
    for part in (
        "model.distill.teacher 'test_resnet'",
        "order of classes",
        "untrained weights",
        "model.distill.check false",
    ):
        assert part in str(refusal.value)


def test_a_teacher_whose_classes_are_in_another_order_is_refused(run, batches):
    shifted = {name: (place + 1) % 10 for place, name in enumerate(DIGITS)}
    with pytest.raises(UserError, match="another order of classes"):
        check_teacher(opened(teacher=str(run), class_names=DIGITS, class_map=shifted), batches)


def test_images_without_a_label_are_not_counted(run, batches):
    teacher = opened(teacher=str(run), class_names=DIGITS)
    first, *others = batches
    unlabelled = {**first, "label": first["label"].clone()}
    unlabelled["label"][8:] = -1
    nothing = {**first, "label": torch.full_like(first["label"], -1)}
    kept = {"image": first["image"][:8], "label": first["label"][:8]}
    assert check_teacher(teacher, [unlabelled, nothing, *others]) == check_teacher(teacher, [kept, *others])


@pytest.mark.parametrize("label", [-1, 3])
def test_images_that_can_show_nothing_are_refused_as_such(label, run, batches):
    teacher = opened(teacher=str(run), class_names=DIGITS)
    uniform = [{**batch, "label": torch.full_like(batch["label"], label)} for batch in batches]
    with pytest.raises(UserError, match=r"model\.distill\.check: .*model\.distill\.check false"):
        check_teacher(teacher, uniform)


def test_the_threshold_is_two_standard_errors_above_the_majority():
    assert TeacherCheck("t", 0.5, 0.2, 400).threshold == pytest.approx(0.2 + 2 * 0.02)
