"""The distances to a teacher: the official code's numbers, timm's, and what they are by definition."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from timm.task import FeatureDistillationTask, LogitDistillationTask
from torch import nn
from torch.nn import functional as F

from shvit_pl import DistillationModule, DistillConfig
from shvit_pl.modules.config import MixConfig
from shvit_pl.modules.distillation import feature, hard, make_objective, soft, soft_batchmean
from tests.modules.students import TINY, batch_of, logged_by, student_of

OFFICIAL = json.loads((Path(__file__).parents[1] / "golden" / "distillation_loss.json").read_text())
OF_LOGITS = {"hard": hard, "soft": soft, "soft_batchmean": soft_batchmean}


class Answering(nn.Module):
    """A network of fixed answers."""

    def __init__(self, *answers):
        super().__init__()
        self.answers = answers

    def forward(self, images):
        return self.answers


def some_logits(seed=0, classes=7):
    generator = torch.Generator().manual_seed(seed)
    return (3 * torch.randn(2, 5, classes, generator=generator, dtype=torch.float64)).unbind()


@pytest.mark.parametrize("case", OFFICIAL, ids=lambda case: f"{case['kind']}-{case['alpha']}-{case['tau']}")
def test_the_loss_of_a_step_is_the_official_codes(case):
    official = {name: torch.tensor(case[name]) for name in ("logits", "logits_dist", "teacher", "soft_targets")}
    objective, alpha = ("hard", 0.0) if case["kind"] == "none" else (case["kind"], case["alpha"])
    config = DistillConfig("official", objective=objective, alpha=alpha, tau=case["tau"])
    names = [f"class {number}" for number in range(7)]
    module = DistillationModule(distill=config, design=TINY, class_names=names, mix=MixConfig(mixup=0.8))
    logged_by(module)
    module.model = Answering(official["logits"], official["logits_dist"])
    module.teacher = SimpleNamespace(logits=lambda images: official["teacher"])
    loss = module.training_step({**batch_of(4), "target": official["soft_targets"]}, 0)
    assert loss.item() == pytest.approx(case["loss"], abs=1e-6)


@pytest.mark.parametrize("tau", [1.0, 4.0])
def test_soft_batchmean_is_timms_task_and_as_many_times_soft_as_there_are_classes(teacher, tau):
    model, named = teacher
    batch, found = batch_of(), {}
    for objective in ("soft", "soft_batchmean"):
        config = DistillConfig(**named, objective=objective, tau=tau, heads="single")
        module, logged = student_of(config)
        module.eval().training_step({**batch}, 0)
        found[objective] = logged["train/loss_distill"]
    task = LogitDistillationTask(
        module.model, model, nn.CrossEntropyLoss(), task_loss_weight=0.5, temperature=tau, verbose=False
    )
    theirs = task.eval()(batch["image"], batch["label"])
    torch.testing.assert_close(found["soft_batchmean"], theirs["kd_loss"])
    torch.testing.assert_close(10 * found["soft"], theirs["kd_loss"])


@pytest.mark.parametrize("width", [160, 96], ids=["projected", "of the teacher's width"])
def test_feature_is_timms_task_with_its_projection(teacher, width):
    model, named = teacher
    design = {**TINY, "embed_dim": [80, 112, width]}
    module, logged = student_of(DistillConfig(**named, objective="feature"), design)
    assert (module.feature_projection is not None) == (width != model.num_features)
    module.eval().training_step(batch_of(), 0)
    task = FeatureDistillationTask(module.model, model, nn.CrossEntropyLoss(), task_loss_weight=0.5, verbose=False)
    if module.feature_projection is not None:
        task.trainable_module.projection.load_state_dict(module.feature_projection.state_dict())
    theirs = task.eval()(batch_of()["image"], batch_of()["label"])
    torch.testing.assert_close(logged["train/loss_distill"], theirs["kd_loss"])


@pytest.mark.parametrize("tau", [0.5, 1.0, 3.0, 20.0])
@pytest.mark.parametrize("objective", [soft, soft_batchmean])
def test_soft_is_zero_for_a_student_that_equals_its_teacher_and_positive_otherwise(objective, tau):
    for seed in range(50):
        student, teacher = some_logits(seed)
        assert objective(teacher, teacher, tau).item() == pytest.approx(0, abs=1e-12)
        assert objective(student, teacher, tau) > 0


@pytest.mark.parametrize("name", OF_LOGITS)
def test_adding_a_number_to_all_logits_of_an_image_changes_nothing(name):
    student, teacher = some_logits()
    shift = torch.randn(5, 1, generator=torch.Generator().manual_seed(1)).double() * 100
    objective = OF_LOGITS[name]
    expected = objective(student, teacher)
    torch.testing.assert_close(objective(student + shift, teacher), expected)
    torch.testing.assert_close(objective(student, teacher + shift), expected)


def test_hard_is_the_cross_entropy_of_the_top_class_and_knows_no_temperature():
    student, teacher = some_logits()
    expected = -student.log_softmax(1)[range(5), teacher.argmax(1)].mean()
    for tau in (0.1, 1.0, 30.0):
        objective = make_objective(DistillConfig("t", objective="hard", tau=tau))
        torch.testing.assert_close(objective(student, teacher), expected)
    torch.testing.assert_close(hard(student, 9 * teacher), expected)


def test_soft_is_the_divergence_by_its_definition():
    student, teacher = some_logits()
    ours, theirs = ((logits / 3).softmax(1) for logits in (student, teacher))
    divergence = (theirs * (theirs / ours).log()).sum(1)
    torch.testing.assert_close(soft_batchmean(student, teacher, 3.0), 9 * divergence.mean())
    torch.testing.assert_close(soft(student, teacher, 3.0), 9 * divergence.mean() / 7)


def test_at_a_low_temperature_soft_teaches_the_top_class_alone():
    student, teacher = some_logits()
    for tau in (0.1, 0.03, 0.01):
        cross_entropy = soft(student, teacher, tau) * 7 / tau**2
        torch.testing.assert_close(cross_entropy, hard(student / tau, teacher), rtol=tau, atol=0)


def test_at_a_high_temperature_soft_is_half_the_squared_difference_of_centered_logits():
    student, teacher = some_logits()
    centered = [logits - logits.mean(1, keepdim=True) for logits in (student, teacher)]
    for tau in (100.0, 1000.0):
        expected = F.mse_loss(*centered) / 2
        torch.testing.assert_close(soft_batchmean(student, teacher, tau), expected, rtol=10 / tau, atol=0)
        torch.testing.assert_close(soft(student, teacher, tau), expected / 7, rtol=10 / tau, atol=0)


def test_feature_is_the_mean_squared_difference():
    ours, theirs = some_logits()
    assert feature(theirs, theirs) == 0
    torch.testing.assert_close(feature(ours, theirs), ((ours - theirs) ** 2).sum() / 35)


@pytest.mark.parametrize("name", [*OF_LOGITS, "feature"])
def test_the_gradient_is_the_students_alone(name):
    student, teacher = (logits.requires_grad_() for logits in some_logits())
    make_objective(DistillConfig("t", objective=name, tau=2.0))(student, teacher.detach()).backward()
    assert student.grad.abs().sum() > 0
    assert teacher.grad is None
