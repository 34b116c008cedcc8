"""The distances to a teacher: the official code's numbers, timm's, and their definitions."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from timm.task import FeatureDistillationTask, LogitDistillationTask
from torch import nn

from shvit_pl import DistillationModule, DistillConfig
from shvit_pl.modules.config import MixConfig
from shvit_pl.modules.distillation import hard, make_objective, soft, soft_batchmean
from tests.modules.conftest import TINY, batch_of, logged_by, student_of

OFFICIAL = json.loads((Path(__file__).parents[1] / "golden" / "distillation_loss.json").read_text())


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
    official = {name: torch.tensor(case[name], requires_grad=True) for name in ("logits", "logits_dist", "teacher")}
    objective, alpha = ("hard", 0.0) if case["kind"] == "none" else (case["kind"], case["alpha"])
    config = DistillConfig("official", objective=objective, alpha=alpha, tau=case["tau"])
    names = [f"class {number}" for number in range(7)]
    module = DistillationModule(distill=config, design=TINY, class_names=names, mix=MixConfig(mixup=0.8))
    logged_by(module)
    module.model = Answering(official["logits"], official["logits_dist"])
    module.teacher = SimpleNamespace(logits=lambda images: official["teacher"])
    loss = module.training_step({**batch_of(4), "target": torch.tensor(case["soft_targets"])}, 0)
    assert loss.item() == pytest.approx(case["loss"], abs=1e-6)
    loss.backward()
    assert official["logits"].grad.any()
    assert official["teacher"].grad is None


def test_soft_batchmean_is_timms_task(teacher):
    model, named = teacher
    batch, student = batch_of(), {"tau": 4.0, "heads": "single"}
    module, logged = student_of(DistillConfig(**named, **student, objective="soft_batchmean"))
    module.eval().training_step({**batch}, 0)
    task = LogitDistillationTask(
        module.model, model, nn.CrossEntropyLoss(), task_loss_weight=0.5, temperature=4.0, verbose=False
    )
    theirs = task.eval()(batch["image"], batch["label"])
    torch.testing.assert_close(logged["train/loss_distill"], theirs["kd_loss"])


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


def test_hard_is_the_cross_entropy_of_the_top_class_and_knows_no_temperature():
    student, teacher = some_logits()
    expected = -student.log_softmax(1)[range(5), teacher.argmax(1)].mean()
    for tau in (0.1, 1.0, 30.0):
        objective = make_objective(DistillConfig("t", objective="hard", tau=tau))
        torch.testing.assert_close(objective(student, teacher), expected)
    torch.testing.assert_close(hard(student + 50, 9 * teacher - 50), expected)  # only differences count


@pytest.mark.parametrize("tau", [0.01, 0.5, 1.0, 3.0, 1000.0])
def test_soft_is_the_divergence_by_its_definition_at_any_temperature(tau):
    """Thus zero where student and teacher are equal; a number added to all logits of an image changes nothing."""
    student, teacher = some_logits()
    shift = 100 * torch.randn(5, 1, generator=torch.Generator().manual_seed(1)).double()
    ours, theirs = ((logits / tau).log_softmax(1) for logits in (student, teacher))
    divergence = (theirs.exp() * (theirs - ours)).sum(1).mean()
    for objective, classes in ((soft_batchmean, 1), (soft, 7)):
        torch.testing.assert_close(objective(student + shift, teacher - shift, tau), tau**2 * divergence / classes)
        assert objective(teacher, teacher, tau).item() == pytest.approx(0, abs=1e-12 * max(1, tau**2))
