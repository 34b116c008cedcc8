"""Private API of other libraries, in one place for one test to find what an upgrade breaks; and what Python lacks."""

from __future__ import annotations

import ast
import ctypes
import os
import signal
import sys
from argparse import Action, ArgumentParser
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import docstring_parser

if TYPE_CHECKING:
    import numpy as np
    from lightning.pytorch import Trainer
    from lightning.pytorch.plugins.environments import ClusterEnvironment
    from numpy.typing import ArrayLike, NDArray
    from timm.data import Mixup
    from torch import Tensor, fx, nn
    from torch.optim import Optimizer
    from torch.profiler import profile


RETRIES_LOGGER = "huggingface_hub.utils._http"  # the Hub client logs retries there; it has no public name


_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def die_with_parent() -> None:
    """Have the system kill this process when the one that started it dies (Linux)."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def cores_of_process() -> int:
    """Return the number of cores that this process may use; Python 3.13 has `os.process_cpu_count`."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def keep_ray_on_loopback() -> None:
    """Have Ray, where it is started here, bind all ports to 127.0.0.1, as it does on macOS and Windows."""
    from ray._private import ray_constants

    os.environ[ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR] = "0"  # for the processes that it starts
    ray_constants.ENABLE_RAY_CLUSTER = False


def parser_actions(parser: ArgumentParser) -> list[Action]:
    """Return the options of a parser; argparse has no public list of them."""
    return parser._actions


def type_of_flag(action: Action) -> Any:
    """Return the type of a dataclass's flag, None for other flags; jsonargparse has no public name for it."""
    return getattr(action, "_typehint", None)


def trainer_parameters(method: str) -> dict[str, tuple[str, str]]:
    """Return default ('' for none) and help of a Trainer method's parameters; importing it would take four seconds."""
    spec = find_spec("lightning")  # imports nothing
    folder = Path(((spec and spec.submodule_search_locations) or [""])[0])
    file = folder / "pytorch" / "trainer" / "trainer.py"
    trainer = next(node for node in ast.parse(file.read_text()).body if getattr(node, "name", "") == "Trainer")
    function: Any = next(node for node in ast.iter_child_nodes(trainer) if getattr(node, "name", "") == method)
    names = [*function.args.args, *function.args.kwonlyargs]
    values = [*function.args.defaults, *function.args.kw_defaults]
    defaults = [None] * (len(names) - len(values)) + values
    docs = docstring_parser.parse(ast.get_docstring(function) or "").params
    helps = {param.arg_name: " ".join((param.description or "").split()) for param in docs}
    return {
        name.arg: ("" if default is None else ast.unparse(default), helps.get(name.arg, ""))
        for name, default in zip(names, defaults, strict=True)
        if name.arg != "self"
    }


def load_timm_config(folder: Path) -> tuple[dict[str, Any], str, dict[str, Any]]:
    """Read settings, architecture and arguments from a folder's config.json; timm makes that public for repos alone."""
    from timm.models._hub import load_model_config_from_path

    return load_model_config_from_path(folder)


def record_model_args(model: nn.Module, arguments: dict[str, Any]) -> None:
    """Let timm save a network with these arguments; its public `model_args` is only for who calls the saving."""
    model._model_args = arguments  # type: ignore[assignment]


def draw_lambdas(mixup: Mixup, images: int) -> tuple[ArrayLike, ArrayLike]:
    """Draw lambda, and whether by CutMix: each one value in mode batch, else `(images,)`; timm's public call mixes."""
    return mixup._params_per_batch() if mixup.mode == "batch" else mixup._params_per_elem(images)


def at_cached_commit(builder: Any, repo: str, commit: str | None) -> Any:
    """Return a builder of the local cache for the dataset at another commit (None: any); None if the cache lacks that.

    Offline, `datasets` takes the newest version in its cache, and has no public way to choose. A builder that is not of
    the cache is returned as it is.
    """
    from datasets.packaged_modules.cache.cache import Cache

    if not isinstance(builder, Cache) or commit in (None, builder.hash):
        return builder
    names = {"dataset_name": builder.dataset_name, "config_name": builder.config.name, "repo_id": repo}
    other = Cache(**names, version=str(builder.config.version), hash=commit)
    return other if Path(other.cache_dir).is_dir() else None


