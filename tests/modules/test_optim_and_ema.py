"""The optimizer, its schedule and gradient clipping."""

import json
from pathlib import Path

import lightning as L
import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision
from timm.optim import list_optimizers
from timm.utils import adaptive_clip_grad
from torch import nn

from shvit_pl import ClassificationModule
from shvit_pl.errors import UserError
from shvit_pl.models import create_model
from shvit_pl.modules import optim_and_ema as optim
from shvit_pl.modules.config import OptimConfig
from tests.conftest import perturb_
from tests.modules.conftest import CLASSES, TINY
from tests.refusals import refused

GOLDEN = Path(__file__).parents[1] / "golden"
OFFICIAL = json.loads((GOLDEN / "lr_schedule.json").read_text())


def rates(config, global_batch=512, total=100, epochs=10.0):
    schedule = optim.make_schedule(config, global_batch, total, epochs)
    return schedule, [schedule.peak * schedule(step) for step in range(total + 1)]


def optimizer_of(model, config, fused=True):
    optim.check_optimizer(config)
    return optim.make_optimizer(model, config, optim.make_schedule(config, 512, 100, 10.0), 0.3, fused=fused)


def test_warm_up_is_linear_and_at_most_a_fifth_of_the_run_and_the_cosine_ends_at_min_lr():
    assert rates(OptimConfig(lr=1e-3), 2048)[0].peak == pytest.approx(4e-3)  # it is stated for a global batch of 512
    schedule, lr = rates(OptimConfig(lr=1e-3, warmup_epochs=1, warmup_lr=1e-6, min_lr=1e-5))
    assert (schedule.warmup, schedule.warmup_shrunk) == (10, False)
    expected = {0: 1e-6, 5: (1e-6 + 1e-3) / 2, 10: 1e-3, 55: (1e-3 + 1e-5) / 2, 100: 1e-5}
    assert {step: lr[step] for step in expected} == pytest.approx(expected)
    schedule, lr = rates(OptimConfig(warmup_epochs=50))
    assert (schedule.warmup, schedule.warmup_shrunk) == (20, True)
    assert max(lr) == lr[20]


@pytest.mark.parametrize("official", OFFICIAL, ids=lambda official: f"{official['epochs']} epochs")
def test_by_epoch_the_rate_is_the_official_codes_in_every_epoch(official):
    settings = {name: official[name] for name in ("warmup_epochs", "warmup_lr", "min_lr")}
    config = OptimConfig(lr=official["peak_lr"], interval="epoch", **settings)
    model = torch.nn.Linear(2, 2)
    schedule = optim.make_schedule(config, 512, total_steps=official["epochs"] * 7, epochs=official["epochs"])
    optimizer, scheduler = optim.make_optimizer(model, config, schedule, 0.0)
    used = []
    for _ in range(official["epochs"]):
        used.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert used == pytest.approx(official["lr_used_in_epoch"], rel=1e-12)


@pytest.mark.parametrize("total", [1, 2, 4])
@pytest.mark.parametrize("interval", ["step", "epoch"])
def test_a_run_of_a_few_steps_is_legal(total, interval):
    _, lr = rates(OptimConfig(interval=interval), total=total, epochs=1.0)
    assert all(0 < rate <= 1e-3 for rate in lr)


def test_one_dimensional_parameters_are_not_decayed():
    model = create_model("tiny", num_classes=10)
    optimizer, scheduler = optimizer_of(model, OptimConfig())
    decayed = {id(p) for group in optimizer.param_groups if group["weight_decay"] > 0 for p in group["params"]}
    for parameter in model.parameters():
        assert (id(parameter) in decayed) == (parameter.ndim > 1)
    assert scheduler.get_last_lr()[0] == pytest.approx(1e-6)


@pytest.mark.parametrize(("name", "expected"), [("s1", 0.025), ("s2", 0.032), ("s3", 0.035), ("s4", 0.03)])
def test_the_weight_decay_auto_is_the_papers(name, expected):
    module = ClassificationModule(design={"name": name}, optim=OptimConfig(weight_decay="auto"))
    assert module.weight_decay == expected


def test_with_layer_decay_earlier_layers_learn_slower_and_the_warm_up_keeps_that():
    model = create_model("tiny", num_classes=10)
    optimizer, scheduler = optimizer_of(model, OptimConfig(layer_decay=0.5))
    rate = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    order = [model.patch_embed[0].c.weight, model.stages[0].blocks[0].conv.m.c.weight, model.head.l.weight]
    first, second, last = (rate[id(parameter)] for parameter in order)
    assert first < second < last
    for _ in range(20):
        optimizer.step()
        scheduler.step()
    at_peak = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert at_peak[id(order[2])] == pytest.approx(1e-3)
    assert at_peak[id(order[0])] / at_peak[id(order[2])] == pytest.approx(first / last)


