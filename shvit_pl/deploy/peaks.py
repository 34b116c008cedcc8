"""What a device can do at most."""

from __future__ import annotations

import torch

from shvit_pl.deploy.timing import Work, side_by_side

_SIDE = {"cuda": 8192}  # of the matrices
_SMALLER = 2048
_NUMBERS = 2**26  # of the copy: far more than any cache holds


def peaks(device: torch.device, dtype: torch.dtype) -> tuple[float, float]:
    """FLOP/s of a large matrix product, and bytes/s (read and written) of a large copy."""
    side = _SIDE.get(device.type, _SMALLER)
    matrix = torch.randn(side, side, device=device).to(dtype)
    source, target = (torch.zeros(_NUMBERS, device=device) for _ in range(2))
    work = {
        "product": Work(lambda: matrix @ matrix, 1, device),
        "copy": Work(lambda: target.copy_(source), 1, device),
    }
    rates = side_by_side(work, rounds=5, seconds=0.3)
    return 2 * side**3 * rates["product"].median, 2 * source.nbytes * rates["copy"].median
