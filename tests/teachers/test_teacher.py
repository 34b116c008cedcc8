"""A teacher gives the logits of its network in its own pipeline, knows the data, and is nothing but a teacher."""

import lightning as L
import pytest
import torch
from timm.models import save_for_hf
from torch import nn

from shvit_pl.data.datamodule import HFImageDataModule
from shvit_pl.teachers.config import DistillConfig
from shvit_pl.teachers.teacher import TeacherCheck, check_teacher, computes_in_bf16, identity_of
from tests.hub.runs import network as network_of
from tests.refusals import refused
from tests.teachers.makers import DIGITS, as_seen_by, opened, shaken, some_images, stored


@pytest.fixture
def network():
    return shaken("test_resnet")


@pytest.fixture
def weights(network, tmp_path):
    return stored(network, tmp_path / "resnet.safetensors")


def teacher_of(weights, **config):
    return opened(teacher="test_resnet", weights=weights, **config)


@pytest.mark.parametrize(
    ("name", "size"), [("test_resnet", None), ("test_resnet", 96), ("test_vit", 96), ("test_byobnet", None)]
)
@torch.no_grad()
def test_answers_are_those_of_the_network_on_its_own_view_of_the_images(name, size, tmp_path):
    network = shaken(name)
    settings = {"teacher": name, "weights": stored(network, tmp_path / "w.safetensors"), "teacher_size": size}
    teacher, view = opened(**settings), as_seen_by(network, some_images(), size)
    expected = network(view)
    assert expected.std(dim=0).mean() > 1e-3, "the answers must depend on the image for this test to say anything"
    torch.testing.assert_close(teacher.logits(some_images()), expected, rtol=1e-4, atol=1e-4)
    features = network.forward_head(network.forward_features(view), pre_logits=True)
    torch.testing.assert_close(teacher.logits_and_features(some_images())[1], features, rtol=1e-4, atol=1e-4)
    assert (teacher.size, teacher.feature_dim) == (size or 160, features.shape[1])
    same = opened(**settings, **{key: network.pretrained_cfg[key] for key in ("mean", "std")})
    assert torch.equal(same.logits(view), expected)  # images of its size and normalization are taken as they are


def test_it_stays_in_eval_mode_and_is_no_part_of_the_module_that_holds_it(weights):
    class Module(L.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(10, 10)
            self.teacher = teacher_of(weights)

    module = Module()
    answers = module.teacher.logits(some_images())
    module.train()
    module.teacher._network.train()  # even by whoever finds it
    assert torch.equal(module.teacher.logits(some_images()), answers)
    assert list(module.state_dict()) == ["layer.weight", "layer.bias"]
    assert not any(tensor.requires_grad for tensor in module.teacher._network.parameters())
    (module.layer(answers) * answers).sum().backward()  # a loss has gradients for the student alone
    assert module.layer.weight.grad is not None
    assert not answers.requires_grad
    assert not module.teacher.logits_and_features(some_images())[1].is_inference()


@pytest.mark.parametrize(("in_bf16", "precision"), [(True, "bf16"), (False, "fp32")])
def test_auto_is_bf16_just_where_the_device_computes_in_it_and_its_answers_are_float32(
    in_bf16, precision, weights, monkeypatch
):
    monkeypatch.setattr("shvit_pl.teachers.teacher.computes_in_bf16", lambda device: in_bf16)
    auto, explicit, exact = (teacher_of(weights, teacher_precision=choice) for choice in ("auto", precision, "fp32"))
    answers, expected = auto.logits(some_images()), exact.logits(some_images())
    assert (auto.precision, precision in auto.note, answers.dtype) == (precision, True, torch.float32)
    assert torch.equal(answers, explicit.logits(some_images()))
    assert torch.equal(answers, expected) is not in_bf16
    torch.testing.assert_close(answers, expected, rtol=0.1, atol=0.1)
    with torch.autocast("cpu", torch.bfloat16):  # the student's
        assert torch.equal(exact.logits(some_images()), expected)


def test_a_cpu_computes_in_bf16_where_it_has_an_instruction_for_it(monkeypatch):
    able = ({"amx_bf16": True, "avx512_bf16": False}, {"avx512_bf16": True}, {"bf16": True})
    unable = ({"avx2": True, "avx512_bf16": False}, {})
    for capabilities in (*able, *unable):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda found=capabilities: found, raising=False)
        assert computes_in_bf16(torch.device("cpu")) is (capabilities in able)