def with_gradients(model, scale, seed=0):
    """Every second unit's gradient is far larger than its weights, and one parameter has none."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator) * scale
        parameter.grad[::2] *= 1e3
    next(model.parameters()).grad = None
    return list(perturb_(model).parameters())


def test_adaptive_clipping_is_the_official_codes():
    golden = json.loads((GOLDEN / "agc.json").read_text())
    parameters = [torch.nn.Parameter(torch.tensor(values)) for values in golden["params"]]
    for parameter, gradient in zip(parameters, golden["grads"], strict=True):
        parameter.grad = torch.tensor(gradient)
    optim.clip_adaptively(parameters, golden["clip_factor"], golden["eps"])
    for parameter, expected in zip(parameters, golden["clipped"], strict=True):
        torch.testing.assert_close(parameter.grad, torch.tensor(expected))
    optim.clip_adaptively([torch.nn.Parameter(torch.ones(3))], 0.02)  # without a gradient there is nothing to clip


@pytest.mark.parametrize("scale", [0.0, 1e-9, 1e-6, 1e-3, 1.0, 1e6])
def test_adaptive_clipping_is_timms_bit_for_bit(scale):
    ours, theirs = (with_gradients(create_model("tiny", num_classes=10), scale) for _ in range(2))
    before = [parameter.grad.clone() for parameter in ours[1:]]
    optim.clip_adaptively(ours, 0.02)
    adaptive_clip_grad(theirs, 0.02)
    assert ours[0].grad is None
    for mine, other in zip(ours[1:], theirs[1:], strict=True):
        assert torch.equal(mine.grad, other.grad)
    if scale == 1e-6:  # some units are clipped, and some are not
        pairs = [(old, new.grad) for old, new in zip(before, ours[1:], strict=True) if old.ndim > 1]
        clipped = torch.cat([(old != new).flatten(1).any(1) for old, new in pairs])
        assert 0 < clipped.sum() < len(clipped)


@pytest.mark.parametrize("scale", [None, 2.0**10], ids=["32 bits", "16 bits"])
def test_the_module_clips_every_parameter_the_classifiers_too_by_unscaled_gradients(scale):
    module = ClassificationModule(design=TINY, optim=OptimConfig(agc=0.02), class_names=CLASSES)
    parameters = list(perturb_(module.model).parameters())
    module.trainer = L.Trainer(logger=False, accelerator="cpu")
    scaler = torch.amp.GradScaler("cpu", init_scale=scale or 1.0, enabled=scale is not None)
    if scale is not None:
        module.trainer.strategy.precision_plugin = MixedPrecision("bf16-mixed", "cpu")
        module.trainer.strategy.precision_plugin.scaler = scaler
    optimizer, _ = optimizer_of(module.model, module.config.optim)
    scaler.scale(1e3 * module.model.train()(torch.randn(4, 3, 64, 64)).square().mean()).backward()
    unscaled = [parameter.grad.clone() / (scale or 1.0) for parameter in parameters]
    copies = [parameter.detach().clone().requires_grad_() for parameter in parameters]
    for copy, gradient in zip(copies, unscaled, strict=True):
        copy.grad = gradient.clone()
    adaptive_clip_grad(copies, clip_factor=0.02)
    module.configure_gradient_clipping(optimizer)
    for (name, parameter), copy, gradient in zip(module.model.named_parameters(), copies, unscaled, strict=True):
        torch.testing.assert_close(parameter.grad, copy.grad)
        assert not name.startswith("head") or not torch.equal(parameter.grad, gradient)
    scaler.step(optimizer)
    assert any(not torch.equal(*both) for both in zip(copies, parameters, strict=True))


def test_further_arguments_reach_the_optimizer_and_wrong_ones_are_refused():
    model = torch.nn.Linear(3, 2)
    optimizer, _ = optimizer_of(model, OptimConfig(options={"betas": [0.9, 0.95]}))
    assert tuple(optimizer.param_groups[0]["betas"]) == (0.9, 0.95)
    for options in ({"fused": False}, {"foreach": True}):  # who asks for another way of stepping gets it
        optimizer, _ = optimizer_of(model, OptimConfig(options=options))
        assert not optimizer.param_groups[0]["fused"]
    with refused("model.optim.options ... sgd does not take them (it has no bettas); its options are dampening, "):
        optimizer_of(model, OptimConfig(name="sgd", options={"bettas": 1}))


# whichever comes first compiles for half a minute
FULL = dict.fromkeys(("kron", "kronc", "kronw"), pytest.mark.full)


@pytest.mark.parametrize("name", [pytest.param(name, marks=FULL.get(name, ())) for name in list_optimizers()])
def test_any_timm_optimizer_takes_a_step_or_is_refused_by_its_name(name):
    model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    before = [parameter.clone() for parameter in model.parameters()]
    if name == "adahessian" or name.startswith(("bnb", "fused")):  # second derivatives; a package of GPU kernels
        with pytest.raises(UserError, match=f"model.optim.name '?{name}"):
            optimizer_of(model, OptimConfig(name=name))
        return
    optimizer, _ = optimizer_of(model, OptimConfig(name=name, warmup_epochs=0))
    images = torch.randn(8, 4)

    def closure():
        optimizer.zero_grad()
        loss = model(images).square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    optimizer.step(closure)
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    assert any(not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))


def stepped(model, config, optimizer=None, steps=3, fused=True):
    """The optimizer after some steps on fixed gradients."""
    if optimizer is None:
        optimizer, _ = optimizer_of(model, config, fused)
    for step in range(steps):
        for number, parameter in enumerate(model.parameters()):
            parameter.grad = torch.full_like(parameter, 0.1 + step - number % 3)
        optimizer.step()
    return optimizer


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
def test_the_fused_optimizer_does_what_the_plain_one_does(name):
    models = [perturb_(create_model("tiny", num_classes=10)) for _ in range(2)]
    fused, plain = (stepped(models[not how], OptimConfig(name=name), fused=how) for how in (True, False))
    assert (fused.param_groups[0]["fused"], bool(plain.param_groups[0]["fused"])) == (True, False)
    for ours, theirs in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("fused", [True, False])
def test_a_checkpoint_of_the_other_kind_of_step_goes_on(fused):
    model, config = nn.Linear(3, 2), OptimConfig()
    state = stepped(model, config, fused=not fused).state_dict()
    optimizer, _ = optimizer_of(model, config, fused)
    optimizer.load_state_dict(state)
    for group in optimizer.param_groups:
        group["fused"] = fused
    optim.place_steps(optimizer)
    stepped(model, config, optimizer, steps=1)
    assert {float(each["step"]) for each in optimizer.state.values()} == {4.0}
