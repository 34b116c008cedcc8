"""Learning from a teacher: which head learns what, what both see, and that the teacher leaves no trace."""

import lightning as L
import pytest
import torch

from shvit_pl import ClassificationModule, DistillationModule, DistillConfig, create_model, load_weights
from shvit_pl.modules.config import EmaConfig, MixConfig
from tests.modules.conftest import CLASSES, TINY, batch_of, digits, student_of, train
from tests.refusals import refused
from tests.teachers.makers import shaken, stored

DUAL = {**TINY, "distilled": True}
EMA = EmaConfig(decay=0.9)


def gradients(module, batch, labels=None):
    """The loss's gradients of all weights."""
    module.zero_grad()
    module.training_step({**batch, **({} if labels is None else {"label": labels})}, 0).backward()
    return {name: parameter.grad.clone() for name, parameter in module.model.named_parameters()}


def saved(module, path):
    module.trainer.save_checkpoint(path)
    return path, torch.load(path, weights_only=True)


@pytest.mark.parametrize(
    ("config", "heads", "wrong"),
    [
        ({}, 2, "false: model.distill.heads dual needs"),
        ({"heads": "dual"}, 2, "false: model.distill.heads dual needs"),
        ({"heads": "single"}, 1, "true: the second classifier would learn nothing"),
        ({"objective": "feature"}, 1, "true: the second classifier would learn nothing"),
    ],
    ids=str,
)
def test_the_student_has_as_many_classifiers_as_the_distillation_asks_for(config, heads, wrong):
    settings = {"distill": DistillConfig("t", **config), "class_names": CLASSES}
    module = DistillationModule(design=TINY, **settings)
    assert (module.model.head_dist is not None) == (heads == 2)
    assert module.hparams["design"]["distilled"] == (True if heads == 2 else module.config.design.distilled)
    with refused(f"model.design.distilled {wrong}"):
        DistillationModule(design={**TINY, "distilled": heads == 1}, **settings)


def test_labels_teach_the_first_head_and_the_teacher_the_second(teacher):
    module, _ = student_of(DistillConfig(**teacher[1]))
    batch = batch_of()
    before = gradients(module, batch)
    by_other_labels = gradients(module, batch, (batch["label"] + 1) % 10)
    module.teacher.columns = torch.arange(9, -1, -1)  # it says another class of every image
    by_other_teacher = gradients(module, batch)
    for part in ("weight", "bias"):
        first, second = f"head.l.{part}", f"head_dist.l.{part}"
        assert not torch.equal(by_other_labels[first], before[first])
        assert torch.equal(by_other_labels[second], before[second])
        assert torch.equal(by_other_teacher[first], before[first])
        assert not torch.equal(by_other_teacher[second], before[second])
    backbone = "patch_embed.0.c.weight"
    assert not torch.equal(by_other_labels[backbone], before[backbone])
    assert not torch.equal(by_other_teacher[backbone], before[backbone])


@pytest.mark.parametrize(("alpha", "still", "part"), [(0.0, "head_dist", "task"), (1.0, "head", "distill")])
def test_at_an_end_of_alpha_one_side_alone_teaches(alpha, still, part, teacher):
    module, logged = student_of(DistillConfig(**teacher[1], alpha=alpha))
    found = gradients(module, batch_of())
    assert torch.equal(logged["train/loss"], logged[f"train/loss_{part}"])
    assert {name.split(".")[0] for name, gradient in found.items() if gradient.any()} >= {"head", "head_dist"} - {still}
    assert not any(gradient.any() for name, gradient in found.items() if name.startswith(f"{still}."))


@pytest.mark.parametrize("config", [{}, {"objective": "soft", "heads": "single"}, {"objective": "feature"}], ids=str)
def test_what_is_logged_adds_up(config, teacher):
    module, logged = student_of(DistillConfig(**teacher[1], alpha=0.3, **config))
    batch = batch_of()
    loss = module.training_step({**batch}, 0)
    assert torch.equal(loss, logged["train/loss"])
    torch.testing.assert_close(loss, 0.7 * logged["train/loss_task"] + 0.3 * logged["train/loss_distill"])
    answer = module(batch["image"])
    logits = sum(answer) if isinstance(answer, tuple) else answer
    same = logits.argmax(1) == module.teacher.logits(batch["image"]).argmax(1)
    assert logged["train/agreement"] == same.float().mean()


class Watch(L.Callback):
    """Keeps what the data gave, what the student saw and what the teacher saw, and the student's first weights."""

    def __init__(self):
        self.given, self.targets, self.student, self.teacher, self.weights = [], [], [], [], {}

    def on_train_start(self, trainer, module):
        self.weights = {key: value.clone() for key, value in module.state_dict().items()}
        module.model.register_forward_pre_hook(lambda _, args: self.student.append(args[0].clone()))
        teacher = getattr(module, "teacher", None)
        if teacher is not None:
            own_view = teacher._own_view
            teacher._own_view = lambda images: (self.teacher.append(images.clone()), own_view(images))[1]

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self.given.append(batch["image"].clone())
        self.targets.append(batch.get("target"))


