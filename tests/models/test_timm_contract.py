"""What timm asks of its models, its own SHViT among them, holds for every kind of design of ours."""

import pytest
import timm
import torch
from timm.models import FeatureInfo, get_notrace_functions, get_notrace_modules
from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

from shvit_pl.models import create_model
from tests.conftest import perturb_

SMALL = {"name": "tiny", "depth": (1, 1, 1)}
DESIGNS = {
    "plain": SMALL,
    "attention in stage 1": {**SMALL, "stage1": "attention"},
    "four stages": {"name": "tiny", "patch_size": 4, "stages": 4, "depth": (1, 1, 1, 1)},
    "heads, no convolution": {**SMALL, "mixers": ("conv", "multi_head", "single_head"), "local_conv": False},
    "bottleneck": {**SMALL, "single_head": "bottleneck"},
    "two classifiers": {**SMALL, "distilled": True},
    "stochastic depth": {**SMALL, "drop_path": 0.1},
}
IMAGES = torch.randn(2, 3, 128, 128, generator=torch.Generator().manual_seed(0))

QUICK = ("plain", "two classifiers", "stochastic depth")

every_design = pytest.mark.parametrize("changes", DESIGNS.values(), ids=DESIGNS)
every_design_slowly = pytest.mark.parametrize(
    "changes",
    [
        pytest.param(changes, id=name, marks=[] if name in QUICK else pytest.mark.slow)
        for name, changes in DESIGNS.items()
    ],
)


def build(changes, **options):
    return perturb_(timm.create_model("shvit_pl", num_classes=7, **changes, **options)).eval()


def gradients(model):
    """The gradients of all weights of a network that trains."""
    outputs = model(IMAGES)
    torch.cat(outputs if isinstance(outputs, tuple) else (outputs,)).square().sum().backward()
    return [weight.grad for weight in model.parameters()]


@every_design_slowly
def test_symbolic_tracing_and_scripting_keep_the_outputs_and_every_weight_learns(changes):
    model = build(changes)
    with torch.no_grad():
        expected, traced, scripted = model(IMAGES), torch.fx.symbolic_trace(model), torch.jit.script(model)
        assert expected.std() > 0.1
        for other in (traced, scripted, torch.jit.script(traced)):
            torch.testing.assert_close(other(IMAGES), expected, rtol=1e-5, atol=1e-6)
        assert isinstance(scripted.train()(IMAGES), torch.Tensor)  # of two classifiers always the mean
    assert all(gradient is not None for gradient in gradients(torch.fx.symbolic_trace(model.train())))


@every_design
@pytest.mark.parametrize("kind", ["list", "hook", "fx", "getter"])
@torch.no_grad()
def test_each_of_timms_extractors_gives_every_stage(changes, kind):
    model = build(changes, features_only=True, feature_cls=kind)
    design = create_model(**changes).design
    features = model(IMAGES)
    assert [f.shape[1:] for f in features] == [
        (dim, side, side) for dim, side in zip(design.embed_dim, design.grids(128), strict=True)
    ]
    assert model.feature_info.channels() == list(design.embed_dim)
    assert model.feature_info.reduction() == list(design.strides)


@every_design
def test_features_taken_by_timms_rules_of_tracing_are_the_networks_train_it_and_are_scripted(changes):
    model = build(changes)
    rules = {"leaf_modules": get_notrace_modules(), "autowrap_functions": get_notrace_functions()}
    rules["param_shapes_constant"] = True
    train_nodes, nodes = get_graph_node_names(model, tracer_kwargs=rules)
    heads = [name for name in train_nodes if name in ("head.l", "head_dist.l")]
    taken = {"eval_return_nodes": ["stages.1", nodes[-1]], "train_return_nodes": heads}
    extractor = create_feature_extractor(model, **taken, tracer_kwargs=rules)
    with torch.no_grad():
        features = extractor(IMAGES)
        torch.testing.assert_close(features[nodes[-1]], model(IMAGES))
        stage = model.forward_intermediates(IMAGES, intermediates_only=True)[1]
        torch.testing.assert_close(features["stages.1"], stage)
        torch.testing.assert_close(torch.jit.script(extractor)(IMAGES), features)
    sum(logits.square().sum() for logits in extractor.train()(IMAGES).values()).backward()
    assert all(weight.grad is not None for weight in model.parameters())


@every_design
@torch.no_grad()
def test_intermediates_end_in_the_features_also_with_checkpointing(changes):
    model = build(changes)
    expected = model.forward_features(IMAGES)
    for _ in range(2):
        last, features = model.forward_intermediates(IMAGES)
        torch.testing.assert_close(last, expected)
        assert [f.shape[1] for f in features] == FeatureInfo(model.feature_info, range(model.design.stages)).channels()
        model.set_grad_checkpointing()
    assert len(model.forward_intermediates(IMAGES, indices=[0], stop_early=True)[1]) == 1


@every_design
def test_checkpointing_keeps_gradients_and_statistics(changes):
    found = []
    for checkpointing in (False, True):
        model = build({**changes, "drop_path": 0.0}).train()
        model.set_grad_checkpointing(checkpointing)
        found.append([*gradients(model), *model.buffers()])
    torch.testing.assert_close(*found)


@every_design
@torch.no_grad()
def test_what_timm_records_of_a_network_is_true(changes):
    model = build(changes)
    cfg, keys = model.default_cfg, model.state_dict().keys()
    assert {f"{cfg['classifier']}.weight", f"{cfg['first_conv']}.weight"} <= keys
    features = model.forward_features(torch.randn(1, *cfg["input_size"]))
    assert features.shape[1:] == (model.num_features, *cfg["pool_size"])
    assert model.forward_head(features, pre_logits=True).shape == (1, model.head_hidden_size)
    assert model.group_matcher()["blocks"]


@every_design
@torch.no_grad()
def test_pooling_and_classifier_can_be_taken_off_or_left_out(changes):
    model, design = build(changes), create_model(**changes).design
    whole = (2, design.embed_dim[-1], design.grids(128)[-1], design.grids(128)[-1])
    model.reset_classifier(5)
    assert (model.num_classes, model(IMAGES).shape) == (5, (2, 5))
    model.reset_classifier(0)
    assert (model.num_classes, model(IMAGES).shape) == (0, whole[:2])
    model.reset_classifier(0, "")
    assert model(IMAGES).shape == whole
    bare = timm.create_model("shvit_pl", **changes, num_classes=0, global_pool="").eval()
    assert bare(IMAGES).shape == whole
    assert model.prune_intermediate_layers([0]) == [0]
    assert model(IMAGES).shape[1] == design.embed_dim[0]
