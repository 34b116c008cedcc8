"""Other libraries still have the private API that is used here; a failure names the version that broke it."""

import ast
import platform
from argparse import ArgumentParser
from functools import wraps
from importlib import import_module
from importlib.metadata import version
from inspect import Parameter, signature

import jsonargparse
import numpy as np
import pytest
import timm
import torch
from datasets import ClassLabel, Dataset, Features, Value
from lightning.pytorch import Trainer
from lightning.pytorch.plugins.environments import SLURMEnvironment
from timm.models import save_for_hf
from torch.profiler import ProfilerActivity, profile

from shvit_pl import compat
from shvit_pl.deploy.formats import save_executorch

LAST_SEEN_TO_WORK = {
    "datasets": "5.2.0", "executorch": "1.5.1", "huggingface_hub": "2.4.0", "lightning": "2.6.6", "python": "3.11.7",
    "timm": "1.0.31", "torch": "2.14.1",
}  # fmt: skip


def private_api_of(library):
    """A test that fails with the installed version of a library, and with the last one that worked."""

    def decorate(test):
        @wraps(test)
        def run(*args, **kwargs):
            try:
                test(*args, **kwargs)
            except Exception as error:
                installed = platform.python_version() if library == "python" else version(library)
                raise AssertionError(
                    f"{library} {installed} broke this; {LAST_SEEN_TO_WORK[library]} worked"
                ) from error

        return run

    return decorate


@private_api_of("python")
def test_parser_actions_are_its_options():
    parser = ArgumentParser()
    parser.add_argument("--name")
    assert [action.dest for action in compat.parser_actions(parser)] == ["help", "name"]


@private_api_of("jsonargparse")
def test_the_type_of_a_flag():
    parser = jsonargparse.ArgumentParser()
    parser.add_argument("--name", type=int | None)
    assert [compat.type_of_flag(action) for action in compat.parser_actions(parser)] == [None, int | None]


@private_api_of("huggingface_hub")
def test_the_hubs_client_logs_its_retries_there():
    assert import_module(compat.RETRIES_LOGGER).logger.name == compat.RETRIES_LOGGER


@pytest.mark.parametrize("method", ["__init__", "fit", "validate", "test", "predict"])
@private_api_of("lightning")
def test_trainer_parameters_are_those_of_lightnings_trainer(method):
    found = compat.trainer_parameters(method)
    expected = {name: each for name, each in signature(getattr(Trainer, method)).parameters.items() if name != "self"}
    assert found.keys() == expected.keys()
    for name, parameter in expected.items():
        default = found[name][0]
        assert (ast.literal_eval(default) if default else Parameter.empty) == parameter.default
    assert all(text for _, text in found.values())


@private_api_of("timm")
def test_a_folders_config_is_the_saved_networks_with_its_recorded_arguments(tmp_path):
    model = timm.create_model("test_resnet", num_classes=3)
    compat.record_model_args(model, {"a": 1})
    save_for_hf(model, tmp_path, safe_serialization=True, model_config={"label_names": ["a", "b", "c"]})
    cfg, architecture, arguments = compat.load_timm_config(tmp_path)
    assert arguments["a"] == 1
    assert (architecture, cfg["num_classes"], cfg["label_names"]) == ("test_resnet", 3, ["a", "b", "c"])


@pytest.mark.parametrize("seed", [0, 7])
@private_api_of("datasets")
def test_stratified_indices_are_those_of_datasets_public_split(seed):
    labels = np.array([0] * 31 + [1] * 17 + [2] * 9)
    features = Features({"label": ClassLabel(num_classes=3), "index": Value("int64")})
    rows = Dataset.from_dict({"label": labels, "index": np.arange(len(labels))}, features=features)
    parts = rows.train_test_split(test_size=18, seed=seed, stratify_by_column="label")
    found = compat.stratified_indices(labels, (len(labels) - 18, 18), np.random.default_rng(seed))
    for part, indices in zip(("train", "test"), found, strict=True):
        assert parts[part]["index"][:] == indices.tolist()


@private_api_of("datasets")
def test_a_builder_that_is_not_of_the_cache_stays_as_it_is():
    """Of the cache: tests/data/test_opening.py, where the version that was asked for comes from it."""
    builder = object()
    assert compat.at_cached_commit(builder, "user/name", "0123") is builder