def stratified_indices(
    labels: NDArray[np.int64], sizes: tuple[int, int], generator: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the indices of `Dataset.train_test_split(stratify_by_column=...)`, which takes 40 s for a million rows."""
    from datasets.utils.stratify import stratified_shuffle_split_generate_indices

    return next(stratified_shuffle_split_generate_indices(labels, *sizes, rng=generator))


def inductor_compile(graph: fx.GraphModule, images: Tensor, options: Mapping[str, Any]) -> Callable[[Tensor], Tensor]:
    """Compile for one shape without the checks of each call, which `torch.compile` always makes."""
    import torch

    return torch._inductor.compile(graph, [images], options=dict(options))


def limited_recompiles(limit: int) -> AbstractContextManager[None]:
    """Raise beyond `limit` compilations of one function, for a while; torch would run it uncompiled, with a warning."""
    from torch._dynamo import config

    return config.patch(recompile_limit=limit, fail_on_recompile_limit_hit=True)


def allocations(profiler: profile) -> list[int]:
    """Return the bytes that torch's allocator gave (or took back, negative), in order; public results are only sums."""
    results: Any = profiler.profiler
    events = [event for event in results.kineto_results.events() if event.name() == "[memory]"]
    return [event.nbytes() for event in sorted(events, key=lambda event: (event.start_ns(), event.nbytes()))]


@contextmanager
def observed_operators(observe: Callable[[list[Tensor], list[Tensor], bool], None]) -> Iterator[None]:
    """Call `observe` after each of ATen's operators, with the tensors that it read and gave, and whether it is a view.

    Dispatch modes, the search for tensors, operators' schemas and what identifies a storage have no public names.
    """
    from torch import Tensor
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    def tensors(values: Any) -> list[Tensor]:
        return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]

    def storages(values: list[Tensor]) -> set[int]:
        return {tensor.untyped_storage()._cdata for tensor in values}

    class Observer(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = func(*args, **(kwargs or {}))
            read, given = tensors((args, kwargs)), tensors(result)
            observe(read, given, not func._schema.is_mutable and storages(given) <= storages(read))
            return result

    with Observer():  # type: ignore[no-untyped-call]
        yield


def executorch_plan(content: bytes) -> Any:
    """Return the execution plan of the method `forward` in a `.pte` file; ExecuTorch's own reader is not public."""
    from executorch.exir._serialize._program import deserialize_pte_binary

    plans = deserialize_pte_binary(content).program.execution_plan
    return next(plan for plan in plans if plan.name == "forward")


def vector_norms(vectors: list[Tensor]) -> list[Tensor]:
    """Return the norm of each vector, in one operation for all; torch has none that is public."""
    import torch

    return list(torch._foreach_norm(vectors)) if vectors else []


def copy_tensors(targets: list[Tensor], sources: list[Tensor]) -> None:
    """Copy tensors in one operation for all; torch has none that is public."""
    import torch

    torch._foreach_copy_(targets, sources)


def clip_to_norms(
    gradients: list[Tensor], norms: list[Tensor], weight_norms: list[Tensor], clip_factor: float, eps: float
) -> None:
    """Scale gradients down, in place, to `clip_factor` times the norms of their weights; both lists of norms change."""
    import torch

    torch._foreach_clamp_min_(weight_norms, eps)
    torch._foreach_mul_(weight_norms, clip_factor)
    torch._foreach_clamp_min_(norms, 1e-6)
    torch._foreach_div_(weight_norms, norms)
    torch._foreach_clamp_max_(weight_norms, 1.0)
    torch._foreach_mul_(gradients, weight_norms)


def unscales_in_step(optimizer: Optimizer) -> bool:
    """Return whether a step unscales 16-bit gradients itself, as fused ones do; Lightning reads the same attribute."""
    return getattr(optimizer, "_step_supports_amp_scaling", False)


def cluster_environment(trainer: Trainer) -> ClusterEnvironment | None:
    """Return the cluster that Lightning has found; the strategy of a single device has no public name for it."""
    return trainer._accelerator_connector.cluster_environment


@contextmanager
def root_folder(trainer: Trainer, folder: str) -> Iterator[None]:
    """Give the trainer another root folder for a while; it is public to read, but not to set."""
    private: Any = trainer
    root, private._default_root_dir = private._default_root_dir, folder
    try:
        yield
    finally:
        private._default_root_dir = root
