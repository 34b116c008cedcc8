"""From the CPU to the device without waiting for it."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor


def sent(values: Tensor | NDArray[Any], device: torch.device) -> Tensor:
    """Values on the CPU, on the device; to a GPU from pinned memory, as from ordinary memory the program would wait."""
    tensor = torch.as_tensor(values)
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