@pytest.mark.slow
@private_api_of("torch")
def test_inductor_compiles_a_graph_for_one_shape():
    images = torch.randn(2, 3)
    model = torch.nn.Linear(3, 2).eval()
    with torch.no_grad():
        graph = torch.export.export(model, (images,)).module()
        network = compat.inductor_compile(graph, images, {"freezing": True})
        torch.testing.assert_close(network(images), model(images))


@private_api_of("torch")
def test_recompiles_beyond_the_limit_raise():
    function = torch.compile(lambda values: values + 1, backend="eager", dynamic=False)
    with compat.limited_recompiles(1):
        function(torch.zeros(2))
        with pytest.raises(torch._dynamo.exc.FailOnRecompileLimitHit):
            function(torch.zeros(3))
    torch.compiler.reset()


@private_api_of("torch")
def test_allocations_are_in_order():
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        values = torch.empty(1000, dtype=torch.uint8)
        del values
    assert compat.allocations(profiler) == [1000, -1000]


@private_api_of("torch")
def test_operators_are_observed_with_their_tensors_and_views_are_told_from_what_writes():
    seen = []
    x, y = torch.zeros(2, 3), torch.zeros(0, 3)
    with compat.observed_operators(lambda read, given, is_view: seen.append((len(read), len(given), is_view))):
        (x.t(), x.split(1), x.add_(1), torch.cat([x, y]), y.clone())
    assert seen == [(1, 1, True), (1, 2, True), (1, 1, False), (2, 1, False), (1, 1, False)]


@pytest.mark.slow
@private_api_of("executorch")
def test_the_plan_of_an_executorch_program(tmp_path):
    save_executorch(torch.nn.Flatten(), torch.zeros(1, 3, 4, 4), tmp_path / "a.pte")
    plan = compat.executorch_plan((tmp_path / "a.pte").read_bytes())
    assert (plan.name, len(plan.inputs), len(plan.outputs)) == ("forward", 1, 1)


@private_api_of("timm")
def test_lambdas_are_drawn_for_a_batch_or_for_each_image():
    settings = {"mixup_alpha": 0.8, "cutmix_alpha": 1.0, "switch_prob": 1.0}
    lam, by_cutmix = compat.draw_lambdas(timm.data.Mixup(**settings), 5)
    assert lam < 1
    assert by_cutmix
    lam, by_cutmix = compat.draw_lambdas(timm.data.Mixup(**settings, mode="elem"), 5)
    assert (lam < 1).tolist() == by_cutmix.tolist() == [True] * 5


@private_api_of("torch")
def test_only_a_fused_optimizer_unscales_in_its_step():
    weights = [torch.zeros(2, requires_grad=True)]
    for fused in (True, False):
        assert compat.unscales_in_step(torch.optim.AdamW(weights, fused=fused)) == fused


@private_api_of("torch")
def test_many_tensors_are_clipped_and_copied_at_once():
    gradients, weights = [torch.tensor([3.0, 4.0]), torch.tensor([0.3, 0.4])], [torch.ones(2), torch.ones(2)]
    norms = compat.vector_norms(gradients)
    assert torch.stack(norms).tolist() == pytest.approx([5.0, 0.5])
    compat.clip_to_norms(gradients, norms, compat.vector_norms(weights), 1.0, 1e-3)
    assert torch.stack(compat.vector_norms(gradients)).tolist() == pytest.approx([2**0.5, 0.5])
    compat.copy_tensors(gradients, weights)
    assert torch.equal(torch.stack(gradients), torch.ones(2, 2))
    assert compat.vector_norms([]) == []


@private_api_of("lightning")
def test_the_trainer_has_a_root_folder_and_no_cluster(tmp_path):
    trainer = Trainer(accelerator="cpu", logger=False, default_root_dir=str(tmp_path))
    with compat.root_folder(trainer, str(tmp_path / "run")):
        assert trainer.default_root_dir == str(tmp_path / "run")
    assert trainer.default_root_dir == str(tmp_path)
    assert not isinstance(compat.cluster_environment(trainer), SLURMEnvironment)