@pytest.mark.parametrize("mode", ["batch", "elem"])
def test_the_teacher_sees_the_mixed_and_erased_pixels_that_the_student_sees(mode, teacher):
    watch = Watch()
    mix = MixConfig(mixup=0.8, cutmix=1.0, mode=mode)
    module = DistillationModule(distill=DistillConfig(**teacher[1]), design=TINY, mix=mix)
    train(module, 4, digits(erasing=1.0), callbacks=[watch])
    assert len(watch.given) == len(watch.student) == len(watch.teacher) == 4
    for given, student, seen in zip(watch.given, watch.student, watch.teacher, strict=True):
        assert torch.equal(student, seen)
        assert torch.equal(student, given)
        assert given.min() < -2.7  # noise of erased rectangles goes below black
    assert max((targets > 0.02).sum(1).max() for targets in watch.targets) == 2  # mixed


def test_first_weights_and_batches_are_the_same_without_a_teacher_with_any_and_with_a_projection(teacher, tmp_path):
    other = stored(shaken("test_vit"), tmp_path / "vit.safetensors")
    dual = [DistillConfig(**teacher[1]), DistillConfig("test_vit", weights=other, check=False)]
    dual.append(DistillConfig(**teacher[1], objective="soft"))
    for design, configs in ((DUAL, dual), (TINY, [DistillConfig(**teacher[1], objective="feature")])):
        watches = []
        for config in [None, *configs]:
            L.seed_everything(5, verbose=False)
            distilled = config and DistillationModule(distill=config, design=design)
            watches.append(Watch())
            train(distilled or ClassificationModule(design=design), callbacks=[watches[-1]])
        plain, *others = watches
        for watch in others:
            assert all(torch.equal(tensor, watch.weights[key]) for key, tensor in plain.weights.items())
            assert all(torch.equal(*both) for both in zip(plain.given, watch.given, strict=True))


@pytest.mark.parametrize(("objective", "design", "names"), [("hard", DUAL, None), ("feature", TINY, CLASSES)])
def test_the_teacher_leaves_no_trace_is_left_alone_and_the_student_comes_back(
    objective, design, names, teacher, tmp_path
):
    config = DistillConfig(**teacher[1], objective=objective)
    settings = {"ema": EMA, "channels_last": False}  # auto asks the trainer
    plain = train(ClassificationModule(design=design, **settings))
    module = train(DistillationModule(distill=config, design=TINY, class_names=names, **settings))
    assert module.class_names == CLASSES  # of the data, if not given
    network = module.train().teacher._network
    ours = [*module.parameters(), *module.buffers(), *module.ema.parameters()]
    ours += [tensor for group in module.trainer.optimizers[0].param_groups for tensor in group["params"]]
    assert not {id(tensor) for tensor in network.state_dict(keep_vars=True).values()} & set(map(id, ours))
    assert all(parameter.grad is None for parameter in network.parameters())
    for key, tensor in teacher[0].state_dict().items():  # statistics of BatchNorm too
        assert torch.equal(network.state_dict()[key], tensor), key
    path, content = saved(module, tmp_path / "run.ckpt")
    expected = saved(plain, tmp_path / "plain.ckpt")[1]
    assert content["state_dict"].keys() == expected["state_dict"].keys()
    assert content.keys() - expected.keys() == {"feature_projection"}
    further = len(content["feature_projection"])  # weight and bias learn too
    assert len(content["optimizer_states"][0]["state"]) == len(expected["optimizer_states"][0]["state"]) + further
    images = batch_of()["image"]
    for kind in (DistillationModule, ClassificationModule):
        again = kind.load_from_checkpoint(path, map_location="cpu")
        assert getattr(again, "teacher", None) is None
        assert again.config.distill == config
        assert torch.equal(again.eval()(images), module.eval()(images))
    for averaged, network in ((False, module), (True, module.ema.module)):  # into a model of one head
        single = create_model("tiny", num_classes=10)
        report = load_weights(single, path, averaged=averaged)
        assert not report.reinitialized
        assert not {key for key in report.unexpected if not key.startswith("head_dist")}
        torch.testing.assert_close(single.eval()(images), network.eval()(images))


def test_a_projection_learns_with_the_student_and_comes_back_when_a_run_goes_on(teacher, tmp_path):
    config, first, second = DistillConfig(**teacher[1], objective="feature"), Watch(), Watch()
    module = train(DistillationModule(distill=config, design=TINY, ema=EMA), 2, callbacks=[first])
    path, content = saved(module, tmp_path / "half.ckpt")
    assert not any("feature_projection" in key for key in content["state_dict"])
    assert set(content["feature_projection"]) == {"feature_projection.weight", "feature_projection.bias"}
    assert not any(torch.equal(tensor, first.weights[key]) for key, tensor in content["feature_projection"].items())
    module = train(DistillationModule(distill=config, design=TINY, ema=EMA), 3, ckpt_path=path, callbacks=[second])
    assert module.trainer.global_step == 3
    assert all(torch.equal(tensor, second.weights[key]) for key, tensor in content["feature_projection"].items())
