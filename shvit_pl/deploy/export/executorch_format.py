"""ExecuTorch: a `.pte` file for phones and small devices, computed by XNNPACK where that has the operator."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from shvit_pl.deploy.export.torch_export import exported

_METADATA = "metadata"  # a method of the program, as the format has no place for text


def save(model: nn.Module, example: Tensor, path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write a `.pte` file for batches `(B, 3, S, S)` as large as the example; its method returns the metadata."""
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    lowered = to_edge_transform_and_lower(
        exported(model, example, dynamic=False),
        partitioner=[XnnpackPartitioner()],
        constant_methods={_METADATA: json.dumps(dict(metadata or {}))},
    )
    path.write_bytes(lowered.to_executorch().buffer)


class ExecuTorchNetwork(nn.Module):
    """A file as a module, run by the ExecuTorch runtime."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        from executorch.runtime import Runtime

        self.program: Any = Runtime.get().load_program(path)
        self.method: Any = self.program.load_method("forward")

    def forward(self, images: Tensor) -> Tensor:
        """Map images `(B, 3, S, S)` to outputs `(B, classes)`."""
        outputs: Tensor = self.method.execute([images.contiguous()])[0]
        return outputs.clone()  # the program uses its memory again


load = ExecuTorchNetwork  # as all formats name what runs their files


def describe(path: Path) -> list[str]:
    """Return how much of a file XNNPACK computes, and what is left to ExecuTorch's own operators."""
    from executorch.exir._serialize._program import deserialize_pte_binary

    program: Any = deserialize_pte_binary(path.read_bytes()).program
    plan = next(plan for plan in program.execution_plan if plan.name == "forward")
    calls = [instruction.instr_args for instruction in plan.chains[0].instructions]
    outside = Counter(plan.operators[call.op_index].name for call in calls if hasattr(call, "op_index"))
    names = ", ".join(f"{number} {name.removeprefix('aten::')}" for name, number in outside.most_common())
    return [
        f"{len(plan.delegates)} pieces by XNNPACK; outside of them {names or 'nothing'}",
        f"labels in its method {_METADATA}",
    ]
