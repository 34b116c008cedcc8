"""What an exported file says of itself."""

from __future__ import annotations

import json
from typing import Any

from shvit_pl import __version__
from shvit_pl.models.open_network import OpenedNetwork


def metadata(opened: OpenedNetwork, image_size: int, normalise: bool, softmax: bool) -> dict[str, str]:
    """Labels and what a program has to know to prepare images, as text; lists are JSON.

    Args:
        opened: The network.
        image_size: Side of the square input in pixels.
        normalise: Whether the graph normalises pixels from 0 to 1 itself.
        softmax: Whether it gives probabilities.
    """
    said: dict[str, Any] = {
        "made_by": f"shvit-pl {__version__}",
        "weights": "averaged" if opened.averaged else "raw",
        "input": "RGB pixels from 0 to 1" if normalise else "RGB pixels from 0 to 1, then (pixels - mean) / std",
        "output": "probabilities" if softmax else "logits",
        "image_size": str(image_size),
        "resize": opened.resize,
        "crop_pct": str(opened.crop_pct),
        "mean": json.dumps(list(opened.mean)),
        "std": json.dumps(list(opened.std)),
    }
    names = {} if opened.class_names is None else {"labels": json.dumps(opened.class_names)}
    return {**said, **names}
