"""The optimiser and its schedule."""

import pytest
import torch

from shvit_pl.models import create_model
from shvit_pl.optim import OptimConfig, make_optimizer, make_schedule, peak_lr


def rates(config, global_batch=512, total=100, epochs=10.0):
    schedule = make_schedule(config, global_batch, total, epochs)
    return schedule, [schedule.peak * schedule(step) for step in range(total + 1)]


def test_the_learning_rate_is_stated_for_a_global_batch_of_512():
    assert peak_lr(OptimConfig(lr=1e-3), 2048) == pytest.approx(4e-3)


def test_warm_up_is_linear_and_the_cosine_ends_at_min_lr():
    schedule, lr = rates(OptimConfig(lr=1e-3, warmup_epochs=1, warmup_lr=1e-6, min_lr=1e-5))
    assert schedule.warmup_steps == 10
    assert not schedule.warmup_shrunk
    assert lr[0] == pytest.approx(1e-6)
    assert lr[5] == pytest.approx((1e-6 + 1e-3) / 2)
    assert lr[10] == pytest.approx(1e-3)
    assert lr[55] == pytest.approx((1e-3 + 1e-5) / 2)
    assert lr[100] == pytest.approx(1e-5)


def test_a_warm_up_longer_than_a_fifth_of_the_run_shrinks_to_a_fifth():
    schedule, lr = rates(OptimConfig(warmup_epochs=50))
    assert (schedule.warmup_steps, schedule.warmup_shrunk) == (20, True)
    assert max(lr) == lr[20]


@pytest.mark.parametrize("total", [1, 2, 4])
def test_a_run_of_a_few_steps_is_legal(total):
    _, lr = rates(OptimConfig(), total=total, epochs=1.0)
    assert all(0 < rate <= 1e-3 for rate in lr)


def test_one_dimensional_parameters_are_not_decayed():
    model = create_model("tiny", num_classes=10)
    schedule, _ = rates(OptimConfig(weight_decay=0.3))
    optimizer, scheduler = make_optimizer(model, OptimConfig(weight_decay=0.3), schedule)
    decayed = {id(p) for group in optimizer.param_groups if group["weight_decay"] > 0 for p in group["params"]}
    for parameter in model.parameters():
        assert (id(parameter) in decayed) == (parameter.ndim > 1)
    assert scheduler.get_last_lr()[0] == pytest.approx(schedule.warmup_lr)


def test_any_timm_optimiser_steps():
    model = torch.nn.Linear(3, 2)
    for name in ("sgd", "lamb", "adopt"):
        config = OptimConfig(name=name)
        schedule, _ = rates(config)
        optimizer, _ = make_optimizer(model, config, schedule)
        before = model.weight.clone()
        model(torch.ones(1, 3)).sum().backward()
        for _ in range(3):
            optimizer.step()
        assert not torch.equal(model.weight, before), name
