"""A teacher answers as its network would by itself, and is nothing but a teacher."""

import subprocess
import sys

import lightning as L
import pytest
import torch
from torch import nn

from shvit_pl.teachers.config import DistillConfig
from shvit_pl.teachers.teacher import computes_in_bf16, identity_of
from tests.teachers.makers import TEN, as_seen_by, opened, shaken, some_images, stored


@pytest.fixture
def network():
    return shaken("test_resnet")


@pytest.fixture
def weights(network, tmp_path):
    return stored(network, tmp_path / "resnet.safetensors")


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_byobnet"])
@pytest.mark.parametrize("size", [None, 96])
@torch.no_grad()
def test_answers_are_those_of_the_network_on_its_own_view_of_the_images(name, size, tmp_path):
    network = shaken(name)
    teacher = opened(teacher=name, weights=stored(network, tmp_path / "w.safetensors"), teacher_size=size)
    view = as_seen_by(network, some_images(), size)
    expected = network(view)
    assert expected.std(dim=0).mean() > 1e-3, "the answers must depend on the image for this test to say anything"
    torch.testing.assert_close(teacher.logits(some_images()), expected, rtol=1e-4, atol=1e-4)
    features = network.forward_head(network.forward_features(view), pre_logits=True)
    torch.testing.assert_close(teacher.logits_and_features(some_images())[1], features, rtol=1e-4, atol=1e-4)
    assert (teacher.size, teacher.classes, teacher.feature_dim) == (size or 160, 10, features.shape[1])


@torch.no_grad()
def test_without_its_normalisation_the_answers_would_be_others(network, weights):
    expected = network(as_seen_by(network, some_images()))
    unaware = opened(teacher="test_resnet", weights=weights, mean=(0.5,) * 3, std=(0.5,) * 3).logits(some_images())
    assert (unaware - expected).abs().max() > 1e-3


@torch.no_grad()
def test_images_of_its_size_and_normalisation_are_taken_as_they_are(network, weights):
    teacher = opened(teacher="test_resnet", weights=weights, mean=(0.5,) * 3, std=(0.5,) * 3)
    images = some_images(size=160)
    assert torch.equal(teacher.logits(images), network(images))


def test_a_loss_with_its_answers_has_gradients_for_the_student_alone(weights):
    teacher = opened(teacher="test_resnet", weights=weights)
    student = nn.Linear(10, 10)
    answers = teacher.logits(some_images())
    (student(answers) * answers).sum().backward()
    assert student.weight.grad is not None
    assert not answers.requires_grad
    assert not teacher.logits_and_features(some_images())[1].is_inference()


def test_it_stays_in_eval_mode_and_is_no_part_of_the_module_that_holds_it(weights):
    class Module(L.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(1, 1)
            self.teacher = opened(teacher="test_resnet", weights=weights)

    module = Module()
    before = module.teacher.logits(some_images())
    module.train()
    module.teacher._network.train()  # even by whoever finds it
    assert torch.equal(module.teacher.logits(some_images()), before)
    assert list(module.state_dict()) == ["layer.weight", "layer.bias"]
    assert len(list(module.parameters())) == 2
    assert not any(tensor.requires_grad for tensor in module.teacher._network.parameters())


def test_bf16_answers_are_float32_and_near_those_in_fp32(weights):
    exact, rough = (
        opened(teacher="test_resnet", weights=weights, teacher_precision=precision).to("cpu")
        for precision in ("fp32", "bf16")
    )
    answers = rough.logits(some_images())
    assert answers.dtype == torch.float32
    assert not torch.equal(answers, exact.logits(some_images()))
    torch.testing.assert_close(answers, exact.logits(some_images()), rtol=0.1, atol=0.1)
    assert "bf16" in rough.note


@pytest.mark.parametrize(("in_bf16", "precision"), [(True, "bf16"), (False, "fp32")])
def test_auto_is_bf16_just_where_the_device_computes_in_it(in_bf16, precision, weights, monkeypatch):
    monkeypatch.setattr("shvit_pl.teachers.teacher.computes_in_bf16", lambda device: in_bf16)
    auto, explicit = (
        opened(teacher="test_resnet", weights=weights, teacher_precision=choice) for choice in ("auto", precision)
    )
    assert auto.precision == precision
    assert torch.equal(auto.logits(some_images()), explicit.logits(some_images()))


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"amx_bf16": True, "avx512_bf16": False}, True),
        ({"avx512_bf16": True}, True),
        ({"bf16": True}, True),
        ({"avx2": True, "avx512_bf16": False}, False),
        ({}, False),
    ],
)
def test_a_cpu_computes_in_bf16_where_it_has_an_instruction_for_it(capabilities, expected, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert computes_in_bf16(torch.device("cpu")) is expected


def test_within_the_students_autocast_an_fp32_teacher_computes_in_fp32(weights):
    teacher = opened(teacher="test_resnet", weights=weights, teacher_precision="fp32")
    expected = teacher.logits(some_images())
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(teacher.logits(some_images()), expected)


@pytest.mark.slow
def test_compiled_answers_are_the_same(weights):
    plain, compiled = (opened(teacher="test_resnet", weights=weights, compile=choice) for choice in (False, True))
    torch.testing.assert_close(compiled.logits(some_images()), plain.logits(some_images()), rtol=1e-4, atol=1e-4)
    ours, theirs = (each.logits_and_features(some_images())[1] for each in (compiled, plain))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_the_note_says_what_teaches(weights):
    note = opened(teacher="test_resnet", weights=weights, teacher_precision="fp32").note
    assert note == "test_resnet, 0.4 M parameters, 10 classes matched by position (names not comparable), 160 px, fp32"


@pytest.mark.slow
def test_the_identity_is_known_without_the_network_and_in_every_process(weights, tmp_path):
    config = DistillConfig("test_resnet", weights=weights, class_map={name: n for n, name in enumerate(TEN)})
    teacher = opened(**vars(config))
    program = (
        "from shvit_pl.teachers.config import DistillConfig\n"
        "from shvit_pl.teachers.teacher import identity_of\n"
        f"print(identity_of({config!r}))"
    )
    there = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert there.strip() == str(teacher.identity) == str(identity_of(config))


@pytest.mark.parametrize(
    "change",
    [{"teacher_size": 96}, {"teacher_precision": "fp32"}, {"use_ema": True}, {"class_map": {"a": 1}}, "weights"],
    ids=str,
)
def test_whatever_changes_the_answers_changes_the_identity(change, weights, tmp_path):
    before = identity_of(DistillConfig("test_resnet", weights=weights))
    if change == "weights":
        stored(shaken("test_resnet", seed=1), weights)
        change = {}
    assert identity_of(DistillConfig("test_resnet", weights=weights, **change)) != before


def test_where_the_weights_lie_does_not_change_the_identity(network, weights, tmp_path):
    copy = stored(network, tmp_path / "copy.safetensors")
    assert identity_of(DistillConfig("test_resnet", weights=copy)) == identity_of(
        DistillConfig("test_resnet", weights=weights)
    )