@pytest.mark.slow
def test_compiled_answers_are_the_same(weights):
    plain, compiled = (teacher_of(weights, compile=choice) for choice in (False, True))
    torch.testing.assert_close(compiled.logits(some_images()), plain.logits(some_images()), rtol=1e-4, atol=1e-4)
    ours, theirs = (each.logits_and_features(some_images())[1] for each in (compiled, plain))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


# ---- its identity


def test_whatever_changes_the_answers_changes_the_identity_and_the_place_does_not(network, weights, tmp_path):
    """That it is the same in every process: test_cache_files.py."""
    before = identity_of(DistillConfig("test_resnet", weights=weights))
    for change in ({"teacher_size": 96}, {"teacher_precision": "fp32"}, {"use_ema": True}, {"class_map": {"a": 1}}):
        assert identity_of(DistillConfig("test_resnet", weights=weights, **change)) != before
    copy = stored(network, tmp_path / "copy.safetensors")
    assert identity_of(DistillConfig("test_resnet", weights=copy)) == before
    save_for_hf(network, tmp_path / "saved", safe_serialization=True)
    of_folder = identity_of(DistillConfig("saved"))
    for path in (copy, tmp_path / "saved" / "model.safetensors"):
        stored(shaken("test_resnet", seed=1), path)
    assert identity_of(DistillConfig("test_resnet", weights=copy)) != before
    assert identity_of(DistillConfig("saved")) != of_folder


# ---- a run of ours as the teacher, and whether it knows the data


@pytest.fixture(scope="module")
def batches():
    """Four batches of validation images, as the student gets them."""
    data = HFImageDataModule(image_size=64, batch_size=32, num_workers=0)
    data.setup("validate")
    loader = iter(data.val_dataloader())
    return [data.on_after_batch_transfer(next(loader), 0) for _ in range(4)]


@torch.no_grad()
def test_a_run_teaches_with_its_best_weights_or_their_average(run):
    best, images = run / "checkpoints" / "best.ckpt", some_images()
    for use_ema in (False, True):
        teacher = opened(teacher=str(run), class_names=DIGITS, use_ema=use_ema)
        torch.testing.assert_close(teacher.logits(images), network_of(best, use_ema)(images), rtol=1e-4, atol=1e-4)
    assert teacher.note == f"{run}, 1.0 M parameters, 10 classes matched by name, 64 px, fp32"


def test_a_trained_teacher_passes_and_its_accuracy_is_reported(run, batches):
    teacher = opened(teacher=str(run), class_names=DIGITS)
    check = check_teacher(teacher, batches)
    labels = torch.cat([batch["label"] for batch in batches])
    predicted = torch.cat([teacher.logits(batch["image"]).argmax(1) for batch in batches])
    assert check.top1 == pytest.approx((predicted == labels).float().mean().item())
    assert check.majority == pytest.approx(labels.bincount().max().item() / 128)
    assert (check.images, check.top1 > 0.4) == (128, True)
    assert f"top-1 {check.top1:.4f} on 128 validation images" in str(check)
    assert "\n" not in str(check)
    assert TeacherCheck("t", 0.5, 0.2, 400).threshold == pytest.approx(0.2 + 2 * 0.02)  # two standard errors above


def test_a_teacher_that_guesses_is_refused_with_the_likely_reasons(run, weights, batches):
    shifted = {name: (place + 1) % 10 for place, name in enumerate(DIGITS)}
    for teacher in (teacher_of(weights), opened(teacher=str(run), class_names=DIGITS, class_map=shifted)):
        reasons = ("order of classes", "untrained weights", "model.distill.check false")
        with refused(f"model.distill.teacher '{teacher.source}'", *reasons, longest=600):  # with the run's path
            check_teacher(teacher, batches)


def test_images_without_a_label_are_not_counted(run, batches):
    teacher = opened(teacher=str(run), class_names=DIGITS)
    first, *others = batches
    unlabeled = {**first, "label": first["label"].clone()}
    unlabeled["label"][8:] = -1
    nothing = {**first, "label": torch.full_like(first["label"], -1)}
    kept = {"image": first["image"][:8], "label": first["label"][:8]}
    assert check_teacher(teacher, [unlabeled, nothing, *others]) == check_teacher(teacher, [kept, *others])
    for uniform in (nothing, {**first, "label": torch.full_like(first["label"], 3)}):  # these can't show anything
        with refused("model.distill.check: ", "model.distill.check false"):
            check_teacher(teacher, [uniform] * 4)
